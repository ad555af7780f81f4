"""Tables as token arrays: tokenised once, then cached."""

import contextlib
import dataclasses
import hashlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from filelock import FileLock

from adakron_jax.data.examples import Examples
from adakron_jax.data.table import Table, printable
from adakron_jax.io.files import cache_folder, write_whole
from adakron_jax.tokenizer import Tokenizer
from train.data import sources
from train.data.task import Task
from train.terminal import Line, say

VERSION = 3  # of a cached file's contents


def load(
    data: str,
    task: Task,
    split: str,
    tokenizer: Tokenizer,
    max_length: int,
    cache: Path | None = None,
    labelled: bool = True,
) -> Examples:
    """Reads and tokenises one of GLUE's splits, or takes it from the cache.

    Args:
      data: `hub`, `mini` or a folder with `TASK/SPLIT.parquet|tsv|csv|jsonl`.
      max_length: tokens at which an example is cut, the longer text of a pair first.
      cache: the folder of the cache; by default `~/.cache/adakron-jax`, or `$XDG_CACHE_HOME/adakron-jax`, if that can
        be written.
      labelled: False for a test set, whose labels, if it has any, are ignored; they all become 0.

    Raises:
      ValueError: the split is missing, unreadable or empty; the message names the file and the row.
    """
    made = Making(task, tokenizer, max_length, labelled, cache or cache_folder())
    if data == "hub":
        rows = sources.read(data, task, split, labelled)
        return made.examples(split, content(rows), lambda: rows)
    digest = hashlib.sha256()
    for path in sources.files(data, task, split):
        digest.update(f"{path.suffix} {path.stat().st_size}\n".encode() + path.read_bytes())
    return made.examples(split, digest.hexdigest(), lambda: sources.read(data, task, split, labelled))


def of_table(rows: Table, task: Task, split: str, tokenizer: Tokenizer, max_length: int) -> Examples:
    """Tokenises a table that has been read, or takes it from the cache."""
    return Making(task, tokenizer, max_length, True, cache_folder()).examples(split, content(rows), lambda: rows)


@dataclasses.dataclass(frozen=True)
class Making:
    """How rows become examples, and the folder that caches them, if there is one."""

    task: Task
    tokenizer: Tokenizer
    max_length: int
    labelled: bool
    cache: Path | None

    def examples(self, split: str, digest: str, read: Callable[[], Table]) -> Examples:
        """Returns the examples of the rows with this digest, from the cache if it has them."""
        if self.cache is None:
            return self.tokenise(read(), split)
        problem = self.task.problem
        said = (problem.name, problem.labels, self.task.texts, self.task.label, self.max_length, self.labelled)
        key = hashlib.sha256(f"{VERSION} {said} {self.tokenizer.fingerprint} {digest}".encode()).hexdigest()
        path = self.cache / "tokens" / f"{self.task.name[:40]}-{split}-{key[:32]}.npz"
        if path.is_file():
            return _read(path)
        # If several workers of a grid come at once, one tokenises, and the others wait for it.
        with _locked(self.cache / "locks", path.stem):
            if path.is_file():
                return _read(path)
            examples = self.tokenise(read(), split)
            buffer = io.BytesIO()
            np.savez(buffer, **{name: value for name, value in vars(examples).items() if value is not None})
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, buffer.getvalue())
            except OSError as error:  # a cache is optional
                say(f"warning: the tokens are not kept ({error})")
            return examples

    def tokenise(self, rows: Table, split: str) -> Examples:
        """Checks every text and label, and turns the texts into ids."""
        if not len(rows):
            raise ValueError(f"{printable(rows.origin)}: no rows; accepted: at least one")
        problem = self.task.problem
        read = problem.read(rows, self.task.texts)
        targets = problem.targets(rows, self.task.label) if self.labelled else None
        with (line := Line(f"tokenizing {split}", len(rows))):
            shown = lambda done: line.show(done, line.per_second(done))  # noqa: E731
            examples = problem.encode(self.tokenizer, read, self.max_length, shown)
        examples = examples if targets is None else problem.labelled(examples, targets)
        return dataclasses.replace(examples, sentences=None)


@contextlib.contextmanager
def _locked(folder: Path, name: str) -> Iterator[None]:
    """Keeps other processes from doing the same work, if a lock can be made in the folder."""
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(folder / name))
        except OSError as error:
            say(f"warning: no lock on the cache ({error})")
        yield


def _read(path: Path) -> Examples:
    with np.load(path, allow_pickle=False) as arrays:
        values = {name: arrays[name] for name in arrays.files}
    return Examples(**{name: value.item() if value.ndim == 0 else value for name, value in values.items()})


def content(rows: Table) -> str:
    """Returns the SHA-256 of a table's columns."""
    digest = hashlib.sha256()
    for name, cells in rows.columns.items():
        digest.update(f"{name!r} {len(cells)}\n".encode())
        for start in range(0, len(cells), 4096):
            digest.update(json.dumps(cells[start : start + 4096], default=str).encode())
    return digest.hexdigest()
