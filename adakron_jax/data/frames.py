"""Frames of pandas, polars, pyarrow and `datasets`, told by what they can do: none of them is imported."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from adakron_jax.data.table import Table


def is_frame(values: Any) -> bool:
    """Whether something is a frame: it names its columns, and gives them by name."""
    return hasattr(values, "__getitem__") and _names(values) is not None and not isinstance(values, Mapping)


def of_frame(frame: Any, columns: Sequence[str], origin: str = "the frame") -> Table:
    """Columns of a frame as a table, whose rows are numbered from 1; ValueError lists the columns if one is missing."""
    names = [str(name) for name in _names(frame)]
    numbers, given = range(1, len(frame) + 1), dict.fromkeys(names)
    table = Table(origin, numbers, {name: [] for name in given})
    cells = {}
    for name in columns:
        _ = table[name]  # refused with the names there are
        cells[name] = [None if _is_missing(cell) else cell for cell in _listed(frame[name])]
    return Table(origin, numbers, cells)


def _names(values: Any) -> Any:
    """The columns' names; pyarrow and `datasets` call them so, pandas and polars `columns`."""
    return getattr(values, "column_names", getattr(values, "columns", None))


def _is_missing(cell: Any) -> bool:
    """Whether a cell is pandas' word for nothing."""
    return isinstance(cell, float) and math.isnan(cell) or type(cell).__name__ in ("NAType", "NaTType")


def _listed(column: Any) -> list[Any]:
    for method in ("to_pylist", "to_list", "tolist"):
        if hasattr(column, method):
            return getattr(column, method)()
    return list(column)
