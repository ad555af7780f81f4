"""Tables of csv, tsv, jsonl, json or parquet, by suffix, read whole or in parts."""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from adakron_jax.data import conll, formats
from adakron_jax.data.formats import check, once, require
from adakron_jax.io.messages import printable, spelled

PART = 16_384  # rows read at a time


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of a file, as columns of equal length.

    Attributes:
      origin: the file, or another source of the rows.
      numbers: of the rows, from 1; in a text file, of the lines on which they begin.
      columns: name -> values: texts from csv and tsv, any values from JSON or parquet, None if missing.
      types: name -> type in parquet, of the columns that have one, or a list that has it.
      orders: name -> all classes in order, for columns whose source names them.
      share: share of the file that has been read so far, up to 1.
    """

    origin: str
    numbers: Sequence[int]
    columns: dict[str, list[Any]]
    types: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    orders: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    share: float = 1.0

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, column: str) -> list[Any]:
        """Returns a column's values; ValueError lists the columns if there is no such column."""
        require((column,), tuple(self.columns), self.origin)
        return self.columns[column]

    def at(self, row: int) -> str:
        """Returns a row's place, for a message."""
        return f"{printable(self.origin)}, row {self.numbers[row]}"

    def records(self) -> Iterator[dict[str, Any]]:
        """Yields each row as a dict."""
        return (dict(zip(self.columns, row, strict=True)) for row in zip(*self.columns.values(), strict=True))

    def replaced(self, column: str, values: list[Any]) -> "Table":
        """Returns the table with other values in a column."""
        return dataclasses.replace(self, columns={**self.columns, column: values})


def read(
    path: Path,
    columns: Sequence[str] | None = None,
    quoted: bool | None = None,
    watch: Callable[[float], None] = lambda share: None,
) -> Table:
    """Reads a whole file; see `parts`.

    Args:
      watch: called now and then with the share of the file that has been read.
    """
    numbers: list[int] = []
    whole: dict[str, list[Any]] = {}
    table = Table(str(path), [], {})
    for table in parts(path, columns, quoted=quoted):
        for name, values in table.columns.items():
            whole.setdefault(name, [None] * len(numbers)).extend(values)
        numbers.extend(table.numbers)
        watch(table.share)
    return dataclasses.replace(table, numbers=numbers, columns=whole, share=1.0)


def parts(
    path: Path, columns: Sequence[str] | None = None, size: int = PART, quoted: bool | None = None
) -> Iterator[Table]:
    """Yields the rows of a file in their order, at most `size` at a time; one empty table if the file has no rows.

    Blank lines are not rows, except in a tsv of one column, where they are empty texts. The columns of a jsonl file are
    the keys of its records so far. If csv or tsv has several columns of one name, which cannot be asked for, all but
    the first get a number appended.

    Args:
      columns: the columns to read; by default all. The words and tags of a CoNLL file take these names.
      quoted: whether quotes in csv and tsv enclose fields, or are part of them; by default they do in csv alone.

    Raises:
      ValueError: the file is missing, is not what its suffix says, or lacks a column; or a row is ragged, not UTF-8 or
        not JSON, and is named.
    """
    kind = check(path)
    if kind == "parquet":
        tables = _parquet(path, columns, size)
    elif kind == "conll" or (kind == "tsv" and conll.is_conll(path)):
        tables, columns = _conll(path, columns, size), None
    else:
        tables = (
            Table(str(path), numbers, values, share=share)
            for numbers, values, share in _text(path, kind, columns, size, kind == "csv" if quoted is None else quoted)
        )
    for table in tables:
        if columns is not None:
            require(columns, tuple(table.columns), table.origin)
            table = dataclasses.replace(table, columns={name: table.columns[name] for name in columns})
        yield table


def _text(
    path: Path, kind: formats.Format, columns: Sequence[str] | None, size: int, quoted: bool
) -> Iterator[formats.Part]:
    if kind in ("jsonl", "json"):
        return (formats.lines_of_json if kind == "jsonl" else formats.array_of_json)(path, size)
    return formats.delimited(path, "\t" if kind == "tsv" else ",", columns, size, quoted)


def _conll(path: Path, columns: Sequence[str] | None, size: int) -> Iterator[Table]:
    """Yields sentences, whose words and tags have no names: they become the first and the last column asked for."""
    asked = columns or (conll.WORDS, conll.TAGS)
    if len(asked) > 2:
        said = f"{printable(str(path))} has words and tags, and no column {spelled(asked[1])}"
        raise ValueError(f"{said}; accepted: two columns")
    for numbers, values, share in conll.tables(path, size):
        named = dict(zip(asked, (values[conll.WORDS], values[conll.TAGS]), strict=False))
        documents = {conll.DOCUMENT: values[conll.DOCUMENT]} if conll.DOCUMENT in values else {}
        yield Table(str(path), numbers, named | documents, share=share)


def _parquet(path: Path, columns: Sequence[str] | None, size: int) -> Iterator[Table]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            schema, total, done = file.schema_arrow, file.metadata.num_rows, 0
            names = schema.names if columns is None else list(columns)
            once(names, schema.names, str(path))
            types = {name: schema.field(name).type for name in names}
            orders = {name: order for name, order in _class_names(schema.metadata).items() if name in names}
            for batch in file.iter_batches(min(size, max(1, total)), columns=list(names)):
                numbers = range(done + 1, done + batch.num_rows + 1)
                values = {name: _values(batch[name], str(path), done) for name in names}
                done += batch.num_rows
                yield Table(str(path), numbers, values, types, orders, share=done / total)
            if not total:
                yield Table(str(path), [], {name: [] for name in names}, types, orders)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{printable(str(path))}: {printable(str(error).splitlines()[0])}") from None


def _class_names(metadata: Mapping[bytes, bytes] | None) -> dict[str, tuple[str, ...]]:
    """Returns the classes by column that `datasets` notes in a file's schema, in order of their codes."""
    try:
        features = json.loads((metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        kinds = {name: feature.get("feature", feature) for name, feature in features.items()}
        return {name: tuple(kind["names"]) for name, kind in kinds.items() if kind.get("_type") == "ClassLabel"}
    except (ValueError, KeyError, TypeError, AttributeError):  # another program's metadata
        return {}


def _values(column: Any, origin: str, before: int) -> list[Any]:
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        for i, value in enumerate(column):
            try:
                value.as_py()
            except UnicodeDecodeError as error:
                raise ValueError(f"{printable(origin)}, row {before + i + 1}: not UTF-8 ({error.reason})") from None
        raise
