"""Cells of label columns: how they are spelled, which spellings are one label, and what else they may mean."""

import ast
import collections
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from adakron_jax.data.table import Table

_DECIMAL = re.compile(r"([+-]?)(0|[1-9]\d*)(?:\.(\d+))?", re.ASCII)  # no leading zero: 007 is a name
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
LARGEST = float(np.finfo(np.float32).max)
SURROGATE = re.compile("[\ud800-\udfff]")  # half a character, which JSON can spell and UTF-8 cannot
_ITEM = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[+-]?\d+(?:\.\d*)?|True|False|None"""
_PRINTED = re.compile(rf"\s*\[\s*(?:(?:{_ITEM})(?:\s*,\s*|\s+|(?=\])))*\]\s*", re.DOTALL)  # a list, or NumPy's array
_HOLDS = {"1": True, "true": True, "1.0": True, "0": False, "false": False, "0.0": False}


def decoded(table: Table) -> Table:
    """Replaces codes by names in columns whose source names all classes in order."""

    def name(cell: Any, order: Sequence[str]) -> Any:
        if isinstance(cell, list):
            return [name(item, order) for item in cell]
        return order[cell] if isinstance(cell, int) and cell in range(len(order)) else cell

    for column, order in table.orders.items():
        table = table.replaced(column, [name(cell, order) for cell in table[column]])
    return table


def read_cells(table: Table, column: str, read: Callable[[Any], Any]) -> Iterator[Any]:
    """Applies a function to every cell; its ValueError is extended by the place of the cell."""
    for row, cell in enumerate(table[column]):
        try:
            value = read(cell)
        except ValueError as error:
            raise ValueError(f"{table.at(row)}: {column} is {error}") from None
        yield value


def plain(cell: Any) -> Any:
    """Converts a cell from NumPy's types to Python's."""
    if isinstance(cell, np.generic):
        return cell.item()
    return cell.tolist() if isinstance(cell, np.ndarray) else cell


def value_of(name: str) -> str:
    """Returns what all spellings of a label share: a number's value, a boolean in lower case, else the name itself."""
    stripped = name.strip()
    if match := _DECIMAL.fullmatch(stripped):
        sign, whole, fraction = match.groups(default="")
        value = f"{whole}.{fraction}".rstrip("0").rstrip(".") if fraction else whole
        return f"-{value}" if sign == "-" and value != "0" else value
    return stripped.lower() if stripped.lower() in ("true", "false") else name


def is_whole(name: str) -> bool:
    """Returns whether a label is a whole number."""
    return value_of(name).removeprefix("-").isdecimal() and _DECIMAL.fullmatch(name.strip()) is not None


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Sorts labels, numbers by value, each in its most frequent spelling."""
    spellings: dict[str, list[str]] = {}
    counts = collections.Counter(names)
    for name in sorted(counts, key=lambda name: (-counts[name], len(name), name)):
        spellings.setdefault(value_of(name), []).append(name)
    by_value = all(map(_DECIMAL.fullmatch, spellings))
    order = sorted(spellings, key=lambda value: (Decimal(value) if by_value else 0, spellings[value][0]))
    return tuple(spellings[value][0] for value in order)


def as_list(cell: Any) -> list[Any] | None:
    """Returns a list, or the list that a text spells in JSON or as Python and NumPy print it; None for other cells."""
    cell = plain(cell)
    if not isinstance(cell, str):
        return cell if isinstance(cell, list) else None
    if not cell.lstrip().startswith("["):
        return None
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return [ast.literal_eval(item) for item in re.findall(_ITEM, cell)] if _PRINTED.fullmatch(cell) else None


def as_number(cell: Any) -> float | None:
    """Returns a number that fits in float32, or the one that a text spells; None for other cells."""
    cell = plain(cell)
    if isinstance(cell, str):
        spelled = _NUMBER.fullmatch(cell.strip())
    else:
        spelled = isinstance(cell, int | float | Decimal) and not isinstance(cell, bool)
    try:
        number = float(cell) if spelled else math.nan
    except OverflowError:  # an integer that no float can hold
        return None
    return number if abs(number) <= LARGEST else None


def name_of(cell: Any) -> str:
    """Returns the label that a cell names; ValueError if it is not a text, number or boolean."""
    cell = plain(cell)
    if isinstance(cell, str) and cell.strip() and not SURROGATE.search(cell):
        return cell
    if isinstance(cell, int):
        return json.dumps(cell)  # a boolean as JSON spells it
    if as_number(cell) is None:
        raise ValueError(f"{short(cell)}; accepted: a text or a number")
    return str(cell)


def holds(cell: Any) -> bool:
    """Returns whether a cell says that a label holds; ValueError if it says neither yes nor no."""
    if (word := str(plain(cell)).strip().lower()) not in _HOLDS:
        raise ValueError(f"{short(cell)}; accepted: 0, 1, false, true")
    return _HOLDS[word]


def short(cell: Any) -> str:
    """Spells a cell for a message."""
    spelled = repr(cell)
    return spelled if len(spelled) <= 60 else f"{spelled[:57]}..."


def listed(names: Sequence[str]) -> str:
    """Lists labels for a message."""
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return ", ".join(name if name.isprintable() else repr(name) for name in names[:20]) + more
