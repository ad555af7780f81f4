"""What a run trains on and is evaluated on, and how it is packed."""

import dataclasses
import hashlib
import math
from typing import Any

from adakron_jax.data.examples import Examples
from adakron_jax.data.plan import SHAPES, Plan, plan
from train.data.parts import Parts
from train.data.task import Task
from train.engine.load import described
from train.engine.shared import Shared
from train.options.config import RunConfig
from train.terminal import say

STEPS_PER_SHAPE = 100  # a shape more is a compilation more, which fewer steps would not earn back


@dataclasses.dataclass(frozen=True)
class Data:
    """A task's examples; the same for runs that differ in their seed.

    Attributes:
      dev, test: the splits that choose, and those that are scored once, by name.
      best_by: the metric that chooses, or `last`.
      record: what `splits.json` says of the parts; empty where the splits are GLUE's own.
    """

    task: Task
    train: Examples
    dev: dict[str, Examples]
    test: dict[str, Examples]
    best_by: str
    record: dict[str, Any]
    batch_size: int
    epochs: int

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.train) / self.batch_size)

    @property
    def total_steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    @property
    def digest(self) -> str:
        """SHA-256 of all examples, of every part in its order."""
        digest = hashlib.sha256()
        for examples in (self.train, *self.dev.values(), *self.test.values()):
            for array in (examples.tokens, examples.token_types, examples.offsets, examples.labels, examples.weights):
                digest.update(f"{array.dtype} {array.shape}\n".encode() + array.tobytes())
        return digest.hexdigest()

    def examples_before(self, step: int) -> int:
        """How many examples all steps before this one train on, an example counted in every epoch."""
        epochs, steps = divmod(step, self.steps_per_epoch)
        return epochs * len(self.train) + steps * self.batch_size


def read_data(config: RunConfig, shared: Shared) -> Data:
    """Reads, tokenises and parts the examples; ValueError names what is missing, cannot be read or cannot be parted."""
    parts = shared.loader.parts(config)
    task, choosing = parts.task, ("auto", *parts.task.metrics, "last")
    if config.best_by not in choosing:
        raise ValueError(f"best_by is {config.best_by!r}; accepted: {', '.join(choosing)}, of a {task.problem.name}")
    return Data(
        task=task,
        train=parts.train,
        dev=dict(parts.validation),
        test=dict(parts.test),
        best_by=task.best_by if config.best_by == "auto" else config.best_by,
        record=record_of(config, parts),
        batch_size=config.batch_size,
        epochs=config.epochs,
    )


def record_of(config: RunConfig, parts: Parts) -> dict[str, Any]:
    """What a run's folder keeps of its parts, where they are not simply GLUE's; says so too."""
    if not (config.own or config.holds_out):
        return {}
    for line in described(parts):
        say(line)
    return {"task": parts.task.as_json(), **parts.as_json()}


def make_plan(config: RunConfig, data: Data) -> Plan:
    """How the training examples of a run are packed, in the order of its seed."""
    return plan(
        data.train.lengths,
        config.batch_size,
        epochs=config.epochs,
        seed=config.seed,
        accumulate=config.accumulate,
        shapes=min(SHAPES, math.ceil(data.total_steps / STEPS_PER_SHAPE)),
        multiple=config.mesh_shape.data,
    )
