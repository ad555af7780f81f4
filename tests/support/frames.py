"""A frame with the interface of polars' frames that our code uses; polars itself is not installed here."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


class Series:
    """A column."""

    def __init__(self, values: Sequence[Any]):
        self._values = list(values)

    def to_list(self) -> list[Any]:
        return list(self._values)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class Polars:
    """A frame of named columns."""

    def __init__(self, data: Mapping[str, Sequence[Any]]):
        self._data = {name: Series(values) for name, values in data.items()}

    @property
    def columns(self) -> list[str]:
        return list(self._data)

    def __getitem__(self, name: str) -> Series:
        return self._data[name]

    def __len__(self) -> int:
        return len(next(iter(self._data.values())))
