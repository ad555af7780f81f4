"""Runs of other seeds or learning rates that take their steps as one.

They share the pretrained weights, whose matrix products then serve all of them at once; what learns, the random numbers
and the batches are each run's own.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adakron_jax.data.packing import Batch, side_by_side
from adakron_jax.params import merge_params, split_params
from adakron_jax.splice import is_own
from train.engine.prepare import Run


class Crew:
    """One or more runs, of equal methods, tasks and numbers of steps, that are at the same step.

    Between `gather` and `scatter` their states are in the crew. Of several runs the frozen pretrained leaves become
    those of the first, and the step is one that takes all of them forward.
    """

    def __init__(self, runs: Sequence[Run]):
        self.runs = runs
        self.lead = lead = runs[0]
        self.several = len(runs) > 1
        self.frozen = lead.frozen
        if self.several:
            each = [split_params(run.frozen, is_own)[0] for run in runs]
            base = split_params(lead.frozen, is_own)[1]
            self.frozen = merge_params(_stack(each), base)
            for run, its in zip(runs, each, strict=True):
                run.frozen = merge_params(its, base)
                run.train_step = lead.together_step
                run.compiled_before["train"] = len(lead.together_step.executables)

    def gather(self) -> None:
        """Takes over the states of the runs."""
        self.state = _stack([run.state for run in self.runs]) if self.several else self.lead.state

    def scatter(self) -> None:
        """Gives every run its state."""
        for number, run in enumerate(self.runs):
            run.state = jax.tree.map(lambda x, at=number: x[at], self.state) if self.several else self.state

    def step(self, batches: Sequence[Batch]) -> Any:
        """Takes one step of every run, on its own batch; metrics, along a first axis for the runs if several."""
        lead = self.lead
        if self.several:
            batch = jax.device_put(side_by_side(batches), lead.shardings.stacked(lead.shardings.batch))
        else:
            batch = jax.device_put(batches[0], lead.shardings.batch)
        self.state, metrics = lead.train_step(self.state, self.frozen, batch)
        return metrics

    def of_each(self, metrics: Any) -> list[dict[str, float]]:
        """The metrics of every run, as numbers."""
        found = {name: np.ravel(value) for name, value in jax.device_get(metrics).items()}
        return [{name: float(values[i]) for name, values in found.items()} for i in range(len(self.runs))]


def _stack(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
