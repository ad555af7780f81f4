"""Command-line flags of a method, `--method adakron --method.factors 12 4`, for whatever program wants them."""

import argparse
import dataclasses
import typing
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from adakron_jax.methods import AdaKron
from adakron_jax.splice import METHODS, Method, make_method


class Parser(argparse.ArgumentParser):
    """A parser without abbreviations, whose errors are a ValueError of one line."""

    def __init__(self, **settings: Any):
        super().__init__(**settings, allow_abbrev=False, argument_default=argparse.SUPPRESS)

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def add_method_flags(parser: argparse.ArgumentParser) -> None:
    """Adds `--method`, and `--method.FIELD` for every field of every registered method."""
    names = ", ".join(sorted(METHODS))
    parser.add_argument("--method", metavar="METHOD", help=f"how to fine-tune: {names} (default: {AdaKron.name})")
    add_method_fields(parser)


def add_method_fields(parser: Any) -> None:
    """Adds `--method.FIELD` for every field of every registered method to a parser or a group of one."""
    common = [field.name for field in dataclasses.fields(Method)]
    owners: dict[str, list[str]] = {}
    for name, method in sorted(METHODS.items()):
        for field in (field for field in dataclasses.fields(method) if field.name not in common):
            shown = " ".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
            owners.setdefault(field.name, []).append(f"{name} (default: {shown})")
    for name, texts in owners.items():
        parser.add_argument(f"--method.{name}", nargs="+", metavar=name.upper(), help="; ".join(texts))
    said = f"layers that the method's modules are in, such as 6-11 (default: {Method.layers})"
    parser.add_argument("--method.layers", nargs="+", metavar="LAYERS", help=said)


def take_method(given: dict[str, Any]) -> tuple[type[Method], dict[str, Any]]:
    """Takes the method's flags out of the parsed ones: its class, and the fields that were given.

    Raises:
      ValueError: there is no such method, or a field is not of the type it is declared with.
    """
    name = given.pop("method", AdaKron.name)
    words = {key.removeprefix("method."): given.pop(key) for key in list(given) if key.startswith("method.")}
    return read_method(name, words)


def read_method(name: str, fields: Mapping[str, Sequence[str]]) -> tuple[type[Method], dict[str, Any]]:
    """A method's class, and its fields from their words as `take_method` has them."""
    method = type(make_method(name, {}))
    hints = typing.get_type_hints(method)
    typed = {}
    for name, words in fields.items():
        hint = hints.get(name, str)
        many = typing.get_origin(hint) is tuple
        kind = typing.get_args(hint)[0] if many else hint
        if not many and len(words) > 1:
            raise ValueError(f"method.{name} is {' '.join(words)!r}; accepted: one value")
        try:
            values = [_value(kind, word) for word in words]
        except ValueError:
            raise ValueError(f"method.{name} is {' '.join(words)!r}; accepted: {kind.__name__}") from None
        typed[name] = tuple(values) if many else values[0]
    return method, typed


def _value(kind: Any, word: str) -> Any:
    if kind is bool:
        return bool(("false", "true").index(word.lower()))
    return kind(word) if kind in (int, float) else word
