"""Tables written to csv, tsv, jsonl, json or parquet, by suffix: whole, or not at all."""

import contextlib
import csv
import gzip
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from adakron_jax.data.formats import GZIP, WRITTEN, format_of, suffix_of
from adakron_jax.data.table import Table
from adakron_jax.io.files import appearing, check_writable
from adakron_jax.io.messages import printable

Add = Callable[[Table], None]
_NO_FIELD = re.compile("[\t\r\n]")  # what a field of a tsv without quotes cannot hold


@contextlib.contextmanager
def writing(path: Path, quoted: bool | None = None) -> Iterator[Add]:
    """Provides a function that adds a table's rows to a new file, which appears when the block ends without an error.

        with writing(Path("answers.csv")) as add:
            for part in parts(Path("questions.csv")):
                add(part)

    Args:
      quoted: whether quotes enclose fields that need it; by default they do in csv, and in tsv are part of the text.

    Raises:
      ValueError: the suffix is not one of `WRITTEN`, the folder does not exist, a later table has other columns than
        the first, or a value does not go into parquet, or into a tsv without quotes.
    """
    if (kind := format_of(path)) == "conll":
        raise ValueError(f"{printable(str(path))}: its name ends in {path.suffix!r}; accepted: {', '.join(WRITTEN)}")
    check_writable(path)
    with appearing(path) as aside:
        if kind == "parquet":
            with _to_parquet(aside) as add:
                yield add
            return
        with _opened(aside, suffix_of(path).endswith(GZIP)) as file:
            if kind == "jsonl":
                yield _to_jsonl(file)
            elif kind == "json":
                file.write("[")
                yield _to_json(file)
                file.write("\n]\n")
            elif kind == "tsv" and not quoted:
                yield _to_plain_tsv(file)
            else:
                yield _to_text(file, "\t" if kind == "tsv" else ",")


@contextlib.contextmanager
def writing_lines(path: Path) -> Iterator[Add]:
    """Does the same as `writing` for the texts of a table's one column, one per line."""
    check_writable(path)
    with appearing(path) as aside, _opened(aside, suffix_of(path).endswith(GZIP)) as file:
        yield lambda table: file.writelines(f"{text}\n" for (text,) in zip(*table.columns.values(), strict=True))


@contextlib.contextmanager
def _opened(path: Path, packed: bool) -> Iterator[io.TextIOBase]:
    with contextlib.ExitStack() as stack:
        if not packed:
            yield stack.enter_context(path.open("w", encoding="utf-8", newline=""))
            return
        disk = stack.enter_context(path.open("wb"))
        file = stack.enter_context(gzip.GzipFile("", "wb", fileobj=disk, mtime=0))
        yield stack.enter_context(io.TextIOWrapper(file, encoding="utf-8", newline=""))


def json_line(record: dict[str, Any]) -> str:
    """Writes a record as one line; a value that JSON cannot express, such as a date, as its text."""
    return json.dumps(record, ensure_ascii=False, default=str) + "\n"


def _to_jsonl(file: io.TextIOBase) -> Add:
    def add(table: Table) -> None:
        file.writelines(map(json_line, table.records()))

    return add


def _to_json(file: io.TextIOBase) -> Add:
    between = "\n"

    def add(table: Table) -> None:
        nonlocal between
        for record in table.records():
            file.write(between + json_line(record).removesuffix("\n"))
            between = ",\n"

    return add


class _UnixLines:
    """A file for `csv.writer`, which quotes a carriage return only where lines end in one."""

    def __init__(self, file: io.TextIOBase):
        self._file = file

    def write(self, line: str) -> None:
        self._file.write(line.removesuffix("\r\n") + "\n")


def _to_text(file: io.TextIOBase, delimiter: str) -> Add:
    writer = csv.writer(_UnixLines(file), delimiter=delimiter, lineterminator="\r\n")
    return _by_rows(lambda table, rows: writer.writerows(rows))


def _to_plain_tsv(file: io.TextIOBase) -> Add:
    def write(table: Table, rows: Iterator[list[str]]) -> None:
        for number, row in enumerate(rows):
            if any(map(_NO_FIELD.search, row)):
                at = table.at(number) if len(table) else table.origin
                raise ValueError(f"{at}: a tab or a line's end in a field; accepted in a tsv: none, without --quoting")
            file.write("\t".join(row) + "\n")

    return _by_rows(write)


def _by_rows(write: Callable[[Table, Iterator[list[str]]], None]) -> Add:
    """Returns a function that adds tables, the first with its header, by calling `write` with their spelled rows."""
    header: list[str] = []

    def add(table: Table) -> None:
        if not header:
            header.extend(table.columns)
            write(table, iter([header]))
        check_columns(table, header)
        write(table, ([_spelled(value) for value in row] for row in zip(*table.columns.values(), strict=True)))

    return add


def _spelled(value: Any) -> str:
    """Spells a value in a text format: None as an empty field, lists as JSON."""
    if isinstance(value, list | dict | bool):
        return json.dumps(value, ensure_ascii=False, default=str)
    return "" if value is None else str(value)


def check_columns(table: Table, header: list[str]) -> None:
    """Raises ValueError if a table has other columns than those before it."""
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
            kind = pyarrow.infer_type([kind]) if isinstance(kind, list) else kind
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
