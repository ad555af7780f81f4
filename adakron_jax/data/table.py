"""Tables of csv, tsv, jsonl or parquet, by suffix, read whole or in parts.

The standard library reads the text formats: pyarrow's readers guess types (`01` becomes 1, `NA` nothing) and cannot
say on which line a row stands.
"""

import csv
import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
PART = 16_384  # rows read at a time
_MAGIC = {b"PAR1": "parquet", b"PK\3\4": "a zip or a spreadsheet", b"\x1f\x8b": "gzip", b"\xff\xfe": "UTF-16"}


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of a file, as columns of equal length.

    Attributes:
      origin: the file, or whatever else the rows are from.
      numbers: of the rows, from 1; in a text file, of the lines on which they begin.
      columns: name -> values: texts of csv and tsv, whatever JSON or parquet has of the others, None for none.
      types: name -> type in parquet, of the columns that have one.
      orders: name -> all classes in order, of the columns for which the source says them.
      share: how much of the file has been read up to here, of 1.
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
        """A column's values; ValueError lists the columns there are if this is none of them."""
        require((column,), tuple(self.columns), self.origin)
        return self.columns[column]

    def at(self, row: int) -> str:
        """Where a row stands, for a message."""
        return f"{printable(self.origin)}, row {self.numbers[row]}"

    def replaced(self, column: str, values: list[Any]) -> "Table":
        """The table with other values in a column."""
        return dataclasses.replace(self, columns={**self.columns, column: values})


