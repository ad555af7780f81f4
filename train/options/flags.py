"""The flags of `python -m train`, made from the fields that they set."""

import argparse
import dataclasses
import typing
from collections.abc import Callable
from typing import Any

from adakron_jax.flags import add_method_fields, choices, method_help
from adakron_jax.io.parser import Parser
from adakron_jax.splice import Method
from train.options.config import RunConfig
from train.options.launch import Launch
from train.options.option import word_of
from train.options.recipes import BY_RECIPE, described_table


def make_parser() -> Parser:
    """Returns a parser of every field of RunConfig and Launch, in groups; it yields only the flags that are given."""
    parser = Parser(
        prog="adakron train",
        usage="adakron train --task TASK | --data TABLE --text COLUMN --label COLUMN [--FLAG VALUE ...]",
        description="Fine-tunes a BERT or RoBERTa encoder on a GLUE task, or on a table of your own. Several tasks, "
        "methods, learning rates, seeds or folds make a grid: a run for each combination, in a folder of its own below "
        "--out.",
        add_help=False,
    )
    said = "show this help, or a method's fields"
    parser.add_argument("-h", "--help", nargs="?", metavar="METHOD", action=_Help, help=said)
    groups: dict[str, Any] = {}
    for kind in (RunConfig, Launch):
        for field in dataclasses.fields(kind):
            heading = field.metadata["option"].group
            group = groups.setdefault(heading, None) or parser.add_argument_group(heading)
            groups[heading] = group
            _add_flag(group, field, typing.get_type_hints(kind)[field.name])
    add_method_fields(parser.add_argument_group("fields of the method"))
    return parser


class _Help(argparse.Action):
    """Prints the help, or that of a method, and exits."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option_string: Any = None) -> None:
        print(method_help(values) if values else parser.format_help(), end="")
        parser.exit()


def _add_flag(group: Any, field: dataclasses.Field, kind: Any) -> None:
    known, default = field.metadata["option"], field.default
    text = known.text
    if kind is Method:
        text, default, kind = f"{choices()}; --help METHOD describes its fields", field.default.name, str
    if field.name == "recipe":
        text = f"{text}. For a table: {described_table()}"
        default = "paper; table for a table of your own"
    if field.name in BY_RECIPE:
        default = "the recipe's"
    several = known.grid or isinstance(default, tuple)
    if isinstance(default, tuple):
        kind, default = typing.get_args(kind)[0], " ".join(map(str, default))
    group.add_argument(
        name_of(field.name),
        nargs="+" if several else "?" if kind is bool else None,
        const=True if kind is bool else None,
        type=_flag if kind is bool else _number_or(word) if (word := word_of(kind)) else kind,
        choices=known.choices or None,
        metavar=None if known.choices else field.name.upper(),
        help=text + (f" (default: {default})" if default != "" and default is not False else ""),
    )


def name_of(field: str) -> str:
    """Returns the flag of a field."""
    return f"--{field.replace('_', '-')}"


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r}; accepted: true, false")
    return text == "true"


def _number_or(word: str) -> Callable[[str], Any]:
    def read(text: str) -> int | str:
        if text != word and not text.removeprefix("-").isdecimal():
            raise argparse.ArgumentTypeError(f"{text!r}; accepted: {word}, or a whole number")
        return word if text == word else int(text)

    return read
