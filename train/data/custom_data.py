"""Custom data as a task: the splits read, the problem inferred."""

import dataclasses
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from adakron_jax.data import table
from adakron_jax.data.formats import suffix_of
from adakron_jax.data.labels import decoded
from adakron_jax.data.table import Table
from adakron_jax.io.files import MOST_JSON
from adakron_jax.io.messages import printable
from adakron_jax.problems import infer
from train.data import sources
from train.data.task import Task
from train.data.token_cache import content
from train.terminal import Line, say


@dataclasses.dataclass(frozen=True)
class CustomData:
    """Which table to train on, and what its columns are for.

    Attributes:
      name: the task's name.
      data: a file, a folder with `train.*`, or `hub:OWNER/NAME[:CONFIG]`.
      texts, label: the columns of texts and of labels.
      problem: a kind of problem, or `auto`.
      train: the split to train on.
      validation, test: a split or a file; empty where that split is drawn, or there is none.
      quoting: whether quotes in a tsv enclose fields, as they do in csv.
      scheme, label_pieces: for tags, as in `Tokens`.

    Raises:
      ValueError: there are not one or two columns of texts, or a column has two uses.
    """

    name: str
    data: str
    texts: tuple[str, ...]
    label: tuple[str, ...]
    problem: str = "auto"
    train: str = "train"
    validation: str = ""
    test: str = ""
    quoting: bool = False
    scheme: str = "auto"
    label_pieces: str = "first"

    def __post_init__(self):
        if len(self.texts) not in (1, 2):
            raise ValueError(f"text is {' '.join(self.texts)!r}; accepted: one column, or two of pairs")
        if not self.label:
            raise ValueError("label is empty; accepted: a column, or several of a multilabel problem")
        columns = [*self.texts, *self.label]
        if twice := [name for i, name in enumerate(columns) if name in columns[:i]]:
            raise ValueError(f"column {twice[0]!r} is given twice, in text and label; accepted: every column once")


def load(custom: CustomData, given: Mapping[str, Table] = {}) -> tuple[Task, dict[str, Table]]:
    """Returns the task that a table poses, and its rows: `train`, and of `validation` and `test` those not drawn.

    Args:
      given: tables in memory, by the names that stand for them in place of files.

    Raises:
      ValueError: a file, a split or a column is missing, or a file, row or label cannot be read.
    """
    rows = {"train": _read(custom, custom.train, given)}
    for name, said in (("validation", custom.validation), ("test", custom.test)):
        if said:
            rows[name] = _read(custom, said, given)
    if os.path.isdir(folder := Path(custom.data)) and (
        unused := sources.unused_files(folder, (custom.train, *filter(None, (custom.validation, custom.test))))
    ):
        others = ", ".join(map(repr, unused))
        say(f"warning: {printable(custom.data)} has {others} too, unused; --validation and --test name splits")
    problem = infer(rows["train"], custom.label, custom.problem, scheme=custom.scheme, pieces=custom.label_pieces)
    if (size := sum(map(len, problem.labels))) > MOST_JSON // 8:
        raise ValueError(
            f"{printable(custom.data)}: names of {len(problem.labels):,} labels have {size:,} letters; accepted: at "
            f"most {MOST_JSON // 8:,}, so that the adapter's description can be read"
        )
    for line in problem.respelled(rows["train"], custom.label):
        say(line)
    digest = hashlib.sha256(f"{problem.as_json()}".encode())
    for name, part in rows.items():
        digest.update(f"{name} {content(part)}\n".encode())
    task = Task.of(problem, name=custom.name, texts=custom.texts, label=custom.label, fingerprint=digest.hexdigest())
    return task, rows


def _read(custom: CustomData, split: str, given: Mapping[str, Table]) -> Table:
    """Returns the rows of a split, or of a file or a given table that is named in its place."""
    name = custom.data if split == custom.train else split
    if name in given:
        return decoded(given[name])
    sources.refuse_rows(name)
    if split != custom.train and (suffix_of(Path(split)) or os.path.isfile(split)):
        return _read_files([Path(split)], custom)
    if custom.data.startswith(sources.ON_HUB):
        return sources.read_hub(*sources.repository(custom.data), split, (*custom.texts, *custom.label))
    folder = Path(custom.data)
    if os.path.isdir(folder):
        return _read_files(sources.split_files(folder, split), custom)
    if split != "train":
        raise ValueError(
            f"{split!r} is no file, and {printable(custom.data)} has no splits; accepted: a share, or a file"
        )
    return _read_files([folder], custom)


def _read_files(paths: Sequence[Path], custom: CustomData) -> Table:
    parts, quoted = [], True if custom.quoting else None
    for path in paths:
        with (line := Line(f"reading {path.name}", 100)):
            watch = lambda read: line.show(round(100 * read), 0.0, "%")  # noqa: B023, E731
            parts.append(table.read(path, (*custom.texts, *custom.label), quoted, watch))
    return decoded(sources.joined(parts, str(paths[0].parent)))
