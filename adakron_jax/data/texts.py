"""Text columns of a table, and lines of text as tables."""

import os
import select
from collections.abc import Iterator, Sequence
from pathlib import Path

from adakron_jax.data.formats import Lines, grouped
from adakron_jax.data.labels import SURROGATE, short
from adakron_jax.data.table import Table

BLOCK = 2**20  # bytes read at a time


def texts(table: Table, columns: Sequence[str]) -> list[list[str]]:
    """Returns the texts of columns; a missing cell is an empty text.

    Raises:
      ValueError: a column is missing, or a cell is not a text; the row is named.
    """
    read = [["" if cell is None else cell for cell in table[name]] for name in columns]
    for name, cells in zip(columns, read, strict=True):
        for row, cell in enumerate(cells):
            if not isinstance(cell, str) or SURROGATE.search(cell):
                raise ValueError(f"{table.at(row)}: {name} is {short(cell)}; accepted: a text")
    return read


def lines(stream: int, columns: Sequence[str], size: int) -> Iterator[Table]:
    """Yields the lines of a stream as tables, up to `size` of those that have arrived, without waiting for more.

    Args:
      stream: its file descriptor.
      columns: their names; with two, each line holds two texts separated by a tab.

    Raises:
      ValueError: a line is not UTF-8, or does not have two texts; the line is named.
    """
    number = 1
    for group in _arrived(stream, size):
        numbers = range(number, number + len(group))
        rows = []
        for line, at in zip(group, (f"stdin, line {number}" for number in numbers), strict=True):
            rows.append(_fields(_decoded(line, at), len(columns), at))
        yield Table("stdin", numbers, dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True)))
        number += len(group)
    if number == 1:
        yield Table("stdin", [], {name: [] for name in columns})


def lines_of(path: Path, columns: Sequence[str], size: int) -> Iterator[Table]:
    """Yields the lines of a file as tables, as `lines` does; the file may be compressed by gzip."""
    with path.open("rb") as file:
        lines = Lines(path, file)
        rows = ((lines.number, _fields(line.rstrip("\r\n"), len(columns), lines.at(lines.number))) for line in lines)
        for group in grouped(rows, size):
            numbers, cells = zip(*group, strict=True)
            yield Table(str(path), numbers, dict(zip(columns, map(list, zip(*cells, strict=True)), strict=True)),
                        share=lines.share)  # fmt: skip
        if not lines.number:
            yield Table(str(path), [], {name: [] for name in columns})


def _arrived(stream: int, size: int) -> Iterator[list[bytes]]:
    lines, rest, ended = [], b"", False
    while not ended:
        block = os.read(stream, BLOCK)
        ended = not block
        *whole, rest = (rest + block).split(b"\n")
        lines += whole + ([rest] if ended and rest else [])
        while len(lines) >= size or (lines and (ended or not _more(stream))):
            yield lines[:size]
            del lines[:size]


def _more(stream: int) -> bool:
    """Returns whether there is something to read now."""
    return bool(select.select([stream], [], [], 0)[0])


def _decoded(line: bytes, at: str) -> str:
    try:
        return line.decode("utf-8").removesuffix("\r").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError(f"{at}: not UTF-8 ({error.reason} at byte {error.start})") from None


def _fields(text: str, count: int, at: str) -> list[str]:
    fields = text.split("\t") if count > 1 else [text]
    if len(fields) != count:
        raise ValueError(f"{at}: {len(fields)} texts; accepted: {count}, with a tab between")
    return fields
