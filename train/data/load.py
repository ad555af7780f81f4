"""What a configuration trains on, chooses by and is scored on: read, tokenised, and parted."""

import dataclasses
import functools
from collections.abc import Iterator

from adakron_jax.data.tokenizer import Examples
from train.data import own, tokens
from train.data.glue import TASKS
from train.data.own import Own
from train.data.parts import SHARE, Drawing, Parts, balanced, divide, share
from train.data.sources import has_split
from train.data.task import Task
from train.options.config import RunConfig
from train.options.model import Pretrained
from train.output.screen import say

Sets = dict[str, Examples]


class Loader:
    """Reads and tokenises what the runs of one process ask for; only the last task's, or table's, is kept."""

    def __init__(self, model: Pretrained):
        self._model = model
        self._of_glue = functools.lru_cache(maxsize=3)(self._read_glue)
        self._of_own = functools.lru_cache(maxsize=1)(self._read_own)

    def parts(self, config: RunConfig) -> Parts:
        """The parts of a run's data.

        Raises:
          ValueError: a file, split or column is missing, a row cannot be read, or a part cannot be drawn.
        """
        drawing, validation = drawing_of(config)
        if config.own:
            test = "" if config.test == "none" or drawing.test else config.test
            table = Own(
                config.task,
                config.data,
                config.text,
                config.label,
                config.problem,
                config.train_split,
                validation,
                test,
            )
            task, sets = self._of_own(table, config.max_length)
            if config.test != "none":
                task = dataclasses.replace(task, test_splits={"test": ""})
        else:
            task = TASKS[config.task]
            names = {"train": config.train_split, **{name: name for name in task.dev_splits}}
            sets = {
                name: self._of_glue(config.data, task.name, split, config.max_length) for name, split in names.items()
            }
            task = task.holding_out() if drawing.draws else task
        parts = divide(task, sets, drawing)
        kind = parts.task.problem.kind
        if config.class_weights == "none":
            return parts
        if kind != "classification":
            raise ValueError(f"class_weights is {config.class_weights!r}; accepted: none, of a {kind}")
        return dataclasses.replace(parts, train=dataclasses.replace(parts.train, weights=balanced(parts.train.labels)))

    def _read_glue(self, data: str, name: str, split: str, max_length: int) -> Examples:
        examples = tokens.load(data, TASKS[name], split, self._model.tokenizer, max_length)
        if examples.empty_texts:
            say(f"warning: {examples.empty_texts} empty texts in {name} {split}, kept")
        return examples

    def _read_own(self, table: Own, max_length: int) -> tuple[Task, Sets]:
        task, rows = own.load(table)
        sets = {
            split: tokens.of_table(part, task, split, self._model.tokenizer, max_length) for split, part in rows.items()
        }
        for split, examples in sets.items():
            for count, what in (
                (examples.empty_texts, "empty texts, kept"),
                (examples.cut, f"cut at {max_length} tokens"),
            ):
                if count:
                    say(f"warning: {split}: {count:,} of {len(examples):,} {what}")
        return task, sets


def drawing_of(config: RunConfig) -> tuple[Drawing, str]:
    """How parts are drawn from the training rows, and the split or file that chooses where none of them does."""
    said = config.validation
    if said == "auto" and config.own:
        said = "validation" if config.folds == 1 and has_split(config.data, "validation") else str(SHARE)
    drawn = 0.0 if said == "auto" else share(said)
    test = 0.0 if config.test == "none" else share(config.test)
    drawing = Drawing(
        0.0 if config.folds > 1 else drawn,
        test,
        config.folds,
        config.fold,
        config.split_seed,
        config.limit_train,
        config.limit_eval,
    )
    return drawing, "" if drawing.draws else said


def described(parts: Parts) -> Iterator[str]:
    """Lines on what a table turned out to ask, and how it was parted."""
    problem = parts.task.problem
    names = ", ".join(problem.labels[:10]) + (", ..." if len(problem.labels) > 10 else "")
    unit = f"numbers, {problem.mean:.4g} on average, {problem.scale:.4g} standard deviation"
    yield f"{parts.task.name}: {problem.kind} of {f'{len(problem.labels)} labels: {names}' if problem.labels else unit}"
    for name, examples in (parts.validation | parts.test).items():
        repeated = parts.repeated.get(name, 0)
        again = f", of which {repeated:,} stand among the training rows too" if repeated else ""
        use = "choose the epoch" if name in parts.validation else "are scored once, at the end"
        yield f"{name}: {len(examples):,} rows {use}{again}"
