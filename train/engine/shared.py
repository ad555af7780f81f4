"""What the runs of one process have in common."""

import jax
from jaxtyping import DTypeLike

from adakron_jax import runtime
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.params import Tree
from adakron_jax.precision import of_matmuls
from train.engine import optim
from train.engine.load import Loader
from train.engine.sharding import Shardings
from train.engine.step import Losses, Steps, TrainState, compile_steps
from train.options.config import RunConfig
from train.options.model import Pretrained


class Shared:
    """What is read or compiled once: the model, the data, steps."""

    def __init__(self, model: Pretrained):
        self.model = model
        self.loader = Loader(model)
        self._steps: dict[tuple, Steps] = {}

    def steps(
        self,
        config: RunConfig,
        model: SequenceClassifier,
        losses_of: Losses,
        shardings: Shardings,
        state: TrainState,
        frozen: Tree,
    ) -> Steps:
        """The steps of a model, with what an earlier run of it has compiled."""
        key = (model, losses_of, config.weight_decay, config.mesh)
        if key not in self._steps:
            optimizer = optim.adamw(config.weight_decay)
            self._steps[key] = compile_steps(model, losses_of, optimizer, shardings, state, frozen)
        return self._steps[key].anew()


def configure_jax(dtype: DTypeLike | None) -> None:
    """Sets what holds for the whole process: the precision of matmuls, and what every program of ours sets."""
    jax.config.update("jax_default_matmul_precision", of_matmuls(dtype))
    runtime.set_up()
