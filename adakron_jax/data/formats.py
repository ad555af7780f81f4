"""The text formats of tables, by suffix: csv, tsv, jsonl and json, each also compressed by gzip.

They are read with the standard library: pyarrow's readers guess types (`01` becomes 1, `NA` nothing) and cannot say on
which line a row is.
"""

import csv
import gzip
import itertools
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

from adakron_jax.io.messages import listed, printable, spelled

Part = tuple[Sequence[int], dict[str, list[Any]], float]  # rows' numbers, their columns, share of the file read
Format = Literal["csv", "tsv", "jsonl", "json", "parquet", "conll"]
FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".conll": "conll",
    ".txt": "conll",
}
GZIP = ".gz"
SUFFIXES = tuple(suffix + end for suffix in FORMATS for end in ("", GZIP) if (suffix, end) != (".parquet", GZIP))
WRITTEN = tuple(suffix for suffix in SUFFIXES if FORMATS[suffix.removesuffix(GZIP)] != "conll")
ACCEPTED = f"{', '.join(FORMATS)}, or one of the text formats with {GZIP}"
MAGIC = {b"PAR1": "parquet", b"PK\3\4": "a zip or a spreadsheet", b"\x1f\x8b": "gzip", b"\xff\xfe": "UTF-16"}
OTHERS = ";\t|"  # delimiters that a table called csv may use instead


def suffix_of(path: Path) -> str:
    """Returns the end of a file's name that tells its format, `.csv` or `.csv.gz`; empty if it tells none."""
    name = path.name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix) and name != suffix), "")


def format_of(path: Path) -> Format:
    """Returns a file's format by its name; ValueError if the name tells none."""
    if not (suffix := suffix_of(path)):
        raise ValueError(f"{printable(str(path))}: its name ends in {path.suffix!r}; accepted: {ACCEPTED}")
    return FORMATS[suffix.removesuffix(GZIP)]


def is_text(path: Path) -> bool:
    """Returns whether a file's name says that it may hold one text per line."""
    return suffix_of(path).removesuffix(GZIP) == ".txt"


def check(path: Path) -> Format:
    """Returns a file's format by its name; ValueError if there is no such file, or the name tells none."""
    try:
        present = path.is_file()
    except OSError as error:
        raise ValueError(f"{spelled(str(path))}: {error.strerror}; accepted: a file of a table") from None
    if not present:
        what = "a broken link" if path.is_symlink() else "a folder" if path.is_dir() else "no such file"
        raise ValueError(f"{printable(str(path))}: {what}; accepted: a file, {ACCEPTED}")
    return format_of(path)


def require(columns: Sequence[str], headers: Sequence[str], origin: str) -> None:
    """Raises ValueError that names the first missing column, and the columns that exist, or similar ones."""
    present = set(headers)
    if missing := [column for column in columns if column not in present]:
        split = len(headers) == 1 and next((mark for mark in OTHERS if mark in headers[0]), "")
        hint = f"; its fields stand apart by {split!r}; accepted: commas, or tabs in a .tsv" if split else ""
        raise ValueError(
            f"{printable(origin)} has no column {spelled(missing[0])}; available: {listed(headers, missing[0])}{hint}"
        )


def once(columns: Sequence[str], header: Sequence[str], origin: str) -> None:
    """Raises ValueError that names the first of the columns that a header lacks, or holds several times."""
    require(columns, header, origin)
    times = Counter(header)
    if several := [name for name in columns if times[name] > 1]:
        count = "twice" if times[several[0]] == 2 else f"{times[several[0]]} times"
        raise ValueError(f"{printable(origin)}: has column {spelled(several[0])} {count}; accepted: once")


def distinct(header: Sequence[str]) -> list[str]:
    """Returns a header's names, where each repeated name gets a number: `a`, `a.1`."""
    names: dict[str, None] = {}
    last: dict[str, int] = {}
    taken = set(header)
    for name in header:
        unique = name
        while unique in names or (unique != name and unique in taken):
            last[name] = last.get(name, 0) + 1
            unique = f"{name}.{last[name]}"
        names[unique] = None
    return list(names)


