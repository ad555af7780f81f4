"""Cells of label columns: how they are spelled, and what they can be read as."""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any

from adakron_jax.data.table import Table

INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
SURROGATE = re.compile("[\ud800-\udfff]")  # half a character, which JSON can spell and UTF-8 cannot
_HOLDS = {"1": True, "true": True, "1.0": True, "0": False, "false": False, "0.0": False}


def each(table: Table, column: str, read: Callable[[Any], Any]) -> Iterator[Any]:
    """What a function makes of every cell; its ValueError is completed by where the cell stands."""
    for row, cell in enumerate(table[column]):
        try:
            value = read(cell)
        except ValueError as error:
            raise ValueError(f"{table.at(row)}: {column} is {error}") from None
        yield value


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Labels sorted; whole numbers by value."""
    known = set(names)
    by_value = all(map(INTEGER.fullmatch, known))
    return tuple(sorted(known, key=lambda name: (int(name) if by_value else 0, name)))


def as_list(cell: Any) -> list[Any] | None:
    """A list, or a text that is one in JSON."""
    if isinstance(cell, str) and cell.lstrip().startswith("["):
        try:
            return json.loads(cell)
        except (ValueError, RecursionError):
            return None
    return cell if isinstance(cell, list) else None


def as_number(cell: Any) -> float | None:
    """A finite number, or a text that spells one."""
    if isinstance(cell, str):
        return float(cell) if _NUMBER.fullmatch(cell.strip()) else None
    if isinstance(cell, bool) or not isinstance(cell, int | float | Decimal):
        return None
    return float(cell) if math.isfinite(cell) else None


def name_of(cell: Any) -> str:
    """The label that a cell names; ValueError if it is no text, number or boolean."""
    if isinstance(cell, str) and cell.strip() and not SURROGATE.search(cell):
        return cell
    if isinstance(cell, bool):
        return json.dumps(cell)
    if as_number(cell) is None:
        raise ValueError(f"{short(cell)}; accepted: a text or a number")
    return str(cell)


def holds(cell: Any) -> bool:
    """Whether a cell says that a label holds; ValueError if it says neither."""
    if (word := str(cell).strip().lower()) not in _HOLDS:
        raise ValueError(f"{short(cell)}; accepted: 0, 1, false, true")
    return _HOLDS[word]


def short(cell: Any) -> str:
    """A cell as a message spells it."""
    spelled = repr(cell)
    return spelled if len(spelled) <= 60 else f"{spelled[:57]}..."


def listed(names: Sequence[str]) -> str:
    """Labels as a message lists them."""
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return ", ".join(name if name.isprintable() else repr(name) for name in names[:20]) + more
