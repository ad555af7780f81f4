"""Reads rows: a split on the hub, in a folder, or in the built-in `mini`; GLUE's splits with their task's columns."""

import glob
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from adakron_jax.data import table
from adakron_jax.data.formats import SUFFIXES, once, suffix_of
from adakron_jax.data.labels import decoded
from adakron_jax.data.table import Table
from adakron_jax.hub.errors import FILL_THE_CACHE, NO_ACCESS, NOT_CACHED
from adakron_jax.hub.models import hub_is_reachable
from adakron_jax.io.messages import listed, printable
from train.data.glue import BOUNDS
from train.data.task import Task

MINI = Path(__file__).parent / "mini"
HUB = "nyu-mll/glue"
ON_HUB = "hub:"  # how --data names a data set on the hub
ROWS = "rows:"  # how a run names rows in memory, by their hash
SPELLINGS = {"validation": ("validation", "valid", "val", "dev")}  # of a split's name


def read(data: str, task: Task, split: str, labelled: bool = True) -> Table:
    """Returns the columns of one of GLUE's splits, with classes by name.

    Args:
      data: `hub`, `mini` or a folder with `TASK/SPLIT.parquet|tsv|csv|jsonl`.
      labelled: whether to read the labels too.

    Raises:
      ValueError: something is missing, or a row cannot be read; the message names it, with its file.
    """
    columns = (*task.texts, *task.label) if labelled else task.texts
    if data == "hub":
        try:
            rows = read_hub(HUB, task.name, split, columns)
        except Unreachable as error:
            raise Unreachable(f"{error}; or give --data a folder with TASK/SPLIT files, or try --data mini") from None
    else:
        parts = [table.read(path, columns) for path in files(data, task, split)]
        rows = joined(parts, f"{data}/{task.name}/{split}")
    return named(rows, task) if labelled else rows


def named(rows: Table, task: Task) -> Table:
    """Replaces codes by names in rows whose labels are codes or names; a regression's numbers are only checked."""
    (column,) = task.label
    if task.name in BOUNDS:
        low, high = BOUNDS[task.name]
        for row, cell in enumerate(rows[column]):
            try:
                within = low <= float(cell) <= high
            except (TypeError, ValueError):
                within = False
            if not within:
                raise ValueError(f"{rows.at(row)}: label is {cell!r}; accepted: a number from {low:g} to {high:g}")
        return rows
    return task.problem.named(rows, task.label)


def joined(parts: Sequence[Table], origin: str) -> Table:
    """Joins tables of the same columns into one, whose rows are renumbered if there are several."""
    if len(parts) == 1:
        return parts[0]
    columns = {name: [cell for part in parts for cell in part[name]] for name in parts[0].columns}
    orders = {
        name: order for name, order in parts[0].orders.items() if all(part.orders == parts[0].orders for part in parts)
    }
    return Table(origin, range(1, sum(map(len, parts)) + 1), columns, orders=orders)


def files(data: str, task: Task, split: str) -> list[Path]:
    """Returns the files of one of GLUE's splits in a folder, or in `mini`; ValueError says what is there instead."""
    folder = MINI if data == "mini" else Path(data)
    if not folder.is_dir():
        raise ValueError(f"data {data!r}: no such folder; accepted: hub, mini, or a folder with TASK/SPLIT files")
    if not (folder / task.name).is_dir():
        present = sorted(path.name for path in folder.iterdir() if path.is_dir())
        raise ValueError(f"data {data!r} has no task {task.name!r}; available: {', '.join(present) or 'nothing'}")
    return split_files(folder / task.name, split)


def split_files(folder: Path, split: str) -> list[Path]:
    """Returns the files of a split in a folder; ValueError says what is there instead."""
    if not (files := present_files(folder, split)):
        others = listed(sorted(path.name for path in folder.iterdir()), split, printable)
        raise ValueError(f"{printable(str(folder))} has no split {split!r}; available: {others}")
    return files


def unused_files(folder: Path, splits: Sequence[str]) -> list[str]:
    """Returns the names of a folder's files that look like splits but are none of these."""
    taken = {path.name for split in splits for path in present_files(folder, split)}
    likely = ("train", "test", *SPELLINGS["validation"])
    return sorted({path.name for split in likely for paths in _candidates(folder, split) for path in paths} - taken)


def present_files(folder: Path, split: str) -> list[Path]:
    """Returns the file of a split in a folder, or its shards as the hub names them, in the first format present."""
    return next(_candidates(folder, split), [])


def _candidates(folder: Path, split: str) -> Iterator[list[Path]]:
    for suffix in SUFFIXES[::-1]:
        for pattern in (f"{glob.escape(split)}{suffix}", f"{glob.escape(split)}-[0-9]*-of-[0-9]*{suffix}"):
            if paths := sorted(folder.glob(pattern)):
                yield paths


def refuse_rows(data: str) -> None:
    """Raises ValueError if `data` names rows in memory, which are not given here."""
    if data.startswith(ROWS):
        raise ValueError(f"{data} stands for rows given to train.fit; accepted: train.fit with them, or a file")


def row_count(data: str, split: str) -> int:
    """Returns how many rows a table's split has; raises as reading them does."""
    refuse_rows(data)
    if data.startswith(ON_HUB):
        return _load_hub(*repository(data), split)[0].num_rows
    paths = split_files(Path(data), split) if os.path.isdir(data) else [Path(data)]
    return sum(len(part) for path in paths for part in table.parts(path))


