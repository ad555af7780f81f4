"""Fields read from JSON, TOML and words: converted to their declared types, or refused with one kind of message.

Methods, runs, cards and results are dataclasses whose type hints say what is accepted: a plain type, a class, a tuple
or a mapping of one, a Literal, or a union of these. Other hints, as other packages' methods may have, are ignored.
"""

import contextlib
import dataclasses
import functools
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

T = TypeVar("T")
hints_of = functools.cache(typing.get_type_hints)


def typed(name: str, value: Any, hint: Any, accepted: str = "") -> Any:
    """Converts a value to a hint's type: a list to a tuple, a whole number to a float where that is declared.

    >>> typed("r", [1, 2], tuple[float, ...])
    (1.0, 2.0)

    Args:
      accepted: what a message says in place of the hint.

    Raises:
      ValueError: the value is of another type; it is named with what is accepted.
    """
    try:
        return _converted(value, hint)
    except (TypeError, OverflowError):
        shown = tuple(value) if isinstance(value, list) and typing.get_origin(hint) is tuple else value
        raise ValueError(f"{name} is {shown!r}; accepted: {accepted or in_words(hint)}") from None


def _converted(value: Any, hint: Any) -> Any:
    """Does the same as `typed`; TypeError if the value is of another type."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        for member in inner:
            with contextlib.suppress(TypeError):
                return _converted(value, member)
    elif origin is Literal:
        if value in inner:
            return value
    elif origin is tuple:
        if isinstance(value, list | tuple):
            return tuple(_converted(item, inner[0]) for item in value)
    elif origin is not None:
        if isinstance(value, Mapping):
            return {_converted(key, inner[0]): _converted(item, inner[1]) for key, item in value.items()}
    elif hint is Any or not isinstance(hint, type):
        return value
    elif isinstance(value, bool):
        if hint in (bool, object):
            return value
    elif isinstance(value, hint):
        return value
    elif hint is float and isinstance(value, int):
        return float(value)
    raise TypeError


def from_words(name: str, words: Sequence[str], hint: Any) -> Any:
    """Converts words of a command line to a hint's type: any number of words for a tuple, otherwise one.

    Raises:
      ValueError: there are several words, or one spells no such value.
    """
    many = typing.get_origin(hint) is tuple
    kind = typing.get_args(hint)[0] if many else hint
    if not many and len(words) > 1:
        raise ValueError(f"{name} is {' '.join(words)!r}; accepted: one value")
    read = {int: int, float: float, bool: lambda word: bool(("false", "true").index(word.lower()))}.get(kind, str)
    try:
        values = tuple(map(read, words))
    except ValueError:
        raise ValueError(f"{name} is {' '.join(words)!r}; accepted: {in_words(kind)}") from None
    return values if many else values[0]


def in_words(hint: Any) -> str:
    """Spells a hint for messages."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return ", ".join(map(str, inner))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(in_words, inner))
    if origin is tuple:
        return f"a list of {in_words(inner[0])}"
    return "an object" if origin is not None or hint is dict else hint.__name__


def typed_fields(kind: type, values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Converts values of some of a dataclass's fields, as `typed` does; a field's metadata may say what is `accepted`.

    Raises:
      ValueError: there is no such field, or its value is of another type.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if unknown := sorted(values.keys() - fields.keys()):
        raise ValueError(f"{prefix}{unknown[0]} is unknown; accepted: {', '.join(fields)}")
    return {
        name: typed(prefix + name, value, hints_of(kind)[name], fields[name].metadata.get("accepted", ""))
        for name, value in values.items()
    }


def hold_to_types(instance: Any, prefix: str = "") -> None:
    """Converts the fields of a new dataclass as `typed_fields` does."""
    values = {field.name: getattr(instance, field.name) for field in dataclasses.fields(instance)}
    for name, value in typed_fields(type(instance), values, prefix).items():
        object.__setattr__(instance, name, value)


def from_mapping(kind: type[T], values: Any, name: str = "") -> T:
    """Makes a dataclass, with dataclasses within it, from an object of JSON; unknown keys are ignored.

    Args:
      name: the object's name in messages.

    Raises:
      ValueError: a field is missing, or of another type.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{name} is {values!r}; accepted: an object")
    hints, read = hints_of(kind), {}
    for field in dataclasses.fields(kind):  # pyright: ignore[reportArgumentType]
        path, hint = f"{name}.{field.name}".strip("."), typing.cast(Any, hints[field.name])
        if field.name in values:
            value = values[field.name]
            nested = isinstance(hint, type) and dataclasses.is_dataclass(hint) and not isinstance(value, hint)
            read[field.name] = (
                from_mapping(typing.cast(type, hint), value, path) if nested else typed(path, value, hint)
            )
        elif field.default is field.default_factory is dataclasses.MISSING:
            raise ValueError(f"no {path!r}")
    return kind(**read)
