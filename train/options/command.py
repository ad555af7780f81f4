"""What a command line asks for: one run or the cells of a grid. Defaults < a recipe < a grid's file < flags."""

import dataclasses
import itertools
import os
import typing
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from adakron_jax.data.conll import TAGS, WORDS
from adakron_jax.data.formats import FORMATS, GZIP, suffix_of
from adakron_jax.flags import import_named, read_method, take_words, unknown_argument
from adakron_jax.hub.models import absolute
from adakron_jax.methods import AdaKron
from adakron_jax.methods.registry import make_method, register
from adakron_jax.splice import Method
from train.data.glue import SUITES, TASKS
from train.data.sources import is_table, row_count, table_name
from train.data.splits import share
from train.options.config import RunConfig, options, typed
from train.options.flags import make_parser
from train.options.launch import OF_METHOD, SELECTION, VARIED, Launch
from train.options.model import Pretrained
from train.options.recipes import NAMES, TABLE, load_toml, read_file, read_recipe

_SHORT = {"learning_rate": "lr"}  # in a cell's name


@dataclasses.dataclass(frozen=True)
class Command:
    """What a command line asks for.

    Attributes:
      runs: one, whose folder is `--out`; or the cells of a grid, each with a folder of its own below `--out`.
      grid: whether it is a grid.
      varied: the fields, besides task, method and seed, that differ among them.
      model: the pretrained model of all runs.
    """

    runs: tuple[RunConfig, ...]
    grid: bool
    varied: tuple[str, ...]
    model: Pretrained
    launch: Launch


def parse(argv: Sequence[str]) -> RunConfig:
    """Returns the configuration of the single run that a command line asks for.

    Raises:
      ValueError: a flag or value is not accepted, the model it names cannot be found, or there are several runs.
    """
    command = parse_command(argv)
    if command.grid:
        raise ValueError(f"a grid of {len(command.runs)} runs; accepted: one task, method, learning rate and seed")
    return command.runs[0]


def parse_command(argv: Sequence[str]) -> Command:
    """Returns the run or the grid that a command line asks for. In a grid, the seeds change fastest.

    Only the configuration of the model is read.

    Raises:
      ValueError: a flag or value is not accepted, by itself or in the grid's file, the model cannot be found, or two
        cells of a grid have the same name.
    """
    import_named(argv)
    parser = make_parser()
    flags, unknown = parser.parse_known_args(argv)
    given = vars(flags)
    if unknown:
        raise unknown_argument(unknown[0], parser.flags, given.get("method", []))
    words = take_words(given)
    if "method" in given:
        given["method"] = [{"name": name} for name in given["method"]]
    return command_of(given, words)


def command_of(
    given: Mapping[str, Any], words: Mapping[str, Sequence[str]] = {}, sizes: Mapping[str, int] = {}
) -> Command:
    """Does what `parse_command` does, from values of the fields of RunConfig and Launch: lists where they may vary.

    Args:
      words: the words of method fields, as on a command line.
      sizes: the number of rows of each table in memory, by name.
    """
    values = (read_grid(Path(given["grid"])) if given.get("grid") else {}) | dict(given)
    values |= {name: tuple(values[name]) for name in ("text", "label", "select", "select_seed") if name in values}
    launch = Launch(**{name: values.pop(name) for name in options(Launch) if name in values})
    tasks = read_tasks(values)
    methods = _offered(values, given, words, launch.select)
    seeds = values.pop("seed", [1 + max(launch.select_seed) if launch.select else RunConfig.seed])
    # With fewer than one fold there is still one run, which refuses the value.
    folds = [values["fold"]] if "fold" in values else range(1, max(1, values.get("folds", RunConfig.folds)) + 1)

    name = values.setdefault("recipe", TABLE if "text" in values else RunConfig.recipe)
    of_file = {} if name in NAMES else read_file(Path(name))
    values["model"] = absolute(({"model": RunConfig.model} | of_file | values)["model"])
    if values.get("init_from"):
        values["init_from"] = os.path.abspath(values["init_from"])
    model = Pretrained(values["model"])
    rows = training_rows(values, sizes) if "text" in values and name in NAMES else 0
    runs = []
    for task, (method, fields, setting) in itertools.product(tasks, methods):
        recipe = read_recipe(name, TABLE if "text" in values else task, model.encoder, method.name, rows)
        made = make_method(method.name, recipe.pop(method.name, {}) | fields)
        for fold, seed in itertools.product(folds, seeds):
            chosen: dict[str, Any] = {"task": task, "seed": seed, "fold": fold, "method": made}
            runs.append(RunConfig(**(recipe | values | setting | chosen)))
    alone = len(runs) == 1 and not launch.grid and not launch.select
    if launch.hosts and values.get("mesh") == RunConfig.mesh:
        raise ValueError(f"mesh is {RunConfig.mesh!r}, with hosts; accepted: no --mesh, or one of all their devices")
    _check_launch(launch, runs, alone)
    if alone:
        return Command(tuple(runs), False, (), model, launch)
    several = tuple(name for name in VARIED if len({setting.get(name) for _, _, setting in methods}) > 1)
    default = "runs/tuned" if launch.select else "runs"
    return Command(tuple(_below_one_folder(runs, several, default)), True, several, model, launch)


