"""The examples that train a run, choose its best epoch and score it: read, tokenised, split, and packed."""

import dataclasses
import functools
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from adakron_jax.data.conll import DOCUMENT
from adakron_jax.data.examples import Examples
from adakron_jax.data.plan import SHAPES, Plan, plan
from adakron_jax.data.table import Table
from adakron_jax.io.messages import printable
from adakron_jax.problems import Problem
from train.data import custom_data, sources, token_cache
from train.data.custom_data import CustomData
from train.data.glue import TASKS
from train.data.splits import SHARE, Drawing, Splits, draw_splits, share
from train.data.task import Task
from train.options.config import RunConfig
from train.options.model import Pretrained
from train.terminal import say

LOOKED_AT = 1000  # rows that the length of texts is estimated from
FEW = 30  # rows; the scores of a smaller part tell little
STEPS_PER_SHAPE = 100  # each shape costs a compilation, which fewer steps would not earn back


@dataclasses.dataclass(frozen=True)
class Dataset(Splits):
    """A task's examples, the same for runs that differ only in their seed.

    Attributes:
      best_by: the metric that selects the best evaluation, or `last`.
      last_epoch: the epoch after which the run ends, though its learning rate falls over all epochs.
      record: the contents of `splits.json`; empty where the splits are GLUE's own.
    """

    best_by: str
    record: dict[str, Any]
    batch_size: int
    epochs: int
    last_epoch: int

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.train) / self.batch_size)

    @property
    def total_steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    @property
    def last_step(self) -> int:
        return self.last_epoch * self.steps_per_epoch

    @property
    def digest(self) -> str:
        """The SHA-256 of all examples, split by split, in their order."""
        digest = hashlib.sha256()
        for examples in (self.train, *self.validation.values(), *self.test.values()):
            for array in (examples.tokens, examples.token_types, examples.offsets, examples.labels, examples.weights):
                digest.update(f"{array.dtype} {array.shape}\n".encode() + array.tobytes())
        return digest.hexdigest()

    def examples_before(self, step: int) -> int:
        """Returns how many examples all steps before this one train on, counting an example in every epoch."""
        epochs, steps = divmod(step, self.steps_per_epoch)
        return epochs * len(self.train) + steps * self.batch_size


class Loader:
    """Reads and tokenises the data of the runs of one process; only the last task's, or table's, are kept.

    Attributes:
      rows: tables in memory, by the names that stand for them in place of files.
    """

    def __init__(self, model: Pretrained, rows: Mapping[str, Table] = {}):
        self._model, self.rows = model, rows
        self._custom = functools.lru_cache(maxsize=1)(lambda custom: custom_data.load(custom, rows))
        self._custom_examples = functools.lru_cache(maxsize=3)(self._tokenise_custom)
        self._glue = functools.lru_cache(maxsize=3)(lambda data, name, split: sources.read(data, TASKS[name], split))
        self._glue_examples = functools.lru_cache(maxsize=3)(self._tokenise_glue)

    def dataset(self, config: RunConfig) -> Dataset:
        """Returns the examples of a run; prints how custom data, or a task's training set, were split.

        Raises:
          ValueError: a file, split or column is missing, a row cannot be read, a split cannot be drawn, or `best_by` is
            not a metric of the problem.
        """
        splits, record = self.splits(config), {}
        task, choosing = splits.task, ("auto", *splits.task.metrics, "last")
        if config.best_by not in choosing:
            raise ValueError(
                f"best_by is {config.best_by!r}; accepted: {', '.join(choosing)}, of a {task.problem.name}"
            )
        if config.custom_data or config.holds_out:
            record = {"task": task.as_json(), **splits.as_json()}
            for line in described(splits):
                say(line)
        best_by = task.best_by if config.best_by == "auto" else config.best_by
        return Dataset(
            **vars(splits),
            best_by=best_by,
            record=record,
            batch_size=config.batch_size,
            epochs=config.epochs,
            last_epoch=config.last_epoch,
        )

    def splits(self, config: RunConfig) -> Splits:
        """Returns the examples of each split; raises as `dataset` does."""
        documents = None
        if config.custom_data:
            table = custom_data_of(config)
            task, rows = self._custom(table)
            documents = rows["train"].columns.get(DOCUMENT)
            examples = {name: self._custom_examples(table, name, config.max_length) for name in rows}
        else:
            task, names = TASKS[config.task], _glue_splits(config)
            read = functools.partial(self._glue_examples, config.data, task.name, max_length=config.max_length)
            examples = {name: read(split) for name, split in names.items()}
        return _split(config, task, examples, documents)

    def count(self, config: RunConfig) -> int:
        """Returns how many examples a run trains on, without a tokenizer; raises as `dataset` does."""
        return len(self.outline(config).train)

    def outline(self, config: RunConfig) -> Splits:
        """Returns what `splits` does, but of examples with labels alone, which takes no tokenizer."""
        task, rows = self._tables(config)
        return _split(config, task, {name: _untokenised(table, task) for name, table in rows.items()})

    def problem(self, config: RunConfig) -> Problem:
        """Returns the problem that a run is trained for; raises as `dataset` does."""
        return (self._custom(custom_data_of(config))[0] if config.custom_data else TASKS[config.task]).problem

    def letters(self, config: RunConfig) -> float:
        """Returns the mean number of characters in a training example's texts; raises as `dataset` does."""
        task, rows = self._tables(config)
        texts = [text for column in task.texts for text in rows["train"][column][:LOOKED_AT]]
        words = (text if isinstance(text, str) else " ".join(map(str, text)) for text in texts)
        return sum(map(len, words)) / max(1, min(LOOKED_AT, len(rows["train"])))

    def check_same(self, config: RunConfig, fingerprint: str) -> None:
        """Raises ValueError if the rows of custom data are not those that a run was trained on."""
        if config.custom_data and self._custom(custom_data_of(config))[0].fingerprint != fingerprint:
            raise ValueError(
                f"{config.folder} holds a run on other rows than are now in {config.data}; give another --out"
            )

    def _tables(self, config: RunConfig) -> tuple[Task, Mapping[str, Table]]:
        """Returns the task, and the table of each of its splits."""
        if config.custom_data:
            return self._custom(custom_data_of(config))
        task, splits = TASKS[config.task], _glue_splits(config)
        return task, {name: self._glue(config.data, task.name, split) for name, split in splits.items()}

    def _tokenise_glue(self, data: str, name: str, split: str, max_length: int) -> Examples:
        examples = token_cache.load(data, TASKS[name], split, self._model.tokenizer, max_length)
        if examples.empty_texts:
            say(f"warning: {examples.empty_texts} empty texts in {name} {split}, kept")
        return examples

    def _tokenise_custom(self, table: CustomData, split: str, max_length: int) -> Examples:
        task, rows = self._custom(table)
        examples = token_cache.of_table(rows[split], task, split, self._model.tokenizer, max_length)
        long = f"{task.problem.when_long} {max_length} tokens"
        for count, what in ((examples.empty_texts, "empty texts, kept"), (examples.cut, long)):
            if count:
                say(f"warning: {printable(rows[split].origin)}: {examples.count:,} rows, {count:,} {what}")
        return examples


