"""What a command line asks for: one run or the cells of a grid. Defaults < a recipe < a grid's file < flags."""

import argparse
import dataclasses
import itertools
import typing
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from adakron_jax import hub
from adakron_jax.cli.flags import Parser, add_method_flags, take_method
from adakron_jax.config import EncoderConfig
from adakron_jax.methods import AdaKron
from adakron_jax.splice import METHODS, make_method
from train.data.glue import SUITES, TASKS
from train.options.config import Every, Limit, RunConfig
from train.options.recipes import load_toml, read_recipe, typed_in

SEVERAL = ("task", "method", "learning_rate", "seed")  # several values of these make a grid


@dataclasses.dataclass(frozen=True)
class Command:
    """What a command line asks for.

    Attributes:
      runs: one, whose folder is `--out`; or the cells of a grid, each with a folder of its own below `--out`.
      grid: which of the two.
      dry_run: to say what the runs cost, and no more.
      together: that cells which differ in nothing but seed and learning rate take their steps as one.
    """

    runs: tuple[RunConfig, ...]
    grid: bool
    dry_run: bool
    together: bool = False


def parse(argv: Sequence[str]) -> RunConfig:
    """The configuration of the one run that a command line asks for.

    Raises:
      ValueError: a flag or value is not accepted, the model it names cannot be found, or there are several runs.
    """
    command = parse_command(argv)
    if command.grid:
        raise ValueError(f"a grid of {len(command.runs)} runs; accepted: one task, method, learning rate and seed")
    return command.runs[0]


def parse_command(argv: Sequence[str]) -> Command:
    """The run or the grid that a command line asks for. Of a grid, the last of SEVERAL changes fastest.

    Raises:
      ValueError: a flag or value is not accepted, by itself or in the grid's file, the model cannot be found, or two
        cells of a grid have one name.
    """
    flags, unknown = _parser().parse_known_args(argv)
    given = vars(flags)
    file, dry_run, together = given.pop("grid", None), given.pop("dry_run", False), given.pop("together", False)
    words = {key: given.pop(key) for key in list(given) if key.startswith("method.")}
    if "method" in given:
        given["method"] = [{"name": name} for name in given["method"]]
    values = ({} if file is None else read_grid(Path(file))) | given
    if "task" not in values:
        raise ValueError("the following arguments are required: --task")
    tasks = [task for name in values.pop("task") for task in SUITES.get(name, [name])]
    methods = []
    for table in values.pop("method", [{"name": AdaKron.name}]):
        method, fields = take_method({"method": table["name"], **words})
        methods.append((method, {key: value for key, value in table.items() if key != "name"} | fields))
    rates = [{"learning_rate": rate} for rate in values.pop("learning_rate", [])] or [{}]
    seeds = values.pop("seed", [RunConfig.seed])
    if unknown:
        accepted = [f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(RunConfig)]
        accepted += [f"--method.{field.name}" for field in dataclasses.fields(methods[0][0])]
        accepted += ["--grid", "--together", "--dry-run"]
        raise ValueError(f"unknown argument {unknown[0]!r}; accepted: {', '.join(accepted)}")

    encoder = EncoderConfig.from_folder(hub.locate(values.get("model", RunConfig.model)))
    runs = []
    for task, (method, fields), rate, seed in itertools.product(tasks, methods, rates, seeds):
        recipe = read_recipe(values.get("recipe", RunConfig.recipe), task, encoder, method.name)
        fields = recipe.pop(method.name, {}) | fields
        chosen: dict[str, Any] = {"task": task, "seed": seed, "method": make_method(method.name, fields)}
        runs.append(RunConfig(**(recipe | values | rate | chosen)))
    if file is None and len(runs) == 1:
        if together:
            raise ValueError("together, and one run; accepted: several seeds or learning rates")
        return Command(tuple(runs), grid=False, dry_run=dry_run)
    if together and any(run.patience for run in runs):
        raise ValueError("patience is above 0, and together; accepted: one of them")
    cells = tuple(_below_one_folder(runs, name_rates=len(rates) > 1))
    return Command(cells, grid=True, dry_run=dry_run, together=together)