def _offered(
    values: dict[str, Any], given: Mapping[str, Any], words: Mapping[str, Sequence[str]], select: Sequence[str]
) -> list[tuple[type[Method], dict[str, Any], dict[str, Any]]]:
    """Takes methods, and what varies with them, out of the values; returns each method, its fields and a run's values.

    A method's table may have values of its own, such as learning rates, but flags override these.
    """
    varied = {name: values.pop(name) for name in VARIED if name in values}
    methods = []
    for table, said in itertools.product(values.pop("method", [{"name": AdaKron.name}]), _one_by_one(words, select)):
        method, fields = read_method(table["name"], said)
        fields = {key: value for key, value in table.items() if key not in ("name", *VARIED)} | fields
        of_method = varied | {name: table[name] for name in VARIED if name in table and name not in given}
        for setting in itertools.product(*of_method.values()):
            methods.append((method, fields, dict(zip(of_method, setting, strict=True))))
    return methods


def _check_launch(launch: Launch, runs: Sequence[RunConfig], alone: bool) -> None:
    """Raises ValueError if a run, or a grid, cannot be carried out as asked."""
    if launch.hosts and not alone:
        raise ValueError(f"hosts is {launch.hosts!r}, with a grid; accepted: one task, method, learning rate and seed")
    if alone and launch.together:
        raise ValueError("together, with one run; accepted: several seeds or learning rates")
    if alone and launch.workers:
        raise ValueError(f"workers is {launch.workers!r}, with one run; accepted: a grid")
    if launch.together and any(run.patience for run in runs):
        raise ValueError("patience is above 0, with together; accepted: one of them")
    needed = runs[0].mesh_shape.devices
    if not alone and launch.devices_per_run != "mesh" and launch.devices_per_run < needed:
        raise ValueError(f"devices_per_run is {launch.devices_per_run}; accepted: at least {needed}, those of the mesh")


def _one_by_one(words: Mapping[str, Sequence[str]], select: Sequence[str]) -> list[dict[str, Sequence[str]]]:
    """Returns the words of a method's fields, once for every value of the fields that are selected."""
    several = [[[word] for word in said] if OF_METHOD + name in select else [said] for name, said in words.items()]
    return [dict(zip(words, chosen, strict=True)) for chosen in itertools.product(*several)]


def training_rows(values: Mapping[str, Any], sizes: Mapping[str, int]) -> int:
    """Returns about how many rows of a table train, without the shares held out; 0 if nothing depends on it."""
    if not {"learning_rate", "epochs", "batch_size"} - values.keys():
        return 0
    data = values.get("data", RunConfig.data)
    if data in ("hub", "mini"):
        return 0  # no table has such a name
    rows = sizes[data] if data in sizes else row_count(data, values.get("train_split", RunConfig.train_split))
    shares = (values.get(name, "none") for name in ("validation", "test"))
    kept = rows * (1 - sum(share(said) for said in shares))
    limit = values.get("limit_train", RunConfig.limit_train)
    return round(kept) if limit == "all" else min(round(kept), limit)