class Lines:
    """A text file's decoded lines, with any line ends; `number` counts them, `share` is the share of the file read."""

    def __init__(self, path: Path, file: BinaryIO):
        self._path, self._disk = printable(str(path)), file
        self._file = gzip.GzipFile(fileobj=file) if suffix_of(path).endswith(GZIP) else file
        self._size = max(1, path.stat().st_size)
        self.number = 0

    @property
    def share(self) -> float:
        return min(1.0, self._disk.tell() / self._size)

    def at(self, number: int) -> str:
        return f"{self._path}, row {number}"

    def __iter__(self) -> Iterator[str]:
        for block in self._blocks():
            if not self.number and (magic := next(filter(block.startswith, MAGIC), None)):
                raise ValueError(f"{self._path}: begins like {MAGIC[magic]}; accepted: what its suffix says, in UTF-8")
            for line in block.splitlines(keepends=True):
                self.number += 1
                if b"\0" in line:
                    raise ValueError(f"{self.at(self.number)}: has a byte of 0; accepted: text in UTF-8")
                try:
                    yield line.decode("utf-8-sig" if self.number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    at = f"{self.at(self.number)}: not UTF-8"
                    raise ValueError(f"{at} ({error.reason} at byte {error.start})") from None

    def _blocks(self) -> Iterator[bytes]:
        try:
            yield from self._file
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{self._path}: damaged gzip after row {self.number} ({error})") from None


def delimited(path: Path, delimiter: str, columns: Sequence[str] | None, size: int, quoted: bool) -> Iterator[Part]:
    csv.field_size_limit(2**31 - 1)
    with path.open("rb") as file:
        lines = Lines(path, file)
        quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
        reader = csv.reader(iter(lines), delimiter=delimiter, quoting=quoting, strict=quoted)
        records = _fields(lines, reader, blank_is_text=not quoted)
        _, header = next(records, (0, []))
        if not header:
            raise ValueError(f"{printable(str(path))}: no header; accepted: the columns' names in the first line")
        once(columns or (), header, str(path))
        header = distinct(header)
        empty = True
        for group in grouped(records, size):
            numbers, rows = zip(*group, strict=True)
            yield numbers, dict(zip(header, map(list, zip(*rows, strict=True)), strict=True)), lines.share
            empty = False
        if empty:
            yield [], {name: [] for name in header}, 1.0


def _fields(lines: Lines, reader: Iterator[list[str]], blank_is_text: bool) -> Iterator[tuple[int, list[str]]]:
    """Yields the records with the numbers of their first lines; the first is the header.

    Args:
      blank_is_text: whether a blank line in a table of one column is an empty text.
    """
    width, number, header = 0, 1, ""
    try:
        for fields in reader:
            if not fields and width == 1 and blank_is_text:
                fields = [""]
            blank = len(fields) == 1 != width and not fields[0].strip()
            if fields and not blank:
                width, header = width or len(fields), header or fields[0]
                if len(fields) != width:
                    names = f", {spelled(header)}" if width == 1 else ""
                    raise ValueError(f"{lines.at(number)}: {len(fields)} fields; accepted: the header's {width}{names}")
                yield number, fields
            number = lines.number + 1
    except csv.Error as error:
        raise ValueError(
            f"{lines.at(number)}: {error}; accepted: quotes around a whole field, two for one within"
        ) from None


def lines_of_json(path: Path, size: int) -> Iterator[Part]:
    with path.open("rb") as file:
        lines = Lines(path, file)
        yield from _records(_objects(lines), size, lambda: lines.share)
        if not lines.number:
            yield [], {}, 1.0


def array_of_json(path: Path, size: int) -> Iterator[Part]:
    """Yields the objects of an array, which is read whole; or lines of JSON, which also come with this suffix."""
    with path.open("rb") as file:
        first = next((line for line in Lines(path, file) if line.strip()), "")
    if not first.lstrip().startswith("["):
        yield from lines_of_json(path, size)
        return
    with path.open("rb") as file:
        text = "".join(Lines(path, file))
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{printable(str(path))}: not JSON ({error})") from None
    for number, value in enumerate(values, 1):
        if not isinstance(value, dict):
            raise ValueError(f"{printable(str(path))}, row {number}: {repr(value)[:40]}; accepted: an object per row")
    yield from _records(iter(enumerate(values, 1)), size, lambda: 1.0)
    if not values:
        yield [], {}, 1.0


def _records(objects: Iterator[tuple[int, dict[str, Any]]], size: int, share: Callable[[], float]) -> Iterator[Part]:
    """Yields tables of numbered objects, with all keys so far as columns."""
    header: dict[str, None] = {}
    for group in grouped(objects, size):
        header |= {key: None for _, record in group for key in record}
        columns = {key: [record.get(key) for _, record in group] for key in header}
        yield [number for number, _ in group], columns, share()


def _objects(lines: Lines) -> Iterator[tuple[int, dict[str, Any]]]:
    for line in lines:
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{lines.at(lines.number)}: not JSON ({error})") from None
        if not isinstance(record, dict):
            raise ValueError(f"{lines.at(lines.number)}: {line.strip()[:40]!r}; accepted: an object per line")
        yield lines.number, record


def grouped(records: Iterator[Any], size: int) -> Iterator[list[Any]]:
    return iter(lambda: list(itertools.islice(records, size)), [])
