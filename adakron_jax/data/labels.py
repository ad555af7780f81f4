"""Label columns of a table: what problem they pose, and their cells as targets."""

import itertools
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from jaxtyping import Shaped

from adakron_jax.data.table import Table
from adakron_jax.problem import KINDS, Problem

_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
SURROGATE = re.compile("[\ud800-\udfff]")  # half a character, which JSON can spell and UTF-8 cannot
_HOLDS = {"1": True, "true": True, "1.0": True, "0": False, "false": False, "0.0": False}


def infer(table: Table, columns: Sequence[str], kind: str = "auto") -> Problem:
    """What a table's label columns ask for.

    Several columns, or lists in one, are multilabel; numbers of which one has a fraction a regression (whose mean and
    scale are left at 0 and 1); all else a classification. Labels keep their spelling and are sorted, whole numbers by
    value, unless the table says their order; those of several columns are the columns' names.

    Args:
      kind: `auto`, or the kind that it has to be.

    Raises:
      ValueError: a column is missing, a cell is empty or of another kind, or there is but one label.
    """
    if kind not in (accepted := ("auto", *KINDS)):
        raise ValueError(f"problem is {kind!r}; accepted: {', '.join(accepted)}")
    if not len(table):
        raise ValueError(f"{table.origin}: no rows; accepted: at least one")
    if len(columns) > 1:
        if kind not in ("auto", "multilabel"):
            raise ValueError(f"label is {' '.join(columns)}, and problem {kind!r}; accepted: one column, or multilabel")
        return Problem("multilabel", tuple(columns))
    (column,) = columns
    cells = table[column]
    for row, cell in enumerate(cells):
        if cell is None or isinstance(cell, str) and not cell.strip():
            raise ValueError(f"{table.at(row)}: {column} is empty; accepted: a label in every row")
    if (kind := _kind(table, column) if kind == "auto" else kind) == "regression":
        return Problem("regression")
    if kind == "classification" and column in table.orders:
        return Problem(kind, table.orders[column])
    names = set(itertools.chain.from_iterable(_each(table, column, lambda cell: _names(cell, kind))))
    if len(names) < (2 if kind == "classification" else 1):
        only = f"only {short(min(names))}" if names else "no label at all"
        raise ValueError(f"{table.origin}: {column} has {only}; accepted: at least two labels, or a regression")
    by_value = all(map(_INTEGER.fullmatch, names))
    return Problem(kind, tuple(sorted(names, key=lambda name: (int(name) if by_value else 0, name))))


def targets(
    table: Table, columns: Sequence[str], problem: Problem, bounds: tuple[float, float] = (-math.inf, math.inf)
) -> Shaped[np.ndarray, "examples *labels"]:
    """The cells as the problem's targets: int32 codes, float64 numbers, or booleans [examples, labels].

    Args:
      bounds: of a regression's numbers.

    Raises:
      ValueError: a column is missing, or names the row whose cell is no label of the problem.
    """
    if len(columns) > 1:
        if problem.kind != "multilabel" or set(columns) != set(problem.labels):
            raise ValueError(f"label is {' '.join(columns)}; accepted: {', '.join(problem.labels) or 'one column'}")
        held = [np.fromiter(_each(table, column, _holds), bool, len(table)) for column in problem.labels]
        return np.stack(held, axis=-1)
    (column,) = columns
    if problem.kind == "regression":
        return np.fromiter(_each(table, column, lambda cell: _number(cell, bounds)), np.float64, len(table))
    codes = {name: code for code, name in enumerate(problem.labels)}

    def read(cell: Any) -> list[int]:
        names = _names(cell, problem.kind)
        if unknown := [name for name in names if name not in codes]:
            raise ValueError(f"{short(unknown[0])}; accepted: {_listed(problem.labels)}")
        return [codes[name] for name in names]

    if problem.kind == "classification":
        return np.fromiter((code for (code,) in _each(table, column, read)), np.int32, len(table))
    hold = np.zeros((len(table), len(codes)), bool)
    for row, held in enumerate(_each(table, column, read)):
        hold[row, held] = True
    return hold


