"""GLUE's examples as token arrays: read from the hub, a folder or the built-in `mini`; tokenised once, then cached."""

import csv
import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adakron_jax.hub import hub_is_reachable
from train.data.glue import Task

MINI = Path(__file__).parent / "mini"
HUB = "nyu-mll/glue"
_SUFFIXES = ("parquet", "tsv", "csv", "jsonl")


@dataclasses.dataclass(frozen=True)
class Rows:
    """The columns of a split as they were read.

    Attributes:
      origin: the file, or the split of the hub.
      numbers: of the rows in their file, from 1; in a text file, of their lines.
      texts: one list a column.
      labels: as they stand there, None where there is none; zeros of a split that is read without labels.
    """

    origin: str
    numbers: Sequence[int]
    texts: list[list[Any]]
    labels: list[Any]


def read_labels(rows: Rows, task: Task) -> np.ndarray:
    """Labels as int32 codes, or as float32 numbers of a regression; ValueError if there are none or one is wrong."""
    if not rows.labels:
        raise ValueError(f"{rows.origin}: no rows; accepted: at least one")
    labels = [_label(rows, i, value, task) for i, value in enumerate(rows.labels)]
    return np.asarray(labels, np.float32 if task.regression else np.int32)


def _label(rows: Rows, i: int, value: Any, task: Task) -> int | float:
    if task.regression:
        try:
            if 0 <= float(value) <= 5:
                return float(value)
        except (TypeError, ValueError):
            pass
        raise ValueError(f"{_at(rows, i)}: label is {value!r}; accepted: a number from 0 to 5")
    if value in task.labels:
        return task.labels.index(value)
    codes = {str(code): code for code in range(len(task.labels))}
    if str(value) not in codes:
        named = ", ".join(f"{code} ({name})" for code, name in enumerate(task.labels))
        raise ValueError(f"{_at(rows, i)}: label is {value!r}; accepted: {named}")
    return codes[str(value)]


def _at(rows: Rows, i: int) -> str:
    return f"{rows.origin}, row {rows.numbers[i]}"


def read(data: str, task: Task, split: str, labelled: bool = True) -> Rows:
    """Reads a split's columns; ValueError names what is missing, or the file and row that cannot be read."""
    columns = (*task.texts, "label") if labelled else task.texts
    if data == "hub":
        return _from_table(_hub(task, split), f"{HUB} {task.name} {split}", columns)
    parts = [_file(path, columns) for path in _files(data, task, split)]
    if len(parts) == 1:
        return parts[0]
    texts = [[text for part in parts for text in part.texts[k]] for k in range(len(task.texts))]
    labels = [label for part in parts for label in part.labels]
    return Rows(f"{data}/{task.name}/{split}", range(1, len(labels) + 1), texts, labels)


def _files(data: str, task: Task, split: str) -> list[Path]:
    """The files of a split in a folder, or in `mini`; ValueError says what is there instead."""
    folder = MINI if data == "mini" else Path(data)
    if not folder.is_dir():
        raise ValueError(f"data {data!r}: no such folder; accepted: hub, mini, or a folder with TASK/SPLIT files")
    if not (folder / task.name).is_dir():
        there = sorted(path.name for path in folder.iterdir() if path.is_dir())
        raise ValueError(f"data {data!r} has no task {task.name!r}; there: {', '.join(there) or 'nothing'}")
    found = [
        path
        for suffix in _SUFFIXES
        for pattern in (f"{split}.{suffix}", f"{split}-[0-9]*-of-[0-9]*.{suffix}")
        for path in sorted((folder / task.name).glob(pattern))
    ]
    if not found:
        there = sorted(path.name for path in (folder / task.name).iterdir())
        raise ValueError(f"{folder / task.name} has no split {split!r}; there: {', '.join(there) or 'nothing'}")
    return [path for path in found if path.suffix == found[0].suffix]


def _hub(task: Task, split: str) -> Any:
    import datasets
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import HfHubHTTPError

    datasets.disable_progress_bars()
    datasets.config.HF_HUB_OFFLINE |= not hub_is_reachable()  # pyright: ignore[reportAttributeAccessIssue]
    try:
        dataset = datasets.load_dataset(HUB, task.name, split=split)
    except (DatasetNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        raise ValueError(
            f"data 'hub': {HUB} is not in the cache and the hub cannot be reached ({type(error).__name__}); give "
            "--data a folder with TASK/SPLIT files, or fill the cache on a machine with access and copy HF_HOME, or "
            "try --data mini"
        ) from None
    return dataset.data.table


def _file(path: Path, columns: Sequence[str]) -> Rows:
    if path.suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        try:
            return _from_table(parquet.read_table(path), str(path), columns)
        except (pyarrow.ArrowException, OSError) as error:
            raise ValueError(f"{path}: {str(error).splitlines()[0]}") from None
    lines = [line for line in _lines(path) if line[1].strip()]
    if path.suffix == ".jsonl":
        numbered = [(number, _json(path, number, line)) for number, line in lines]
        return _from_records(numbered, sorted({key for _, record in numbered for key in record}), path, columns)
    csv.field_size_limit(2**31 - 1)
    reader = csv.DictReader(
        (line for _, line in lines),
        delimiter="\t" if path.suffix == ".tsv" else ",",
        quoting=csv.QUOTE_NONE if path.suffix == ".tsv" else csv.QUOTE_MINIMAL,
    )
    numbered = [(lines[reader.line_num - 1][0], record) for record in reader]
    for number, record in numbered:
        if None in record:
            raise ValueError(f"{path}, row {number}: more fields than the header's {len(reader.fieldnames or ())}")
    return _from_records(numbered, reader.fieldnames or (), path, columns)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        try:
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}, row {number}: not UTF-8 ({error.reason} at byte {error.start})") from None


def _json(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{path}, row {number}: not JSON ({error})") from None
    if not isinstance(record, dict):
        raise ValueError(f"{path}, row {number}: {line.strip()[:40]!r}; accepted: a JSON object a line")
    return record


def _from_records(
    records: list[tuple[int, dict[str, Any]]], header: Sequence[str], path: Path, columns: Sequence[str]
) -> Rows:
    _require(columns, header, str(path))
    found = {column: [record.get(column) for _, record in records] for column in columns}
    return _rows(str(path), [number for number, _ in records], found)


def _from_table(table: Any, origin: str, columns: Sequence[str]) -> Rows:
    _require(columns, table.column_names, origin)
    found = {column: _column(table[column], origin) for column in columns}
    return _rows(origin, range(1, table.num_rows + 1), found)


def _rows(origin: str, numbers: Sequence[int], columns: dict[str, list[Any]]) -> Rows:
    labels = columns.pop("label", [0] * len(numbers))
    return Rows(origin, numbers, list(columns.values()), labels)


def _column(column: Any, origin: str) -> list[Any]:
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        for i, value in enumerate(column):
            try:
                value.as_py()
            except UnicodeDecodeError as error:
                raise ValueError(f"{origin}, row {i + 1}: not UTF-8 ({error.reason})") from None
        raise


def _require(columns: Sequence[str], there: Sequence[str], origin: str) -> None:
    if missing := [column for column in columns if column not in there]:
        raise ValueError(f"{origin} has no column {missing[0]!r}; there: {', '.join(there) or 'nothing'}")
