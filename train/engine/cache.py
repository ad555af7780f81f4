"""What the runs of one process share, so that each part is read and compiled once."""

from collections.abc import Mapping

from adakron_jax.data.table import Table
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.params import Tree
from train.engine.dataset import Loader
from train.engine.steps import optim
from train.engine.steps.sharding import Shardings
from train.engine.steps.step import Losses, Steps, TrainState, compile_steps
from train.options.config import RunConfig
from train.options.model import Pretrained


class Cache:
    """The pretrained model, the data and the compiled steps; `rows` as for `Loader`."""

    def __init__(self, model: Pretrained, rows: Mapping[str, Table] = {}):
        self.model = model
        self.loader = Loader(model, rows)
        self._steps: dict[tuple, Steps] = {}

    def steps(
        self,
        config: RunConfig,
        model: SequenceClassifier,
        losses_of: Losses,
        shardings: Shardings,
        state: TrainState,
        frozen: Tree,
        several: bool = False,
    ) -> Steps:
        """Returns the steps of a model, with what an earlier run has compiled; arguments as for `compile_steps`."""
        key = (model, losses_of, config.weight_decay, config.mesh, several)
        if key not in self._steps:
            optimizer = optim.adamw(config.weight_decay)
            self._steps[key] = compile_steps(model, losses_of, optimizer, shardings, state, frozen, several)
        return self._steps[key].anew()
