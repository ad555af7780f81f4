"""Rows in memory: frames of pandas, polars, pyarrow and `datasets`, none of which is imported; and lists of dicts."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from adakron_jax.data.labels import plain
from adakron_jax.data.table import Table


def is_frame(values: Any) -> bool:
    """Whether something is a frame: it names its columns, gives them by name, and has a length, as no lazy one has."""
    subscripted = all(hasattr(values, name) for name in ("__getitem__", "__len__")) and not isinstance(values, Mapping)
    return subscripted and _names(values) is not None


def of_frame(frame: Any, columns: Sequence[str], origin: str = "the frame") -> Table:
    """Columns of a frame as a table, whose rows are numbered from 1; ValueError lists the columns if one is missing."""
    names = [str(name) for name in _names(frame)]
    numbers, given = range(1, len(frame) + 1), dict.fromkeys(names)
    table = Table(origin, numbers, {name: [] for name in given})
    cells, orders = {}, {}
    for name in columns:
        _ = table[name]  # refused with the names there are
        cells[name] = cells_of(frame[name])
        if classes := _class_names(frame, name):
            orders[name] = classes
    return Table(origin, numbers, cells, orders=orders)


def cells_of(column: Any) -> list[Any]:
    """The cells of a frame's column, or of another iterable, as Python's values; None where one is missing."""
    return [None if _is_missing(cell) else plain(cell) for cell in _listed(column)]


def of_records(records: Sequence[Mapping[str, Any]], columns: Sequence[str], origin: str) -> Table:
    """Columns of rows that are dicts as a table, as `of_frame`; a key that a row lacks is None there."""
    table = Table(origin, range(1, len(records) + 1), {str(name): [] for name in dict.fromkeys(chain(*records))})
    for name in columns:
        _ = table[name]  # refused with the names there are
    return dataclasses.replace(table, columns={name: [plain(row.get(name)) for row in records] for name in columns})


def frame_of(records: Sequence[Mapping[str, Any]], index: str = "") -> Any:
    """A pandas frame of a row for each record; `index`: the key that names the rows."""
    import pandas

    frame = pandas.DataFrame(records)
    return frame.set_index(index) if index else frame


def frame_like(frame: Any, columns: Mapping[str, Sequence[Any]]) -> Any:
    """A frame of the same library with these columns; of pandas with the same index."""
    kind = type(frame)
    if hasattr(frame, "index"):
        return kind(columns, index=frame.index)
    make = getattr(kind, "from_pydict", getattr(kind, "from_dict", kind))  # of pyarrow, of `datasets`; of polars itself
    return make(columns)


def _class_names(frame: Any, column: str) -> tuple[str, ...]:
    """All classes of a column, in order of their codes, where `datasets` says them."""
    feature = frame.features.get(column) if hasattr(type(frame), "features") else None
    feature = getattr(feature, "feature", feature)
    return tuple(getattr(feature, "names", ()))


def _names(values: Any) -> Any:
    """The columns' names; pyarrow and `datasets` call them so, pandas and polars `columns`.

    Its class is asked, since a column of pandas is an attribute of the frame too.
    """
    return next((getattr(values, name) for name in ("column_names", "columns") if hasattr(type(values), name)), None)


def _is_missing(cell: Any) -> bool:
    """Whether a cell is pandas' word for nothing."""
    return isinstance(cell, float) and math.isnan(cell) or type(cell).__name__ in ("NAType", "NaTType")


def _listed(column: Any) -> list[Any]:
    for method in ("to_pylist", "to_list", "tolist"):
        if hasattr(column, method):
            return getattr(column, method)()
    return list(column)