def make_plan(config: RunConfig, data: Dataset) -> Plan:
    """Returns how the training examples of a run are packed, in the order of its seed."""
    return plan(
        data.train.lengths,
        config.batch_size,
        epochs=config.epochs,
        seed=config.seed,
        accumulate=config.accumulate,
        shapes=min(SHAPES, math.ceil(data.total_steps / STEPS_PER_SHAPE)),
        multiple=config.mesh_shape.data,
    )


def custom_data_of(config: RunConfig) -> CustomData:
    """Returns the table that a configuration names."""
    return CustomData(
        name=config.task,
        data=config.data,
        texts=config.text,
        label=config.label,
        problem=config.problem,
        train=config.train_split,
        validation=_validation(config) if not drawing_of(config).draws else "",
        test=config.test if config.test != "none" and not share(config.test) else "",
        quoting=config.quoting,
        scheme=config.scheme,
        label_pieces=config.label_pieces,
    )


def drawing_of(config: RunConfig) -> Drawing:
    """Returns how a configuration draws parts from the training rows."""
    return Drawing(
        validation=0.0 if config.folds > 1 else share(_validation(config)),
        test=0.0 if config.test == "none" else share(config.test),
        folds=config.folds,
        fold=config.fold,
        seed=config.split_seed,
        limit_train=config.limit_train,
        limit_eval=config.limit_eval,
    )


def _validation(config: RunConfig) -> str:
    """Returns the share, split or file that selects the best epoch; `auto` leaves that to a task of GLUE."""
    if config.validation != "auto" or not config.custom_data:
        return config.validation
    return sources.split_named(config.data, "validation") or str(SHARE)


def _glue_splits(config: RunConfig) -> Mapping[str, str]:
    """Returns the splits of a task of GLUE, by their purpose."""
    return {"train": config.train_split} | {name: name for name in TASKS[config.task].dev_splits}


def _untokenised(rows: Table, task: Task) -> Examples:
    """Returns examples that have labels alone."""
    empty, offsets = np.zeros(0, np.int32), np.zeros(len(rows) + 1, np.int64)
    examples = Examples(empty, empty, offsets, empty, empty_texts=0)
    examples = task.problem.labelled(examples, task.problem.targets(rows, task.label))
    none = np.zeros(examples.offsets[-1], np.int32)  # where tokens have labels
    return dataclasses.replace(examples, tokens=none, token_types=none)


def _split(
    config: RunConfig, task: Task, examples: Mapping[str, Examples], documents: Sequence[int] | None = None
) -> Splits:
    if config.test != "none":
        task = dataclasses.replace(task, test_splits={"test": ""})
    drawn = task.holding_out() if config.holds_out else task
    of = None if documents is None else np.array([number or 0 for number in documents])
    splits = draw_splits(drawn, examples, drawing_of(config), of)
    if not config.score_test:
        splits = dataclasses.replace(splits, task=dataclasses.replace(splits.task, test_splits={}), test={})
    if config.class_weights == "none":
        return splits
    train = dataclasses.replace(splits.train, weights=splits.task.problem.balanced(splits.train.labels))
    return dataclasses.replace(splits, train=train)


def described(splits: Splits) -> Iterator[str]:
    """Yields lines that describe the problem that custom data pose, and their splits."""
    problem, evaluated = splits.task.problem, splits.validation | splits.test
    yield f"{splits.task.name}: {problem.described()}"
    for name, examples in evaluated.items():
        repeated = splits.repeated.get(name, 0)
        again = f"; {repeated:,} of them are also training rows" if repeated else ""
        use = "select the best epoch" if name in splits.validation else "are scored once at the end"
        yield f"{name}: {examples.count:,} rows {use}{again}"
        if examples.count < FEW:
            error = f"{50 / math.sqrt(examples.count):.0f} points"
            yield f"note: {name} is small: an accuracy on {examples.count} rows has a standard error of up to {error}"
    targets = {name: problem.targets_of(part) for name, part in ({"train": splits.train} | evaluated).items()}
    yield from map(printable, problem.notes(targets))
