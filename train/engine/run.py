"""A run in progress, and a group of runs that are trained together, step by step."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from adakron_jax.data.packing import Batch, side_by_side
from adakron_jax.data.plan import Plan
from adakron_jax.params import Tree, budget, merge_params, split_params
from adakron_jax.splice import is_added, is_trainable
from train.engine import hosts
from train.engine.cache import Cache
from train.engine.checkpoint import Checkpoints
from train.engine.dataset import Dataset, make_plan
from train.engine.folder import common_step, open_folder
from train.engine.initial import check_compatible, initial_params, initial_state, make_model, place_frozen, show_pooling
from train.engine.steps.sharding import Shardings, make_shardings
from train.engine.steps.step import Steps, TrainState, configure_jax
from train.options.config import RunConfig
from train.output.journal import Journal
from train.output.result import Parameters, Seconds


@dataclasses.dataclass(frozen=True)
class Run:
    """A run in progress, without its state. `start` is the step that it continues from, or 0."""

    config: RunConfig
    plan: Plan
    frozen: Tree
    params: Parameters
    start: int
    checkpoints: Checkpoints
    journal: Journal

    def save(self, state: TrainState) -> None:
        """Saves the run's state, with the digest of the journal that belongs to it."""
        self.checkpoints.save(state, self.journal.digest)


@dataclasses.dataclass(frozen=True)
class RunGroup:
    """One run, or several at the same step that differ only in seed and learning rate.

    Several share each step: their states, batches and the leaves that a method added are stacked along a first axis,
    and they have the pretrained weights in common, whose matmuls then serve all of them.
    """

    runs: Sequence[Run]
    data: Dataset
    shardings: Shardings
    steps: Steps
    frozen: Tree

    @property
    def several(self) -> bool:
        return len(self.runs) > 1

    def step(self, state: TrainState, batches: Sequence[Batch]) -> tuple[TrainState, Any]:
        """Takes a step of every run on its own batch; returns the next state, and metrics for `metrics_by_run`."""
        if self.several:
            batch = jax.device_put(side_by_side(batches), self.shardings.stacked(self.shardings.batch))
        else:
            batch = hosts.put_rows(batches[0], self.shardings.batch)
        return self.steps.train(state, self.frozen, batch)

    def metrics_by_run(self, metrics: Any) -> list[dict[str, float]]:
        """Returns the metrics of every run as numbers."""
        values = {name: np.ravel(value) for name, value in jax.device_get(metrics).items()}
        return [{name: float(value[i]) for name, value in values.items()} for i in range(len(self.runs))]

    def states(self, state: TrainState) -> Iterator[tuple[Run, TrainState]]:
        """Yields every run with its own state."""
        return zip(self.runs, unstack(state, len(self.runs)), strict=True)

    def save(self, state: TrainState) -> None:
        for run, run_state in self.states(state):
            run.save(run_state)


@contextlib.contextmanager
def open_group(configs: Sequence[RunConfig], cache: Cache) -> Iterator[tuple[RunGroup, TrainState]]:
    """Opens the folders of runs, yields their group and the state to start or continue from, and closes the folders.

    Raises:
      ValueError: the data, encoder, method or devices are missing or incompatible; a folder is in use or full, or its
        journal or all its checkpoints are damaged; or several runs have no common step to continue from.
    """
    lead, encoder = configs[0], cache.model.encoder
    configure_jax(lead.dtype)
    check_compatible(lead, encoder)
    shardings = make_shardings(lead.mesh_shape, encoder)
    data = cache.loader.dataset(lead)
    hosts.check_same("the data", lambda: data.digest)
    hosts.check_same("the encoder", lambda: cache.model.fingerprint)
    problem = data.task.problem
    show_pooling(lead, problem, cache.model)
    model = make_model(lead, problem, cache.model)
    params = [initial_params(config, model, problem, cache.model, data.train.labels) for config in configs]
    frozen = place_frozen(params, model, shardings)
    upto = common_step(configs) if len(configs) > 1 else None
    with contextlib.ExitStack() as opened:
        runs, states = [], []
        for config, run_params, run_frozen in zip(configs, params, frozen, strict=True):
            state = initial_state(config, run_params, data, shardings)
            checkpoints, state = open_folder(config, state, data.record, upto)
            opened.enter_context(contextlib.closing(checkpoints))
            start, plan = int(state.step), make_plan(config, data)
            journal = Journal(config.folder, start, checkpoints.journal, writes=hosts.is_writer())
            opened.enter_context(contextlib.closing(journal))
            counts = Parameters(**budget(run_params, is_trainable(config.method)))
            runs.append(Run(config, plan, run_frozen, counts, start, checkpoints, journal))
            states.append(state)
        if len(starts := {run.start for run in runs}) > 1:
            raise ValueError(f"runs that are to continue together are at steps {sorted(starts)}; run the same again")
        steps = cache.steps(lead, model, problem.losses, shardings, states[0], frozen[0], several=len(runs) > 1)
        added, base = zip(*(split_params(tree, is_added) for tree in frozen), strict=True)
        state = stack(states)
        del params, frozen, states  # copies, if there are several runs
        yield RunGroup(runs, data, shardings, steps, merge_params(stack(added), base[0])), state


def stack(trees: Sequence[Any]) -> Any:
    """Stacks the trees of several runs along a new first axis; returns a single one as it is."""
    return trees[0] if len(trees) == 1 else jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def unstack(tree: Any, runs: int) -> list[Any]:
    """Inverts `stack`."""
    return [tree] if runs == 1 else [jax.tree.map(lambda x, i=i: x[i], tree) for i in range(runs)]


class Clock:
    """Measures the seconds spent on training and on evaluation; compilation counts as neither."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self.spent = {"train": 0.0, "eval": 0.0}

    @contextlib.contextmanager
    def on(self, work: Literal["train", "eval"], steps: Steps) -> Iterator[None]:
        begun, compiling = time.monotonic(), steps.seconds
        yield
        self.spent[work] += time.monotonic() - begun - (steps.seconds - compiling)

    def seconds(self, steps: Steps) -> Seconds:
        return Seconds(**self.spent, compile=steps.seconds, total=time.monotonic() - self._begun)
