"""What is declared about a field that is a flag, and how its value is read."""

import dataclasses
import math
import typing
from collections.abc import Iterable
from typing import Any, Literal

from adakron_jax.io import fields


@dataclasses.dataclass(frozen=True)
class Option:
    """What is declared about a field besides its name, type and default.

    Attributes:
      text, group: what `--help` says, and under which heading.
      choices: the values that are accepted, if they can be listed.
      at_least: the smallest number that is accepted, if there is one.
      grid: several values make a grid.
      together: runs that differ in nothing else may be trained together.
      numbers: it decides a run's numbers, so a resumed run must agree.
      recipe: a recipe may set it.
    """

    text: str
    group: str
    choices: tuple[str, ...] = ()
    at_least: int | None = None
    grid: bool = False
    together: bool = False
    numbers: bool = True
    recipe: bool = True


def option(default: Any, text: str, group: str, choices: Iterable[str] = (), **more: Any) -> Any:
    return dataclasses.field(default=default, metadata={"option": Option(text, group, tuple(choices), **more)})


def options(kind: Any) -> dict[str, Option]:
    """Returns the option of each field of a class whose fields are options."""
    return {field.name: field.metadata["option"] for field in dataclasses.fields(kind)}


def check_options(values: Any) -> None:
    """Raises ValueError for the first of an instance's fields that is not among its choices, or is too small."""
    hints = typing.get_type_hints(type(values))
    for name, known in options(values).items():
        value, word = getattr(values, name), word_of(hints[name])
        if known.choices and value not in known.choices:
            raise ValueError(f"{name} is {value!r}; accepted: {', '.join(known.choices)}")
        least = known.at_least
        if least is not None and not (value == word if isinstance(value, str) else least <= value < math.inf):
            raise ValueError(f"{name} is {value!r}; accepted: {word and f'{word}, or '}at least {least}")


def word_of(hint: Any) -> str:
    """Returns the word that a field of this type takes besides a number; '' if there is none."""
    words = (typing.get_args(part) for part in typing.get_args(hint) if typing.get_origin(part) is Literal)
    return next((word for (word,) in words), "")


def typed(key: str, value: Any, hint: Any) -> Any:
    """Converts a value from TOML to a field's declared type; ValueError names one of another type."""
    value = (value,) if typing.get_origin(hint) is tuple and isinstance(value, str) else value
    return fields.typed(key, value, hint, "a table of its fields" if hint is dict else "")