def _below_one_folder(runs: Sequence[RunConfig], name_rates: bool) -> list[RunConfig]:
    """The cells of a grid, each in its own folder; ValueError names a folder that two of them would share."""
    names = [cell_name(run, name_rates) for run in runs]
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise ValueError(f"{times} cells of the grid are called {name!r}; accepted: every cell once")
    pairs = zip(runs, names, strict=True)
    return [dataclasses.replace(run, out=str(Path(run.out or "runs") / name)) for run, name in pairs]


def cell_name(run: RunConfig, name_rate: bool) -> str:
    """Task, method with every field that is not at its default, and seed: `rte-adakron-factors-8-4-seed0`.

    A name says nothing of the other cells, so that a grid can grow in its folder.
    """
    parts = [run.task, run.method.name]
    for field in dataclasses.fields(run.method):
        if (value := getattr(run.method, field.name)) != field.default:
            parts += [field.name, *map(str, value if isinstance(value, tuple) else [value])]
    parts += [f"lr{run.learning_rate:g}"] if name_rate else []
    return "-".join([*parts, f"seed{run.seed}"])


def _parser() -> Parser:
    parser = Parser(
        prog="python -m train",
        description="Fine-tunes a BERT or RoBERTa encoder on a GLUE task. Several tasks, methods, learning rates or "
        "seeds make a grid: a run for each combination, in a folder of its own below --out.",
        conflict_handler="resolve",  # the method's own flag takes one
    )
    hints = typing.get_type_hints(RunConfig)
    for field in dataclasses.fields(RunConfig):
        choices, kind = field.metadata["choices"], hints[field.name]
        if field.name == "method":
            add_method_flags(parser)
            names = ", ".join(sorted(METHODS))
            text = f"{field.metadata['help']}: {names} (default: {field.default.name})"
            parser.add_argument("--method", nargs="+", metavar="METHOD", help=text)
            continue
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            nargs="+" if field.name in SEVERAL else "?" if kind is bool else None,
            const=True if kind is bool else None,
            type=_flag if kind is bool else _NUMBER_OR.get(kind, kind),
            choices=(*choices, *SUITES) if field.name == "task" else choices or None,
            metavar=None if choices else field.name.upper(),
            help=field.metadata["help"] + (f" (default: {field.default})" if field.default != "" else ""),
        )
    parser.add_argument("--grid", metavar="FILE", help="a TOML file of these flags with lists of what varies")
    parser.add_argument("--together", action="store_true", help="train all seeds and learning rates of a method as one")
    parser.add_argument("--dry-run", action="store_true", help="only say which runs there are and what they cost")
    return parser


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


_NUMBER_OR: dict[Any, Any] = {Limit: _number_or("all"), Every: _number_or("epoch")}


def read_grid(path: Path) -> dict[str, Any]:
    """The values of a grid's file, those of SEVERAL as lists; each method is a table of its name and its fields.

        model = "bert-base-uncased"
        task = ["rte", "mrpc"]
        method = ["bitfit", { name = "adakron", factors = [8, 4] }]  # or one [[method]] after another

    Raises:
      ValueError: there is no such file, or a key, task, method or field in it is unknown or of another type.
    """
    if not path.exists():
        raise ValueError(f"grid {str(path)!r}: no such file; accepted: a TOML file")
    hints = typing.get_type_hints(RunConfig)
    values = load_toml(path)
    for key, value in values.items():
        if key not in hints:
            raise ValueError(f"{path}: unknown key {key!r}; accepted: {', '.join(sorted(hints))}")
        if key not in SEVERAL:
            values[key] = typed_in(path, key, value, hints[key])
            continue
        several = value if isinstance(value, list) else [value]
        if not several:
            raise ValueError(f"{path}: {key} is []; accepted: one or more")
        take = _method_table if key == "method" else lambda path, one: typed_in(path, key, one, hints[key])  # noqa: B023
        values[key] = [take(path, one) for one in several]
    for task in values.get("task", []):
        if task not in (*TASKS, *SUITES):
            raise ValueError(f"{path}: task is {task!r}; accepted: {', '.join([*TASKS, *SUITES])}")
    return values


def _method_table(path: Path, method: Any) -> dict[str, Any]:
    table = {"name": method} if isinstance(method, str) else method
    if not isinstance(table, dict) or not isinstance(table.get("name"), str):
        raise ValueError(f"{path}: method is {method!r}; accepted: a method's name, or a table of its name and fields")
    try:
        make_method(table["name"], {key: value for key, value in table.items() if key != "name"})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return table
