"""Descriptions of other programs' adapters: every field is used or refused by name, none is dropped."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import regex

from adakron_jax.io.fields import typed
from adakron_jax.io.files import read_json

Said = dict[str, Any]  # an object of JSON
MOST_LABELS = 1 << 16
MOST_SECONDS = 1.0  # most time that a pattern may take on a name


class Setting(NamedTuple):
    """How a field of a description expresses one of a method's, for reading and writing.

    Attributes:
      name: the method's field.
      kind: `int`, `float`, `bool`; or the description's value -> its meaning, the first of several being written.
      least: the least value of an `int`.
      default: the meaning if the description lacks the field.
    """

    name: str
    kind: type | Mapping[Any, Any] = int
    least: int = 1
    default: Any = None


Settings = Mapping[str, Setting]  # by the description's field


def written(settings: Settings, method: object) -> Said:
    """Returns the fields of a description for a method."""
    said = {}
    for field, (name, kind, *_) in settings.items():
        value = getattr(method, name)
        said[field] = value if isinstance(kind, type) else next(said for said, meant in kind.items() if meant == value)
    return said


class Fields:
    """The fields of a JSON object, which are taken one by one.

    Args:
      values: the object.
      where: the object's name in messages.
    """

    def __init__(self, values: object, where: str):
        if not isinstance(values, dict):
            raise ValueError(f"{where} is {values!r}; accepted: an object")
        self.left, self.where = dict(values), where

    @classmethod
    def read(cls, path: Path) -> "Fields":
        return cls(read_json(path), str(path))

    def settings(self, settings: Settings) -> Said:
        """Takes a method's fields from the description."""

        said = {}
        for field, (name, kind, least, default) in settings.items():
            if kind is int:
                said[name] = self.whole(field, least, default)
            elif isinstance(kind, type):
                said[name] = self.number(field, default) if kind is float else self.flag(field, bool(default))
            else:
                said[name] = self.any_of(field, kind, default)
        return said

    def refuse(self, name: str, value: object, accepted: str) -> ValueError:
        return ValueError(f"{self.where}: {name} is {value!r}, which is not supported; accepted: {accepted}")

    def _taken(self, name: str, default: Any, hint: Any, accepted: str, valid: Callable[[Any], bool]) -> Any:
        value = self.left.pop(name, default)
        try:
            read = typed(name, value, hint)
        except ValueError:
            raise self.refuse(name, value, accepted) from None
        if not valid(read):
            raise self.refuse(name, value, accepted)
        return read

    def whole(self, name: str, least: int = 1, default: int | None = None) -> int:
        """Takes a whole number of at least `least`."""
        return self._taken(name, default, int, f"a whole number of at least {least}", lambda value: value >= least)

    def number(self, name: str, default: float | None = None) -> float:
        return self._taken(name, default, float, "a number", math.isfinite)

    def flag(self, name: str, default: bool = False) -> bool:
        return self._taken(name, default, bool, "true or false", lambda value: True)

    def text(self, name: str) -> str:
        return self._taken(name, None, str, "a text", lambda value: True)

    def name(self, name: str) -> str:
        """Takes a text that is only a name; empty if there is none."""
        value = self.left.pop(name, None)
        return value if isinstance(value, str) else ""

    def any_of(self, name: str, accepted: Mapping[Any, Any] | Sequence[Any], default: Any = None) -> Any:
        """Takes one of several values; returns a mapping's entry for it."""
        value = self.left.pop(name, default)
        if isinstance(value, dict | list) or value not in accepted:
            raise self.refuse(name, value, ", ".join(map(str, accepted)))
        return accepted[value] if isinstance(accepted, Mapping) else value

    def wholes(self, name: str) -> Sequence[int]:
        """Takes whole numbers of at least 0; a single one, or none, counts as a list."""
        self._as_list(name)
        accepted = "whole numbers of at least 0"
        return self._taken(name, [], tuple[int, ...], accepted, lambda values: all(value >= 0 for value in values))

    def texts(self, name: str) -> Sequence[str]:
        """Takes texts; a single one, or none, counts as a list."""
        self._as_list(name)
        return self._taken(name, [], tuple[str, ...], "texts", lambda values: True)

    def _as_list(self, name: str) -> None:
        value = self.left.get(name)
        self.left[name] = [] if value is None else value if isinstance(value, list) else [value]

    def table(self, name: str, least: int | float) -> dict[str, int | float]:
        """Takes a table from names to numbers of at least `least`; a missing one counts as empty."""
        self.left[name] = self.left.get(name) or {}
        accepted = f"names with numbers of at least {least}"
        numbers = dict[str, int | float]
        return self._taken(name, {}, numbers, accepted, lambda table: all(x >= least for x in table.values()))

    def must(self, **accepted: object) -> None:
        """Takes fields for which one value is supported; a missing field has that value."""
        for name, value in accepted.items():
            if (said := self.left.pop(name, value)) != value:
                raise self.refuse(name, said, str(value).lower() if isinstance(value, bool) else repr(value))

    def ignore(self, *names: str) -> None:
        """Takes fields that do not affect what a trained adapter computes."""
        for name in names:
            self.left.pop(name, None)

    def done(self) -> None:
        """Raises ValueError if a field is left that says anything."""
        for name, value in self.left.items():
            if value not in (None, False, {}, [], 0, ""):
                raise ValueError(f"{self.where}: {name} is {value!r}, which is not known here; accepted: without it")


