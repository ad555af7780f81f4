"""What a configuration trains on, chooses by and is scored on: read, tokenised, and parted."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping

import numpy as np

from adakron_jax.data.examples import Examples
from adakron_jax.data.table import Table, printable
from train.data import own, sources, tokens
from train.data.glue import TASKS
from train.data.own import Own
from train.data.parts import SHARE, Drawing, Parts, divide, share
from train.data.task import Task
from train.options.config import RunConfig
from train.options.model import Pretrained
from train.terminal import say


class Loader:
    """Reads and tokenises what the runs of one process ask for; only the last task's, or table's, is kept."""

    def __init__(self, model: Pretrained):
        self._model = model
        self._own = functools.lru_cache(maxsize=1)(own.load)
        self._own_examples = functools.lru_cache(maxsize=3)(self._tokenise_own)
        self._glue = functools.lru_cache(maxsize=3)(_read_glue)
        self._glue_examples = functools.lru_cache(maxsize=3)(self._tokenise_glue)

    def parts(self, config: RunConfig) -> Parts:
        """The parts of a run's data.

        Raises:
          ValueError: a file, split or column is missing, a row cannot be read, or a part cannot be drawn.
        """
        if config.own:
            table = own_of(config)
            task, rows = self._own(table)
            sets = {split: self._own_examples(table, split, config.max_length) for split in rows}
        else:
            task = TASKS[config.task]
            sets = {
                name: self._glue_examples(config.data, task.name, split, config.max_length)
                for name, split in _splits(config).items()
            }
        return _parted(config, task, sets)

    def count(self, config: RunConfig) -> int:
        """How many examples a run trains on, without a tokenizer; ValueError as `parts`."""
        if config.own:
            task, rows = self._own(own_of(config))
        else:
            task = TASKS[config.task]
            rows = {name: self._glue(config.data, task.name, split) for name, split in _splits(config).items()}
        return len(_parted(config, task, {name: _bare(table, task) for name, table in rows.items()}).train)

    def check_same(self, config: RunConfig, fingerprint: str) -> None:
        """ValueError if the rows of a table of one's own are others than those that a run was trained on."""
        if config.own and self._own(own_of(config))[0].fingerprint != fingerprint:
            raise ValueError(
                f"{config.folder} holds a run on other rows than {config.data} has now; give another --out"
            )

    def _tokenise_glue(self, data: str, name: str, split: str, max_length: int) -> Examples:
        examples = tokens.load(data, TASKS[name], split, self._model.tokenizer, max_length)
        if examples.empty_texts:
            say(f"warning: {examples.empty_texts} empty texts in {name} {split}, kept")
        return examples

    def _tokenise_own(self, table: Own, split: str, max_length: int) -> Examples:
        task, rows = self._own(table)
        examples = tokens.of_table(rows[split], task, split, self._model.tokenizer, max_length)
        for count, what in ((examples.empty_texts, "empty texts, kept"), (examples.cut, f"cut at {max_length} tokens")):
            if count:
                say(f"warning: {printable(rows[split].origin)}: {len(examples):,} rows, {count:,} {what}")
        return examples


def own_of(config: RunConfig) -> Own:
    """The table that a configuration names."""
    return Own(
        name=config.task,
        data=config.data,
        texts=config.text,
        label=config.label,
        problem=config.problem,
        train=config.train_split,
        validation=_choosing(config) if not drawing_of(config).draws else "",
        test=config.test if config.test != "none" and not share(config.test) else "",
        quoting=config.quoting,
    )


def drawing_of(config: RunConfig) -> Drawing:
    """How parts are drawn from the training rows."""
    return Drawing(
        validation=0.0 if config.folds > 1 else share(_choosing(config)),
        test=0.0 if config.test == "none" else share(config.test),
        folds=config.folds,
        fold=config.fold,
        seed=config.split_seed,
        limit_train=config.limit_train,
        limit_eval=config.limit_eval,
    )


def _choosing(config: RunConfig) -> str:
    """The share, split or file that chooses; `auto` where it is left to one of GLUE's tasks."""
    if config.validation != "auto" or not config.own:
        return config.validation
    return sources.split_named(config.data, "validation") or str(SHARE)


def _splits(config: RunConfig) -> Mapping[str, str]:
    """The splits of one of GLUE's tasks, by what they are for."""
    return {"train": config.train_split} | {name: name for name in TASKS[config.task].dev_splits}


def _read_glue(data: str, name: str, split: str) -> Table:
    return sources.read(data, TASKS[name], split)


def _bare(rows: Table, task: Task) -> Examples:
    """Examples that have labels alone."""
    nothing = np.zeros(0, np.int32)
    labels = task.problem.targets(rows, task.label)
    return Examples(nothing, nothing, np.zeros(len(rows) + 1, np.int64), labels, empty_texts=0)


def _parted(config: RunConfig, task: Task, sets: Mapping[str, Examples]) -> Parts:
    if config.test != "none":
        task = dataclasses.replace(task, test_splits={"test": ""})
    parts = divide(task.holding_out() if config.holds_out else task, sets, drawing_of(config))
    if config.class_weights == "none":
        return parts
    train = dataclasses.replace(parts.train, weights=parts.task.problem.balanced(parts.train.labels))
    return dataclasses.replace(parts, train=train)


def described(parts: Parts) -> Iterator[str]:
    """Lines on what a table turned out to ask, and how it was parted."""
    yield f"{parts.task.name}: {parts.task.problem.described()}"
    for name, examples in (parts.validation | parts.test).items():
        repeated = parts.repeated.get(name, 0)
        again = f", of which {repeated:,} stand among the training rows too" if repeated else ""
        use = "choose the epoch" if name in parts.validation else "are scored once, at the end"
        yield f"{name}: {len(examples):,} rows {use}{again}"
    evaluated = {name: examples.labels for name, examples in (parts.validation | parts.test).items()}
    yield from map(printable, parts.task.problem.notes({"train": parts.train.labels, **evaluated}))
