"""Command-line flags of a method, `--method adakron --method.factors 12 4`, for any program."""

import argparse
import dataclasses
import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

from adakron_jax.io.fields import from_words, hints_of
from adakron_jax.io.messages import near
from adakron_jax.io.parser import Parser
from adakron_jax.methods import AdaKron
from adakron_jax.methods.registry import METHODS, check_names, fields_of, find_method, known_names
from adakron_jax.splice import Method
from adakron_jax.xla.precision import AUTO, MEANING, PRECISIONS

_METHOD = "--method."


def unknown_argument(argument: str, flags: Sequence[str], methods: Sequence[str] = ()) -> ValueError:
    """Returns the error for an argument that no flag takes; it names similar flags, or else the first few.

    Args:
      methods: names of methods whose fields may have been meant.
    """
    word = argument.partition("=")[0]
    if word.startswith(_METHOD):
        return _unknown_field(word, [find_method(name) for name in methods or [AdaKron.name]])
    known = [flag for flag in flags if not flag.startswith(_METHOD) and flag != "--help"]
    names = near(word.removeprefix("--"), [flag.removeprefix("--") for flag in known])
    means = [f"--{name}" for name in names] or [flag for flag in known if _initials(flag) == word.lstrip("-")]
    if not word.startswith("-") or not means:
        means = known[:4]
    return ValueError(f"unknown argument {word!r:.100}; accepted: {', '.join(means)}, or another that --help lists")


def _unknown_field(word: str, methods: Sequence[type[Method]]) -> ValueError:
    fields = {method.name: [field.name for field in fields_of(method)] for method in methods}
    every = list(dict.fromkeys(name for names in fields.values() for name in names))
    means = near(word.removeprefix(_METHOD), every) or every
    said = ", ".join(f"{_METHOD}{name}" for name in means)
    return ValueError(f"unknown argument {word!r:.100} of {' and '.join(fields)}; accepted: {said}")


def _initials(flag: str) -> str:
    """--learning-rate -> lr."""
    return "".join(word[:1] for word in flag.lstrip("-").split("-"))


def add_model_flag(parser: argparse.ArgumentParser, text: str = "the encoder, if not where the adapter says") -> None:
    """Adds `--model`, and its earlier name `--base`, which `--help` no longer shows."""
    parser.add_argument("--model", metavar="MODEL", help=f"{text}: a folder, pkg:NAME or a hub id")
    parser.add_argument("--base", dest="model", help=argparse.SUPPRESS)


def add_trust_flag(parser: argparse.ArgumentParser) -> None:
    """Adds `--trust`, whose modules are passed to `methods.external.trust`."""
    said = "let an adapter from the hub import the code of its method from this installed module; may be repeated"
    parser.add_argument("--trust", action="append", default=[], metavar="MODULE", help=said)


def add_precision_flag(parser: argparse.ArgumentParser) -> None:
    """Adds `--precision`."""
    said = f"what it computes in: {MEANING} (default: {AUTO})"
    parser.add_argument("--precision", choices=PRECISIONS, default=AUTO, help=said)


def add_method_flags(parser: argparse.ArgumentParser) -> None:
    """Adds `--method`, and `--method.FIELD` for every field of every registered method."""
    parser.add_argument("--method", metavar="METHOD", help=f"{choices()} (default: {AdaKron.name})")
    add_method_fields(parser)


def choices() -> str:
    """Returns the `--help` text of `--method`."""
    return f"how to fine-tune: {', '.join(known_names())}, or package.module:Class of one from outside"


def import_named(argv: Sequence[str]) -> None:
    """Imports the methods of other packages that a command line names, so that their fields become flags too."""
    parser = Parser(add_help=False)
    parser.add_argument("--method", nargs="*")
    for name in vars(parser.parse_known_args(argv)[0]).get("method", ()):
        if ":" in name or name in known_names():
            find_method(name)


def add_method_fields(parser: Any) -> None:
    """Adds `--method.FIELD` for every field of every registered method to a parser or an argument group."""
    common = [field.name for field in dataclasses.fields(Method)]
    methods_of: dict[str, list[str]] = {}
    for name, method in sorted(METHODS.items()):
        for field in (field for field in dataclasses.fields(method) if field.name not in common):
            shown = " ".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
            methods_of.setdefault(field.name, []).append(f"{name} (default: {shown})")
    for name, texts in methods_of.items():
        parser.add_argument(f"--method.{name}", nargs="+", metavar=name.upper(), help="; ".join(texts))
    said = f"layers that the method's modules are in, such as 6-11 (default: {Method.layers})"
    parser.add_argument("--method.layers", nargs="+", metavar="LAYERS", help=said)


def method_help(name: str) -> str:
    """Returns what `--help METHOD` prints: the method in a sentence, its flags, and its docstring on each field."""
    method = find_method(name)
    usage = f"adakron train --method {name} [--method.FIELD VALUE ...]"
    parser = Parser(add_help=False, usage=usage, description=_percent((inspect.getdoc(method) or "").split("\n\n")[0]))
    group, said = parser.add_argument_group("fields"), attributes_of(method)
    for field in fields_of(method):
        shown = " ".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
        default = "none" if shown == "" else "required" if shown is dataclasses.MISSING else shown
        text = f"{said.get(field.name, '').rstrip('.')} (default: {default})".strip()
        group.add_argument(f"--method.{field.name}", metavar=field.name.upper(), help=_percent(text))
    return parser.format_help()


def attributes_of(kind: type) -> dict[str, str]:
    """Maps a class's fields to their text under `Attributes:`, in its docstring and in those of its bases."""
    said: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        _, _, section = inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")
        for entry in re.split(r"^  (?=\w)", section.partition("\n\n")[0], flags=re.MULTILINE)[1:]:
            names, _, text = entry.partition(":")
            said |= dict.fromkeys(names.split(", "), " ".join(text.split()))
    return said


def _percent(text: str) -> str:
    """Escapes a text so that argparse prints it unchanged."""
    return text.replace("%", "%%")


def take_method(given: dict[str, Any]) -> tuple[type[Method], dict[str, Any]]:
    """Takes the method's flags out of the parsed ones: its class, and the fields that were given.

    Raises:
      ValueError: there is no such method, or a field is not of its declared type.
    """
    name = given.pop("method", AdaKron.name)
    return read_method(name, take_words(given))


def take_words(given: dict[str, Any]) -> dict[str, Sequence[str]]:
    """Takes the words of a method's fields out of the parsed flags."""
    return {key.removeprefix("method."): given.pop(key) for key in list(given) if key.startswith("method.")}


def read_method(name: str, fields: Mapping[str, Sequence[str]]) -> tuple[type[Method], dict[str, Any]]:
    """Returns a method's class, and its fields parsed from the words of `take_words`."""
    method = find_method(name)
    check_names(method, fields)
    hints = hints_of(method)
    return method, {field: from_words(f"method.{field}", words, hints[field]) for field, words in fields.items()}
