"""A table of one's own as a task: its splits read, its problem inferred."""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

from adakron_jax.data import table
from adakron_jax.data.labels import decoded
from adakron_jax.data.table import SUFFIXES, Table, printable
from adakron_jax.problems import infer
from train.data import sources
from train.data.task import Task
from train.data.tokens import content
from train.terminal import Line, say


@dataclasses.dataclass(frozen=True)
class Own:
    """Which table it is, and what its columns are for.

    Attributes:
      name: of the task.
      data: a file, a folder with `train.*`, or `hub:OWNER/NAME[:CONFIG]`.
      texts, label: columns.
      problem: a kind, or `auto`.
      train: the split to train on.
      validation, test: a split or a file; empty where that part is drawn, or is none.

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

    def __post_init__(self):
        if len(self.texts) not in (1, 2):
            raise ValueError(f"text is {' '.join(self.texts)!r}; accepted: one column, or two of pairs")
        if not self.label:
            raise ValueError("label is empty; accepted: a column, or several of a multilabel problem")
        columns = [*self.texts, *self.label]
        if twice := [name for i, name in enumerate(columns) if name in columns[:i]]:
            raise ValueError(f"column {twice[0]!r} stands twice among text and label; accepted: every column once")


def load(own: Own) -> tuple[Task, dict[str, Table]]:
    """The task that a table poses, and its rows: `train`, and those of `validation` and `test` that are not drawn.

    Raises:
      ValueError: a file, a split or a column is missing, or a file, row or label cannot be read.
    """
    rows = {"train": _read(own, own.train)}
    for name, said in (("validation", own.validation), ("test", own.test)):
        if said:
            rows[name] = _read(own, said)
    problem = infer(rows["train"], own.label, own.problem)
    for line in problem.respelled(rows["train"], own.label):
        say(line)
    digest = hashlib.sha256(f"{problem.as_json()}".encode())
    for name, part in rows.items():
        digest.update(f"{name} {content(part)}\n".encode())
    task = Task.of(problem, name=own.name, texts=own.texts, label=own.label, fingerprint=digest.hexdigest())
    return task, rows


def _read(own: Own, split: str) -> Table:
    """The rows of a split, or of a file that is named in the place of one."""
    columns = (*own.texts, *own.label)
    if split != own.train and (Path(split).suffix.lower() in SUFFIXES or Path(split).is_file()):
        return _read_files([Path(split)], columns)
    if own.data.startswith(sources.ON_HUB):
        try:
            return sources.read_hub(*sources.repository(own.data), split, columns)
        except LookupError as error:
            raise ValueError(
                f"data {own.data!r}: {error}; accepted: a file, a folder with train.*, or another"
            ) from None
    folder = Path(own.data)
    if folder.is_dir():
        return _read_files(sources.split_files(folder, split), columns)
    if split != "train":
        raise ValueError(f"{split!r} is no file, and {printable(own.data)} has no splits; accepted: a share, or a file")
    return _read_files([folder], columns)


def _read_files(paths: Sequence[Path], columns: Sequence[str]) -> Table:
    parts = []
    for path in paths:
        with (line := Line(f"reading {path.name}", 100)):
            parts.append(table.read(path, columns, watch=lambda read: line.show(round(100 * read), 0.0, "%")))  # noqa: B023
    return decoded(sources.joined(parts, str(paths[0].parent)))
