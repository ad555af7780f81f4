"""Text columns of a table, and lines of texts as tables."""

import os
import select
from collections.abc import Iterator, Sequence

from adakron_jax.data.labels import SURROGATE, short
from adakron_jax.data.table import Table

BLOCK = 2**20  # bytes read at a time


def texts(table: Table, columns: Sequence[str]) -> list[list[str]]:
    """The texts of columns; a cell without a value is an empty text.

    Raises:
      ValueError: a column is missing, or names the row whose cell is no text.
    """
    read = [["" if cell is None else cell for cell in table[name]] for name in columns]
    for name, cells in zip(columns, read, strict=True):
        for row, cell in enumerate(cells):
            if not isinstance(cell, str) or SURROGATE.search(cell):
                raise ValueError(f"{table.at(row)}: {name} is {short(cell)}; accepted: a text")
    return read


def lines(stream: int, columns: Sequence[str], size: int, origin: str = "stdin") -> Iterator[Table]:
    """The lines of a stream as tables: all that have come, up to `size`, and none is kept waiting for others.

    Args:
      stream: its file descriptor.
      columns: their names; of two, each line holds two texts with a tab between.

    Raises:
      ValueError: names the line that is not UTF-8, or has not two texts.
    """
    number = 1
    for group in _arrived(stream, size):
        numbers = range(number, number + len(group))
        rows = [_fields(line, len(columns), f"{origin}, line {at}") for at, line in zip(numbers, group, strict=True)]
        yield Table(origin, numbers, dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True)))
        number += len(group)


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
    """Whether there is something to read already."""
    return bool(select.select([stream], [], [], 0)[0])


def _fields(line: bytes, count: int, at: str) -> list[str]:
    try:
        text = line.decode("utf-8").removesuffix("\r").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError(f"{at}: not UTF-8 ({error.reason} at byte {error.start})") from None
    fields = text.split("\t") if count > 1 else [text]
    if len(fields) != count:
        raise ValueError(f"{at}: texts are {len(fields)}; accepted: {count}, with a tab between")
    return fields