def printable(text: str) -> str:
    """A text with its control characters escaped, so that no file can steer a terminal."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def require(columns: Sequence[str], there: Sequence[str], origin: str) -> None:
    """ValueError names the first of the columns that is not there, and those that are."""
    if missing := [column for column in columns if column not in there]:
        names = ", ".join(map(printable, there)) or "nothing"
        raise ValueError(f"{printable(origin)} has no column {missing[0]!r}; there: {names}")


def refuse_twice(header: Sequence[str], origin: str) -> None:
    """ValueError names the first column that stands there twice."""
    if twice := [name for i, name in enumerate(header) if name in header[:i]]:
        raise ValueError(f"{printable(origin)}: has column {twice[0]!r} twice; accepted: every column once")


def read(
    path: Path,
    columns: Sequence[str] | None = None,
    quoted: bool = True,
    watch: Callable[[float], None] = lambda share: None,
) -> Table:
    """A whole file; see `parts`. `watch` is told, every now and then, which share of it has been read."""
    numbers: list[int] = []
    whole: dict[str, list[Any]] = {}
    table = Table(str(path), [], {})
    for table in parts(path, columns, quoted=quoted):
        for name, values in table.columns.items():
            whole.setdefault(name, [None] * len(numbers)).extend(values)
        numbers.extend(table.numbers)
        watch(table.share)
    return dataclasses.replace(table, numbers=numbers, columns=whole, share=1.0)


def parts(path: Path, columns: Sequence[str] | None = None, size: int = PART, quoted: bool = True) -> Iterator[Table]:
    """The rows of a file in their order, at most `size` at a time; one empty table of a file without rows.

    Blank lines are no rows. The columns of a jsonl file are the keys of its records so far.

    Args:
      columns: which of them; by default all.
      quoted: whether quotes in csv and tsv enclose fields, or are part of them.

    Raises:
      ValueError: the file is missing, not what its suffix says, or without a column; or the row of it that is ragged,
        not UTF-8 or not JSON.
    """
    kind = check(path)
    if kind == ".parquet":
        tables = _parquet(path, columns, size)
    elif kind == ".jsonl":
        tables = _jsonl(path, size)
    else:
        tables = _delimited(path, "\t" if kind == ".tsv" else ",", size, quoted)
    for table in tables:
        if columns is not None:
            require(columns, tuple(table.columns), table.origin)
            table = dataclasses.replace(table, columns={name: table.columns[name] for name in columns})
        yield table


def check(path: Path) -> str:
    """The suffix, which says what is in the file; ValueError if there is no such file, or it says nothing."""
    if not path.is_file():
        raise ValueError(f"{printable(str(path))}: no such file; accepted: a csv, tsv, jsonl or parquet file")
    if (kind := path.suffix.lower()) not in SUFFIXES:
        raise ValueError(f"{printable(str(path))}: its name ends in {kind!r}; accepted: {', '.join(SUFFIXES)}")
    return kind


class _Lines:
    """A text file's lines, at whichever kind of line end, decoded; `number` counts them, `share` says how far it is."""

    def __init__(self, path: Path, file: BinaryIO):
        self._path, self._file, self._read = printable(str(path)), file, 0
        self._size = max(1, path.stat().st_size)
        self.number = 0

    @property
    def share(self) -> float:
        return self._read / self._size

    def at(self, number: int) -> str:
        return f"{self._path}, row {number}"

    def __iter__(self) -> Iterator[str]:
        for block in self._file:
            if not self._read and (magic := next(filter(block.startswith, _MAGIC), None)):
                raise ValueError(f"{self._path}: begins like {_MAGIC[magic]}; accepted: what its suffix says, in UTF-8")
            self._read += len(block)
            for line in block.splitlines(keepends=True):
                self.number += 1
                if b"\0" in line:
                    raise ValueError(f"{self.at(self.number)}: has a byte of 0; accepted: text in UTF-8")
                try:
                    yield line.decode("utf-8-sig" if self.number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    at = f"{self.at(self.number)}: not UTF-8"
                    raise ValueError(f"{at} ({error.reason} at byte {error.start})") from None


def _delimited(path: Path, delimiter: str, size: int, quoted: bool) -> Iterator[Table]:
    csv.field_size_limit(2**31 - 1)
    with path.open("rb") as file:
        lines = _Lines(path, file)
        quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
        records = _fields(lines, csv.reader(iter(lines), delimiter=delimiter, quoting=quoting, strict=quoted))
        _, header = next(records, (0, []))
        if not header:
            raise ValueError(f"{printable(str(path))}: no header; accepted: the columns' names in the first line")
        refuse_twice(header, str(path))
        table = Table(str(path), [], {name: [] for name in header})
        for group in _grouped(records, size):
            numbers, rows = zip(*group, strict=True)
            columns = zip(header, map(list, zip(*rows, strict=True)), strict=True)
            table = Table(str(path), numbers, dict(columns), share=lines.share)
            yield table
        if not len(table):
            yield table


def _fields(lines: _Lines, reader: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """The records with the numbers of their first lines; the header is the first."""
    width, number = 0, 1
    try:
        for fields in reader:
            blank = len(fields) == 1 != width and not fields[0].strip()
            if fields and not blank:
                width = width or len(fields)
                if len(fields) != width:
                    raise ValueError(f"{lines.at(number)}: {len(fields)} fields; accepted: the header's {width}")
                yield number, fields
            number = lines.number + 1
    except csv.Error as error:
        raise ValueError(
            f"{lines.at(number)}: {error}; accepted: quotes around a whole field, two for one within"
        ) from None


def _jsonl(path: Path, size: int) -> Iterator[Table]:
    header: dict[str, None] = {}
    with path.open("rb") as file:
        lines = _Lines(path, file)
        for group in _grouped(_objects(lines), size):
            header |= {key: None for _, record in group for key in record}
            columns = {key: [record.get(key) for _, record in group] for key in header}
            yield Table(str(path), [number for number, _ in group], columns, share=lines.share)
    if not lines.number:
        yield Table(str(path), [], {})


def _objects(lines: _Lines) -> Iterator[tuple[int, dict[str, Any]]]:
    for line in lines:
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{lines.at(lines.number)}: not JSON ({error})") from None
        if not isinstance(record, dict):
            raise ValueError(f"{lines.at(lines.number)}: {line.strip()[:40]!r}; accepted: a JSON object a line")
        yield lines.number, record


def _grouped(records: Iterator[Any], size: int) -> Iterator[list[Any]]:
    return iter(lambda: list(itertools.islice(records, size)), [])


def _parquet(path: Path, columns: Sequence[str] | None, size: int) -> Iterator[Table]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            schema, total, done = file.schema_arrow, file.metadata.num_rows, 0
            require(columns or (), schema.names, str(path))
            refuse_twice(schema.names, str(path))
            names = schema.names if columns is None else columns
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
    """The classes by column that `datasets` notes in a file's schema, in order of their codes."""
    try:
        features = json.loads((metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        kinds = {name: feature.get("feature", feature) for name, feature in features.items()}
        return {name: tuple(kind["names"]) for name, kind in kinds.items() if kind.get("_type") == "ClassLabel"}
    except (ValueError, KeyError, TypeError, AttributeError):  # another program's note
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
