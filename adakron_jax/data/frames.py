"""Rows in memory: frames of pandas, polars, pyarrow and `datasets`, none of which is imported, and lists of dicts."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from adakron_jax.data.labels import plain
from adakron_jax.data.table import Table


def is_frame(values: Any) -> bool:
    """Returns whether a value is a frame: it names its columns, can be subscripted, and has a length (is not lazy)."""
    subscripted = all(hasattr(values, name) for name in ("__getitem__", "__len__")) and not isinstance(values, Mapping)
    return subscripted and _names(values) is not None


def of_frame(frame: Any, columns: Sequence[str], origin: str = "the frame") -> Table:
    """Returns columns of a frame as a table, with rows numbered from 1; ValueError lists all if one is missing."""
    names = [str(name) for name in _names(frame)]
    numbers, given = range(1, len(frame) + 1), dict.fromkeys(names)
    table = Table(origin, numbers, {name: [] for name in given})
    cells, orders = {}, {}
    for name in columns:
        _ = table[name]  # raises an error that lists the columns
        cells[name] = cells_of(frame[name])
        if classes := _class_names(frame, name):
            orders[name] = classes
    return Table(origin, numbers, cells, orders=orders)


def cells_of(column: Any) -> list[Any]:
    """Returns the cells of a frame's column, or of another iterable, as Python's values; None for missing ones."""
    return [None if _is_missing(cell) else plain(cell) for cell in _listed(column)]


def of_records(records: Sequence[Mapping[str, Any]], columns: Sequence[str], origin: str) -> Table:
    """Returns columns of rows that are dicts as a table, as `of_frame` does; a missing key becomes None."""
    table = Table(origin, range(1, len(records) + 1), {str(name): [] for name in dict.fromkeys(chain(*records))})
    for name in columns:
        _ = table[name]  # raises an error that lists the columns
    return dataclasses.replace(table, columns={name: [plain(row.get(name)) for row in records] for name in columns})


def frame_of(records: Sequence[Mapping[str, Any]], index: str = "") -> Any:
    """Returns a pandas frame with a row for each record; `index` is the key that names the rows."""
    import pandas

    frame = pandas.DataFrame(records)
    return frame.set_index(index) if index else frame


def frame_like(frame: Any, columns: Mapping[str, Sequence[Any]]) -> Any:
    """Returns a frame of the same library with these columns; for pandas, with the same index."""
    kind = type(frame)
    if hasattr(frame, "index"):
        return kind(columns, index=frame.index)
    make = getattr(kind, "from_pydict", getattr(kind, "from_dict", kind))  # pyarrow; `datasets`; polars' class itself
    return make(columns)


def _class_names(frame: Any, column: str) -> tuple[str, ...]:
    """Returns all classes of a column, in order of their codes, if `datasets` names them."""
    feature = frame.features.get(column) if hasattr(type(frame), "features") else None
    feature = getattr(feature, "feature", feature)
    return tuple(getattr(feature, "names", ()))


def _names(values: Any) -> Any:
    """Returns the columns' names, which are `column_names` in pyarrow and `datasets`, `columns` in pandas and polars.

    Looks at the class, since a column of a pandas frame is an attribute of the frame too.
    """
    return next((getattr(values, name) for name in ("column_names", "columns") if hasattr(type(values), name)), None)


def _is_missing(cell: Any) -> bool:
    """Returns whether a cell is one of pandas' missing values."""
    return isinstance(cell, float) and math.isnan(cell) or type(cell).__name__ in ("NAType", "NaTType")


def _listed(column: Any) -> list[Any]:
    for method in ("to_pylist", "to_list", "tolist"):
        if hasattr(column, method):
            return getattr(column, method)()
    return list(column)