def read_tasks(values: dict[str, Any]) -> list[str]:
    """Takes the tasks out of the values; the task of custom data is by default named after its table.

    Raises:
      ValueError: there is no task, or there is a table but its columns are not named.
    """
    data, names = values.get("data", ""), values.pop("task", [])
    if FORMATS.get(suffix_of(Path(data)).removesuffix(GZIP)) == "conll":
        values |= {"text": values.get("text") or (WORDS,), "label": values.get("label") or (TAGS,)}
    if values.get("text"):
        return names or [table_name(data)]
    if is_table(data):
        raise ValueError(f"data is {data!r}, a table; accepted: --text COLUMN and --label COLUMN with it")
    if not names:
        raise ValueError("the following arguments are required: --task, or --data, --text and --label")
    return expand(names)


def expand(names: Iterable[str]) -> list[str]:
    """Returns the tasks that names of tasks and suites stand for; ValueError says what is accepted."""
    for name in names:
        if name not in (*TASKS, *SUITES):
            raise ValueError(f"task is {name!r}; accepted: {', '.join([*TASKS, *SUITES])}")
    return [task for name in names for task in SUITES.get(name, [name])]


def _below_one_folder(runs: Sequence[RunConfig], varied: Sequence[str], default: str) -> list[RunConfig]:
    """Gives each cell of a grid its own folder; ValueError names a folder that two of them would share."""
    names = [cell_name(run, varied) for run in runs]
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise ValueError(f"{times} cells of the grid are called {name!r}; accepted: every cell once")
    pairs = zip(runs, names, strict=True)
    return [dataclasses.replace(run, out=str(Path(run.out or default) / name)) for run, name in pairs]


def cell_name(run: RunConfig, varied: Sequence[str], seed: bool = True) -> str:
    """Returns task, method with its non-default fields, what varies, and seed: `rte-adakron-factors-8-4-seed0`.

    A name says nothing about the other cells, so that a grid can grow in its folder.
    """
    parts = [run.task, run.method.name]
    for field in dataclasses.fields(run.method):
        if (value := getattr(run.method, field.name)) != field.default:
            parts += [field.name, *map(str, value if isinstance(value, tuple) else [value])]
    for name in varied:
        value = getattr(run, name)
        parts.append(f"{_SHORT.get(name, name)}{f'{value:g}' if isinstance(value, float) else value}")
    parts += [f"fold{run.fold}of{run.folds}"] if run.folds > 1 else []
    return "-".join([*parts, f"seed{run.seed}"] if seed else parts)


def read_grid(path: Path) -> dict[str, Any]:
    """Returns the values of a grid's file, lists where they may vary; each method is a table of its name and fields.

        model = "bert-base-uncased"
        task = ["rte", "mrpc"]
        method = ["bitfit", { name = "adakron", factors = [8, 4] }]  # or one [[method]] after another

    A method's table may also have learning rates, and anything else that may vary, for that method alone.

    Raises:
      ValueError: there is no such file, or a key, task, method or field in it is unknown or of the wrong type.
    """
    if not path.exists():
        raise ValueError(f"grid {str(path)!r}: no such file; accepted: a TOML file")
    values = load_toml(path)
    try:
        accepted = [*options(RunConfig), *(name for name, known in options(Launch).items() if known.group == SELECTION)]
        if unknown := [key for key in values if key not in accepted]:
            raise ValueError(f"unknown key {unknown[0]!r}; accepted: {', '.join(sorted(accepted))}")
        values = typed_values(values)
        if "text" not in values:
            expand(values.get("task", []))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return values


def typed_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Converts values to the types of their fields, lists where they may vary; ValueError names one of another type."""
    hints = typing.get_type_hints(RunConfig) | typing.get_type_hints(Launch)
    known, read = options(RunConfig) | options(Launch), {}
    for key, value in values.items():
        if not known[key].grid:
            read[key] = typed(key, value, hints[key])
            continue
        several = list(value) if isinstance(value, list | tuple | range) else [value]
        if not several:
            raise ValueError(f"{key} is []; accepted: one or more")
        read[key] = [_method_table(value) if key == "method" else typed(key, value, hints[key]) for value in several]
    return read


def _method_table(method: Any) -> dict[str, Any]:
    if isinstance(method, Method):
        return {"name": register(type(method)).name, **dataclasses.asdict(method)}
    table = {"name": method} if isinstance(method, str) else method
    if not isinstance(table, dict) or not isinstance(table.get("name"), str):
        raise ValueError(f"method is {method!r}; accepted: a method's name, or a table of its name and fields")
    make_method(table["name"], {key: value for key, value in table.items() if key not in ("name", *VARIED)})
    return table | typed_values({name: table[name] for name in VARIED if name in table})
