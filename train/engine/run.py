"""A run at work, and runs that take their steps as one."""

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
from adakron_jax.params import Tree, merge_params, split_params
from adakron_jax.splice import is_own
from train.engine import hosts
from train.engine.checkpoint import Checkpoints
from train.engine.data import Data, make_plan
from train.engine.folder import common_step, open_folder
from train.engine.sharding import Shardings
from train.engine.start import initial_state
from train.engine.step import Steps, TrainState
from train.options.config import RunConfig
from train.output.journal import Journal
from train.output.result import Seconds


@dataclasses.dataclass(frozen=True)
class Run:
    """One run at work: all that is its own but its state. `start` is the step that it goes on from, or 0."""

    config: RunConfig
    plan: Plan
    frozen: Tree
    start: int
    checkpoints: Checkpoints
    journal: Journal

    def save(self, state: TrainState) -> None:
        """Saves the run's state, and with it which journal belongs to it."""
        self.checkpoints.save(state, self.journal.digest)


@contextlib.contextmanager
def open_runs(
    configs: Sequence[RunConfig], params: Sequence[Tree], frozen: Sequence[Tree], data: Data, shardings: Shardings
) -> Iterator[tuple[list[Run], TrainState]]:
    """Opens the folders of runs, with the state that they begin with or go on from, and closes them again.

    Args:
      params, frozen: of each run all that it begins with, and its frozen leaves on the devices.

    Raises:
      ValueError: a folder is in use, has no room, its journal or all its checkpoints are damaged, or of several runs
        there is no step that all can go on from.
    """
    with contextlib.ExitStack() as opened:
        runs, states = [], []
        upto = common_step(configs) if len(configs) > 1 else None
        for config, own_params, own_frozen in zip(configs, params, frozen, strict=True):
            plan, fresh = make_plan(config, data), initial_state(config, own_params, data, shardings)
            checkpoints, state = open_folder(config, fresh, data.record, upto)
            opened.enter_context(contextlib.closing(checkpoints))
            journal = Journal(config.folder, int(state.step), checkpoints.journal, writes=hosts.is_writer())
            opened.enter_context(contextlib.closing(journal))
            runs.append(Run(config, plan, own_frozen, int(state.step), checkpoints, journal))
            states.append(state)
        if len(steps := {run.start for run in runs}) > 1:
            raise ValueError(f"runs that are to go on as one are at the steps {sorted(steps)}; start the same again")
        state = stack(states)
        states.clear()  # of several runs, copies
        yield runs, state


@dataclasses.dataclass(frozen=True)
class Crew:
    """One run, or several at the same step that differ in nothing but seed and learning rate.

    Several take their steps as one: states, batches and what a method added lie along a first axis, and the
    pretrained weights, whose matmuls then serve all of them, are one for all.
    """

    runs: Sequence[Run]
    data: Data
    shardings: Shardings
    steps: Steps
    frozen: Tree

    @classmethod
    def of(cls, runs: Sequence[Run], data: Data, shardings: Shardings, steps: Steps) -> "Crew":
        own, base = zip(*(split_params(run.frozen, is_own) for run in runs), strict=True)
        return cls(runs, data, shardings, steps, merge_params(stack(own), base[0]))

    @property
    def several(self) -> bool:
        return len(self.runs) > 1

    def step(self, state: TrainState, batches: Sequence[Batch]) -> tuple[TrainState, Any]:
        """One step of every run on its own batch; the next state, and metrics as `metrics_of_each` takes them."""
        if not self.several:
            return self.steps.train(state, self.frozen, hosts.put_rows(batches[0], self.shardings.batch))
        batch = jax.device_put(side_by_side(batches), self.shardings.stacked(self.shardings.batch))
        return self.steps.together(state, self.frozen, batch)

    def metrics_of_each(self, metrics: Any) -> list[dict[str, float]]:
        """The metrics of every run, as numbers."""
        values = {name: np.ravel(value) for name, value in jax.device_get(metrics).items()}
        return [{name: float(value[i]) for name, value in values.items()} for i in range(len(self.runs))]

    def save(self, state: TrainState) -> None:
        for run, own in zip(self.runs, unstack(state, len(self.runs)), strict=True):
            run.save(own)


def stack(trees: Sequence[Any]) -> Any:
    """Trees of several runs as one, along a new first axis; a single one as it is."""
    return trees[0] if len(trees) == 1 else jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def unstack(tree: Any, runs: int) -> list[Any]:
    """The inverse of `stack`."""
    return [tree] if runs == 1 else [jax.tree.map(lambda x, i=i: x[i], tree) for i in range(runs)]


class Clock:
    """Seconds since it was made, by what they were spent on; compilation counts as neither."""

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
