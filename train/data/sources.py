"""Where rows are: a split on the hub, in a folder, or in the built-in `mini`; GLUE's splits as their task has them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adakron_jax.data import table
from adakron_jax.data.labels import decoded
from adakron_jax.data.table import SUFFIXES, Table, require
from adakron_jax.hub.models import hub_is_reachable
from train.data.glue import BOUNDS
from train.data.task import Task

MINI = Path(__file__).parent / "mini"
HUB = "nyu-mll/glue"
ON_HUB = "hub:"  # how --data names a data set on the hub


def read(data: str, task: Task, split: str, labelled: bool = True) -> Table:
    """The columns of one of GLUE's splits, classes by their names.

    Args:
      data: `hub`, `mini` or a folder with `TASK/SPLIT.parquet|tsv|csv|jsonl`.
      labelled: whether to read the labels too.

    Raises:
      ValueError: names what is missing, or the file and row that cannot be read.
    """
    columns = (*task.texts, *task.label) if labelled else task.texts
    if data == "hub":
        try:
            rows = read_hub(HUB, task.name, split, columns)
        except LookupError as error:
            raise ValueError(
                f"data 'hub': {error}; give --data a folder with TASK/SPLIT files, or fill the cache on a machine with "
                "access and copy HF_HOME, or try --data mini"
            ) from None
    else:
        # GLUE's own tsv files have quotes that belong to the texts.
        parts = [table.read(path, columns, path.suffix != ".tsv") for path in files(data, task, split)]
        rows = joined(parts, f"{data}/{task.name}/{split}")
    return named(rows, task) if labelled else rows


def named(rows: Table, task: Task) -> Table:
    """Rows whose label cells are codes or names, with names alone; a regression's numbers are only checked."""
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
    """Tables of the same columns as one, whose rows are numbered anew if there are several."""
    if len(parts) == 1:
        return parts[0]
    columns = {name: [cell for part in parts for cell in part[name]] for name in parts[0].columns}
    return Table(origin, range(1, sum(map(len, parts)) + 1), columns, orders=parts[0].orders)


def files(data: str, task: Task, split: str) -> list[Path]:
    """The files of one of GLUE's splits in a folder, or in `mini`; ValueError says what is there instead."""
    folder = MINI if data == "mini" else Path(data)
    if not folder.is_dir():
        raise ValueError(f"data {data!r}: no such folder; accepted: hub, mini, or a folder with TASK/SPLIT files")
    if not (folder / task.name).is_dir():
        present = sorted(path.name for path in folder.iterdir() if path.is_dir())
        raise ValueError(f"data {data!r} has no task {task.name!r}; there: {', '.join(present) or 'nothing'}")
    return split_files(folder / task.name, split)


def split_files(folder: Path, split: str) -> list[Path]:
    """The files of a split in a folder; ValueError says what is there instead."""
    if not (files := present_files(folder, split)):
        others = sorted(path.name for path in folder.iterdir())
        raise ValueError(f"{folder} has no split {split!r}; there: {', '.join(others) or 'nothing'}")
    return files


def present_files(folder: Path, split: str) -> list[Path]:
    """The file of a split in a folder, or its shards as the hub names them, of the first format that there are any."""
    for suffix in SUFFIXES[::-1]:
        for pattern in (f"{split}{suffix}", f"{split}-[0-9]*-of-[0-9]*{suffix}"):
            if paths := sorted(folder.glob(pattern)):
                return paths
    return []


def read_hub(name: str, config: str, split: str, columns: Sequence[str]) -> Table:
    """A split of a data set on the hub or in its cache, classes that it names by those names.

    Raises:
      LookupError: it cannot be had.
      ValueError: it has no such column.
    """
    dataset, class_label = _load_hub(name, config, split)
    origin = " ".join(filter(None, (name, config, split)))
    require(columns, dataset.column_names, origin)
    cells = {column: dataset.data.table[column].to_pylist() for column in columns}
    features = {column: dataset.features[column] for column in columns}
    orders = {column: tuple(kind.names) for column, kind in features.items() if isinstance(kind, class_label)}
    return decoded(Table(origin, range(1, dataset.num_rows + 1), cells, orders=orders))


def hub_splits(name: str, config: str) -> tuple[str, ...]:
    """The splits of a data set on the hub or in its cache; LookupError if it cannot be had."""
    return tuple(_load_hub(name, config)[0])


def _load_hub(name: str, config: str, split: str | None = None) -> tuple[Any, type]:
    """A data set, by default of all splits, and the type of the columns whose classes have names."""
    import datasets
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import HfHubHTTPError

    datasets.disable_progress_bars()
    datasets.config.HF_HUB_OFFLINE |= not hub_is_reachable()  # pyright: ignore[reportAttributeAccessIssue]
    try:
        return datasets.load_dataset(name, config or None, split=split), datasets.ClassLabel
    except (DatasetNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        raise LookupError(
            f"{name} is not in the cache and the hub cannot be reached ({type(error).__name__})"
        ) from None


def repository(data: str) -> tuple[str, str]:
    """Name and configuration of `hub:OWNER/NAME[:CONFIG]`."""
    name, _, config = data.removeprefix(ON_HUB).partition(":")
    if not name:
        raise ValueError(f"data is {data!r}; accepted: hub:OWNER/NAME, or hub:OWNER/NAME:CONFIG")
    return name, config


def is_table(data: str) -> bool:
    """Whether `--data` names a table of one's own: a file, a folder with a training split, or a data set on the hub."""
    path = Path(data)
    by_name = data.startswith(ON_HUB) or path.suffix.lower() in SUFFIXES
    return by_name or bool(data) and path.is_dir() and bool(present_files(path, "train"))


def table_name(data: str) -> str:
    """What a run on this table is called: its file or folder, without what comes before and behind."""
    if data.startswith(ON_HUB):
        return data.removeprefix(ON_HUB).rpartition("/")[2].replace(":", "-")
    path = Path(data)
    return path.stem if path.suffix.lower() in SUFFIXES else path.resolve().name


def has_split(data: str, split: str) -> bool:
    """Whether a folder has files of a split, or a data set on the hub that split; a file has none but its rows."""
    if data.startswith(ON_HUB):
        return split in hub_splits(*repository(data))
    return Path(data).is_dir() and bool(present_files(Path(data), split))