def named(table: Table, column: str, labels: Sequence[str]) -> Table:
    """Rows whose label cells are names, or codes in the order of the labels, with names alone.

    Codes are taken for such only where no label is a whole number itself.

    Raises:
      ValueError: names the row whose cell is neither.
    """
    names, accepted = {name: name for name in labels}, labels
    if not any(map(_INTEGER.fullmatch, labels)):
        names |= {str(code): name for code, name in enumerate(labels)}
        accepted = [f"{code} ({name})" for code, name in enumerate(labels)]
    for row, cell in enumerate(table[column]):
        if str(cell) not in names:
            raise ValueError(f"{table.at(row)}: {column} is {short(cell)}; accepted: {_listed(accepted)}")
    return table.replaced(column, [names[str(cell)] for cell in table[column]])


def _each(table: Table, column: str, read: Callable[[Any], Any]) -> Iterator[Any]:
    """What a function makes of every cell; its ValueError is completed by where the cell stands."""
    for row, cell in enumerate(table[column]):
        try:
            value = read(cell)
        except ValueError as error:
            raise ValueError(f"{table.at(row)}: {column} is {error}") from None
        yield value


def _kind(table: Table, column: str) -> str:
    cells = table[column]
    if any(isinstance(cell, list) for cell in cells) or all(_list(cell) is not None for cell in cells):
        return "multilabel"
    numbers = [_as_number(cell) for cell in cells]
    if not any(number is not None and number % 1 for number in numbers):
        return "classification"
    if None in numbers:
        row = numbers.index(None)
        others = "accepted: a number as in other rows, or the problem said to be a classification"
        raise ValueError(f"{table.at(row)}: {column} is {short(cells[row])}; {others}")
    return "regression"


def _list(cell: Any) -> list[Any] | None:
    """A list, or a text that is one in JSON."""
    if isinstance(cell, str) and cell.lstrip().startswith("["):
        try:
            return json.loads(cell)
        except (ValueError, RecursionError):
            return None
    return cell if isinstance(cell, list) else None


def _as_number(cell: Any) -> float | None:
    """A finite number, or a text that spells one."""
    if isinstance(cell, str):
        return float(cell) if _NUMBER.fullmatch(cell.strip()) else None
    if isinstance(cell, bool) or not isinstance(cell, int | float | Decimal):
        return None
    return float(cell) if math.isfinite(cell) else None


def _number(cell: Any, bounds: tuple[float, float]) -> float:
    number, (low, high) = _as_number(cell), bounds
    if number is None or not (low <= number <= high and math.isfinite(number)):
        limits = f" from {low:g} to {high:g}" if math.isfinite(high - low) else ""
        raise ValueError(f"{short(cell)}; accepted: a number{limits}")
    return number


def _names(cell: Any, kind: str) -> list[str]:
    """The labels that a cell names: of a classification one."""
    if kind == "multilabel":
        if (cells := _list(cell)) is None:
            raise ValueError(f"{short(cell)}; accepted: a list of labels")
        return [_name(one) for one in cells]
    return [_name(cell)]


def _name(cell: Any) -> str:
    if isinstance(cell, str) and cell.strip() and not SURROGATE.search(cell):
        return cell
    if isinstance(cell, bool):
        return json.dumps(cell)
    if _as_number(cell) is None:
        raise ValueError(f"{short(cell)}; accepted: a text or a number")
    return str(cell)


def _holds(cell: Any) -> bool:
    if (word := str(cell).strip().lower()) not in _HOLDS:
        raise ValueError(f"{short(cell)}; accepted: 0, 1, false, true")
    return _HOLDS[word]


def short(cell: Any) -> str:
    """A cell as a message spells it."""
    spelled = repr(cell)
    return spelled if len(spelled) <= 60 else f"{spelled[:57]}..."


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return ", ".join(name if name.isprintable() else repr(name) for name in names[:20]) + more
