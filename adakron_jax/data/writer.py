"""Tables written to csv, tsv, jsonl or parquet, by suffix: whole, or not at all."""

import contextlib
import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from adakron_jax.data.table import SUFFIXES, Table, printable
from adakron_jax.files import appearing

Add = Callable[[Table], None]


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Add]:
    """Gives a function that adds a table's rows to a new file, which appears when the block ends without an error.

        with writing(Path("answers.csv")) as add:
            for part in parts(Path("questions.csv")):
                add(part)

    Raises:
      ValueError: the suffix is none of `SUFFIXES`, the folder is not there, a later table has other columns than the
        first, or a value does not go into parquet.
    """
    if (kind := path.suffix.lower()) not in SUFFIXES:
        raise ValueError(f"{printable(str(path))}: its name ends in {kind!r}; accepted: {', '.join(SUFFIXES)}")
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"{printable(str(path))}: accepted: a file's name in a folder that is there")
    with appearing(path) as aside:
        if kind == ".parquet":
            with _to_parquet(aside) as add:
                yield add
        else:
            with aside.open("w", encoding="utf-8", newline="") as file:
                yield _to_jsonl(file) if kind == ".jsonl" else _to_text(file, "\t" if kind == ".tsv" else ",")


def json_line(record: dict[str, Any]) -> str:
    """A record as one line; what JSON has no word for, such as a date, as its text."""
    return json.dumps(record, ensure_ascii=False, default=str) + "\n"


def _to_jsonl(file: TextIO) -> Add:
    def add(table: Table) -> None:
        for values in zip(*table.columns.values(), strict=True):
            file.write(json_line(dict(zip(table.columns, values, strict=True))))

    return add


class _UnixLines:
    """A file for `csv.writer`, which quotes a carriage return only where lines end in one."""

    def __init__(self, file: TextIO):
        self._file = file

    def write(self, line: str) -> None:
        self._file.write(line.removesuffix("\r\n") + "\n")


def _to_text(file: TextIO, delimiter: str) -> Add:
    writer = csv.writer(_UnixLines(file), delimiter=delimiter, lineterminator="\r\n")
    header: list[str] = []

    def add(table: Table) -> None:
        if not header:
            header.extend(table.columns)
            writer.writerow(header)
        check_columns(table, header)
        rows = zip(*table.columns.values(), strict=True)
        writer.writerows([_spelled(value) for value in row] for row in rows)

    return add


def _spelled(value: Any) -> str:
    """A value in a text format: nothing as an empty field, lists as JSON."""
    if isinstance(value, list | dict | bool):
        return json.dumps(value, ensure_ascii=False, default=str)
    return "" if value is None else str(value)


def check_columns(table: Table, header: list[str]) -> None:
    """ValueError if a table has other columns than those before it."""
    if list(table.columns) != header:
        others = ", ".join(printable(name) for name in table.columns if name not in header)
        raise ValueError(f"{table.at(0)}: has the new columns {others}; accepted: those of the rows before")


@contextlib.contextmanager
def _to_parquet(path: Path) -> Iterator[Add]:
    import pyarrow
    from pyarrow import parquet

    def arrow(table: Table, schema: pyarrow.Schema | None) -> pyarrow.Table:
        arrays = {}
        for name, values in table.columns.items():
            kind = table.types.get(name) if schema is None else schema.field(name).type
            try:
                array = pyarrow.array(values, kind)
            except (pyarrow.ArrowException, OverflowError, TypeError) as error:
                said = str(error).splitlines()[0]
                raise ValueError(f"{table.origin}, column {name!r}: {said}; accepted: values of one type") from None
            arrays[name] = array.cast(pyarrow.string()) if pyarrow.types.is_null(array.type) else array
        return pyarrow.table(arrays)

    with contextlib.ExitStack() as stack:
        writer: parquet.ParquetWriter | None = None

        def add(table: Table) -> None:
            nonlocal writer
            if writer is None:
                rows = arrow(table, None)
                writer = stack.enter_context(parquet.ParquetWriter(path, rows.schema))
            else:
                check_columns(table, writer.schema.names)
                rows = arrow(table, writer.schema)
            writer.write_table(rows)

        yield add