class Unreachable(ValueError):
    """A data set is not in the cache, and the hub cannot be reached."""


def read_hub(name: str, config: str, split: str, columns: Sequence[str]) -> Table:
    """Returns a split of a data set on the hub or in its cache, with classes by name where the data set names them.

    Raises:
      Unreachable: it is not in the cache, and the hub cannot be reached.
      ValueError: there is no such data set, configuration, split or column, or it is damaged; the message says which.
    """
    dataset, class_label = _load_hub(name, config, split)
    origin = " ".join(filter(None, (name, config, split)))
    once(columns, dataset.column_names, origin)
    cells = {column: dataset.data.table[column].to_pylist() for column in columns}
    features = {column: dataset.features[column] for column in columns}
    orders = {column: tuple(kind.names) for column, kind in features.items() if isinstance(kind, class_label)}
    return decoded(Table(origin, range(1, dataset.num_rows + 1), cells, orders=orders))


def hub_splits(name: str, config: str) -> tuple[str, ...]:
    """Returns the splits of a data set on the hub or in its cache; raises as `read_hub`."""
    return tuple(_load_hub(name, config)[0])


def _load_hub(name: str, config: str, split: str | None = None) -> tuple[Any, type]:
    """Returns a data set, by default all its splits, and the type of columns whose classes have names."""
    import datasets
    from datasets.exceptions import DatasetNotFoundError, DatasetsError
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    datasets.disable_progress_bars()
    reached = hub_is_reachable()
    datasets.config.HF_HUB_OFFLINE |= not reached  # pyright: ignore[reportAttributeAccessIssue]
    said = f"data {ON_HUB + name + (config and f':{config}')!r}"
    try:
        return datasets.load_dataset(name, config or None, split=split), datasets.ClassLabel
    except (DatasetsError, HfHubHTTPError, HFValidationError, OSError, ValueError, RuntimeError) as error:
        cause = error
        while isinstance(cause.__cause__, Exception):
            cause = cause.__cause__
        lost = isinstance(error, DatasetNotFoundError | ConnectionError | HfHubHTTPError)
        lost |= str(error).startswith("Couldn't find cache")  # only another configuration is cached
        if lost and not reached:
            raise Unreachable(f"{said}: {NOT_CACHED}; {FILL_THE_CACHE}") from None
        if isinstance(error, DatasetNotFoundError):
            raise ValueError(
                f"{said}: no such data set {NO_ACCESS}; accepted: {ON_HUB}OWNER/NAME or {ON_HUB}OWNER/NAME:CONFIG"
            ) from None
        raise ValueError(f"{said}: {_reason(error, cause)}") from None


def _reason(error: Exception, cause: BaseException) -> str:
    """Returns what `datasets` says, in a line, and in terms of our command where it is about one."""
    text = " ".join(str(error).split())
    if configs := re.search(r"(?:pick one among the available configs|Available): (\[.*?\])", text):
        return f"the configuration has to be one of {configs[1]:.500}; accepted: {ON_HUB}OWNER/NAME:CONFIG"
    if splits := re.search(r"Unknown split \"?(.*?)\"?\. Should be one of (\[.*?\])", text):
        return f"no split {splits[1]!r}; accepted: {splits[2]:.500}"
    because = " ".join(str(cause).split())
    return f"{text:.300}" + (f" ({type(cause).__name__}: {because:.200})" if because not in text else "")


def repository(data: str) -> tuple[str, str]:
    """Returns the name and the configuration in `hub:OWNER/NAME[:CONFIG]`."""
    name, _, config = data.removeprefix(ON_HUB).partition(":")
    if not name:
        raise ValueError(f"data is {data!r}; accepted: hub:OWNER/NAME, or hub:OWNER/NAME:CONFIG")
    return name, config


def is_table(data: str) -> bool:
    """Returns whether `--data` names custom data: a file, a folder with a training split, or a data set on the hub."""
    path = Path(data)
    if data.startswith((ON_HUB, ROWS)) or suffix_of(path):
        return True
    return bool(data) and os.path.isdir(path) and bool(present_files(path, "train"))


def table_name(data: str) -> str:
    """Returns the task's name for a table: that of its file or folder, without parent folders and suffix.

    >>> table_name("data/my reviews (1).csv")
    'my-reviews-1'
    """
    if data.startswith(ON_HUB):
        name = data.removeprefix(ON_HUB).rpartition("/")[2]
    elif data.startswith(ROWS):
        name = "rows"
    else:
        path = Path(data)
        name = path.name[: -len(suffix)] if (suffix := suffix_of(path)) else path.resolve().name
    return re.sub(r"[^\w.]+", "-", name).strip("-.")[:80] or "table"


def split_named(data: str, split: str) -> str:
    """Returns the name of a split in a folder or a data set on the hub; empty if it has none, as a file never does."""
    spellings = SPELLINGS.get(split, (split,))
    if data.startswith(ON_HUB):
        present = hub_splits(*repository(data))
        return next((name for name in spellings if name in present), "")
    folder = Path(data)
    return next((name for name in spellings if os.path.isdir(folder) and present_files(folder, name)), "")