def labels_of(said: Mapping[str, object], count: int, where: str) -> tuple[str, ...]:
    """Returns label names by code, from `id2label`, else `label2id`; `LABEL_0`, ... if neither names them.

    Codes may be numbers or texts. A table of `LABEL_0`, ... alone, which transformers writes by default, does not
    count.

    Raises:
      ValueError: the codes are not 0 to `count - 1`, or the two disagree.
    """
    if count > MOST_LABELS:
        raise ValueError(f"{where}: num_labels is {count:,}; accepted: at most {MOST_LABELS:,}")
    default = tuple(f"LABEL_{code}" for code in range(count))
    tables = {}
    for key in ("id2label", "label2id"):
        if not (table := said.get(key)):
            continue
        names = _by_code(table, key == "id2label")
        if names is None or names.keys() != set(range(count)):
            raise ValueError(f"{where}: {key} is {table!r:.200}; accepted: names with the codes 0 to {count - 1}")
        if (ordered := tuple(names[code] for code in range(count))) != default:
            tables[key] = ordered
    for code, (name, *others) in enumerate(zip(*tables.values(), strict=True)):
        if others and others[0] != name:
            two = f"id2label says that {code} is {name!r}, label2id that it is {others[0]!r}"
            raise ValueError(f"{where}: {two}; accepted: the same in both")
    return next(iter(tables.values()), default)


def _by_code(table: object, code_first: bool) -> dict[int, str] | None:
    """Returns code -> name; None if the table is not of this form."""
    pairs = enumerate(table) if isinstance(table, list) else table.items() if isinstance(table, dict) else ()
    if isinstance(table, dict) and not code_first:
        pairs = ((code, name) for name, code in pairs)
    names: dict[int, str] = {}
    for code, name in pairs:
        digits = str(code) if isinstance(code, int | str) and not isinstance(code, bool) else ""
        if not (digits.isascii() and digits.isdigit() and isinstance(name, str)) or int(digits) in names:
            return None
        names[int(digits)] = name
    return names


def matches(pattern: str, name: str, where: str) -> bool:
    """Returns whether a regular expression of the description matches a whole name."""
    try:
        return regex.fullmatch(pattern, name, timeout=MOST_SECONDS) is not None
    except regex.error as error:
        raise ValueError(f"{where}: {pattern!r} is not a regular expression ({error})") from None
    except TimeoutError:
        raise ValueError(f"{where}: {pattern!r} takes too long to match; accepted: a simpler one") from None
