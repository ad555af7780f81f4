"""What a run trains on and is evaluated on, and how it is packed."""

import dataclasses
import math

from adakron_jax.data import packing
from adakron_jax.data.packing import Plan
from adakron_jax.data.tokenizer import Examples
from train.data.glue import TASKS, Task
from train.engine.shared import Shared
from train.options.config import Limit, RunConfig

EVAL_BATCH = 256  # examples of an evaluation batch
STEPS_A_SHAPE = 100  # a shape more is a compilation more, which fewer steps would not earn back


@dataclasses.dataclass(frozen=True)
class Split:
    """Examples in their own order, and how they are packed."""

    examples: Examples
    plan: Plan


@dataclasses.dataclass(frozen=True)
class Data:
    """A task's training examples, and its development splits by name; the same for runs that differ in their seed."""

    task: Task
    train: Examples
    dev: dict[str, Split]
    batch_size: int
    epochs: int

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.train) / self.batch_size)

    @property
    def total_steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    def examples_before(self, step: int) -> int:
        """How many examples all steps before this one train on, an example counted in every epoch."""
        epochs, steps = divmod(step, self.steps_per_epoch)
        return epochs * len(self.train) + steps * self.batch_size


def read_data(config: RunConfig, shared: Shared) -> Data:
    """Reads and tokenises the splits; ValueError names what is missing or cannot be read."""
    task = TASKS[config.task]
    limits: dict[str, Limit] = {config.train_split: config.limit_train}
    limits |= dict.fromkeys(task.dev_splits, config.limit_eval)
    examples = {
        split: shared.examples(config.data, task.name, split, config.max_length).first(limit)
        for split, limit in limits.items()
    }
    multiple = config.mesh_shape.data
    dev = {
        split: Split(examples[split], packing.plan(examples[split].lengths, EVAL_BATCH, shapes=1, multiple=multiple))
        for split in task.dev_splits
    }
    return Data(task, examples[config.train_split], dev, config.batch_size, config.epochs)


def make_plan(config: RunConfig, data: Data) -> Plan:
    """How the training examples of a run are packed, in the order of its seed."""
    return packing.plan(
        data.train.lengths,
        config.batch_size,
        epochs=config.epochs,
        seed=config.seed,
        accumulate=config.accumulate,
        shapes=min(packing.SHAPES, math.ceil(data.total_steps / STEPS_A_SHAPE)),
        multiple=config.mesh_shape.data,
    )
