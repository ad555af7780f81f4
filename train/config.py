"""A run's configuration: defaults < the task's recipe < flags, checked on construction."""

import argparse
import dataclasses
import itertools
import math
import tomllib
import typing
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import tomli_w

from adakron_jax import pretrained
from adakron_jax.config import BERT_BASE, NAMED, EncoderConfig
from adakron_jax.flags import Parser, add_method_flags, take_method
from adakron_jax.methods import AdaKron
from adakron_jax.splice import METHODS, Method, described, fits, make_method
from train.sharding import parse_mesh
from train.tasks import TASKS

_HERE = Path(__file__).parent
RECIPES = next(path for path in (_HERE.parent / "configs", _HERE / "configs") if path.is_dir())
FAST = 10  # `--recipe fast` divides the epochs by this, to no fewer than FAST_EPOCHS
FAST_EPOCHS = 3

SUITES = {"glue": ("mnli", "qnli", "sst2", "qqp", "mrpc", "cola", "rte", "stsb")}  # the paper's eight, in its order
SEVERAL = ("task", "method", "learning_rate", "seed")  # several values of these make a grid

Limit = int | Literal["all"]
Every = int | Literal["epoch"]


def option(default: Any, text: str, choices: Iterable[str] = ()) -> Any:
    return dataclasses.field(default=default, metadata={"help": text, "choices": tuple(choices)})


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run's numbers, and where they go.

    Raises:
      ValueError: a field is out of its range; it is named with what is accepted.
    """

    task: str = option("", "a GLUE task, or glue: the paper's eight", TASKS)
    model: str = option("bert-base-uncased", "a hub id, a folder, or pkg:NAME for a model in an installed package")
    data: str = option("hub", "hub, mini (built in), or a folder with TASK/SPLIT.parquet|tsv|csv|jsonl")
    out: str = option("", "the run's folder; by default runs/TASK-METHOD-seedN")
    seed: int = option(0, "of the initialisation, the data order and dropout")
    method: Method = option(AdaKron(), "how to fine-tune")
    recipe: str = option("paper", "paper, fast (a tenth of the epochs, at least 3), or a TOML file of these flags")
    epochs: int = option(20, "passes over the training set")
    batch_size: int = option(64, "examples of one optimiser step")
    accumulate: int = option(1, "micro-batches that a batch is computed in, to save memory")
    learning_rate: float = option(4e-4, "the peak rate")
    weight_decay: float = option(0.1, "on all but biases and LayerNorms")
    warmup_ratio: float = option(0.06, "share of the steps over which the rate rises from 0")
    max_length: int = option(128, "tokens at which an example is cut")
    best_by: str = option("accuracy", "the metric that chooses the best evaluation, or last")
    eval_every: Every = option("epoch", "evaluate after N steps of an epoch, 2 N and so on, and at its end anyway")
    patience: int = option(0, "stop after N evaluations without a better best_by; 0 trains to the end")
    precision: str = option("f32", "of matrix products; trained parameters stay f32", ("f32", "bf16"))
    remat: bool = option(False, "compute each layer again in the backward pass, to save memory")
    mesh: str = option("data=1", "devices, such as data=8 or data=4,model=2")
    train_split: str = option("train", "the split to train on")
    limit_train: Limit = option("all", "train on the first N examples")
    limit_eval: Limit = option("all", "evaluate on the first N examples of each split")
    init_from: str = option("", "a portable adapter's folder to start from, of the same method and encoder")
    resume: str = option("auto", "an interrupted run in --out: auto continues it, never refuses, must insists",
                         ("auto", "never", "must"))  # fmt: skip

    def __post_init__(self):
        for field in dataclasses.fields(self):
            choices, value = field.metadata["choices"], getattr(self, field.name)
            if choices and value not in choices:
                raise ValueError(f"{field.name} is {value!r}; accepted: {', '.join(choices)}")
        for name in ("epochs", "batch_size", "accumulate"):
            self._check(name, getattr(self, name) >= 1, "at least 1")
        for name in ("limit_train", "limit_eval"):
            self._check(name, getattr(self, name) == "all" or getattr(self, name) >= 1, "all, or at least 1")
        self._check("eval_every", self.eval_every == "epoch" or self.eval_every >= 1, "epoch, or at least 1")
        self._check("patience", self.patience >= 0, "at least 0")
        self._check("seed", 0 <= self.seed < 2**32, "0 to 2**32 - 1")
        self._check("accumulate", self.batch_size % self.accumulate == 0, f"a divisor of batch_size {self.batch_size}")
        self._check("learning_rate", 0 < self.learning_rate < math.inf, "above 0")
        self._check("weight_decay", 0 <= self.weight_decay < math.inf, "at least 0")
        self._check("warmup_ratio", 0 <= self.warmup_ratio <= 1, "0 to 1")
        self._check("max_length", self.max_length >= 8, "at least 8")
        metrics = (*TASKS[self.task].metrics, "last")
        self._check("best_by", self.best_by in metrics, ", ".join(metrics))
        self._check("patience", not self.patience or self.best_by != "last", "0, since best_by is 'last'")
        parse_mesh(self.mesh)

    def _check(self, name: str, fine: bool, accepted: str) -> None:
        if not fine:
            raise ValueError(f"{name} is {getattr(self, name)!r}; accepted: {accepted}")

    @property
    def folder(self) -> Path:
        return Path(self.out or f"runs/{self.task}-{self.method.name}-seed{self.seed}")

    def as_toml(self) -> dict[str, Any]:
        """The configuration as tables and plain values."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "method"}
        return values | {"method": {"name": self.method.name, **dataclasses.asdict(self.method)}}

    def dumps(self) -> bytes:
        return tomli_w.dumps(self.as_toml()).encode()

    def differences(self, saved: Mapping[str, Any]) -> list[str]:
        """Fields, as `name saved -> here`, in which a saved configuration would give other numbers."""
        free = {"out", "resume", "recipe"}
        # A field that an older version did not have changes nothing at its default.
        defaults = {field.name: field.default for field in dataclasses.fields(self) if field.name != "method"}
        here, there = _flat(tomllib.loads(self.dumps().decode())), defaults | _flat(saved)
        return [
            f"{key} {there.get(key, 'unset')!r} -> {here.get(key, 'unset')!r}"
            for key in sorted(here.keys() | there.keys())
            if key not in free and here.get(key) != there.get(key)
        ]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


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
        raise ValueError(f"unknown argument {unknown[0]!r}; accepted: {', '.join([*accepted, '--grid', '--dry-run'])}")

    encoder = EncoderConfig.from_folder(pretrained.locate(values.get("model", RunConfig.model)))
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


def family(encoder: EncoderConfig) -> str:
    """Which of a recipe's two encoders to follow: its section for BERT-base, or for RoBERTa-large."""
    return "bert-base" if encoder.model_type == BERT_BASE.model_type else "roberta-large"


def read_recipe(recipe: str, task: str, encoder: EncoderConfig, method: str) -> dict[str, Any]:
    """The values of a recipe: the task's for the kind of encoder, then the method's; or those of a TOML file.

    Raises:
      ValueError: there is no such recipe, or it has unknown keys.
    """
    if task not in TASKS:
        raise ValueError(f"task is {task!r}; accepted: {', '.join(TASKS)}")
    if recipe not in ("paper", "fast"):
        return _read_toml(Path(recipe), method)
    values = _read_toml(RECIPES / f"{task}.toml", method, family(encoder))
    overlay = RECIPES / "methods" / f"{method}.toml"
    if overlay.is_file():
        values |= _read_toml(overlay, method)
    if recipe == "fast":
        values["epochs"] = min(values["epochs"], max(FAST_EPOCHS, round(values["epochs"] / FAST)))
    return values


def _read_toml(path: Path, method: str, section: str = "") -> dict[str, Any]:
    if not path.exists():
        raise ValueError(f"recipe {str(path)!r}: no such file; accepted: paper, fast, or a TOML file")
    values = _load_toml(path)
    values = values[section] if section else values
    accepted = {field.name for field in dataclasses.fields(RunConfig)} - {"task", "method", "recipe"}
    for key in values.keys() - accepted - METHODS.keys() - {"published"}:
        raise ValueError(f"{path}: unknown key {key!r}; accepted: {', '.join(sorted(accepted))}, or a method's name")
    hints = typing.get_type_hints(RunConfig) | {method: dict}
    values = {key: value for key, value in values.items() if key in accepted or key == method}
    return {key: _typed(path, key, value, hints[key]) for key, value in values.items()}


def _load_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path}: {error}") from None


def _typed(path: Path, key: str, value: Any, hint: Any) -> Any:
    if hint is float and fits(value, int):
        return float(value)
    if not fits(value, hint):
        words = "a table of its fields" if hint is dict else described(hint)
        raise ValueError(f"{path}: {key} is {value!r}; accepted: {words}")
    return value


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
    values = _load_toml(path)
    for key, value in values.items():
        if key not in hints:
            raise ValueError(f"{path}: unknown key {key!r}; accepted: {', '.join(sorted(hints))}")
        if key not in SEVERAL:
            values[key] = _typed(path, key, value, hints[key])
            continue
        several = value if isinstance(value, list) else [value]
        if not several:
            raise ValueError(f"{path}: {key} is []; accepted: one or more")
        take = _method_table if key == "method" else lambda path, one: _typed(path, key, one, hints[key])  # noqa: B023
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


def paper_encoder(encoder: EncoderConfig) -> str | None:
    """The name of the paper's encoder of these sizes and this vocabulary, if it is one."""
    sizes = ("model_type", "vocab_size", "hidden_size", "num_layers")
    same = (name for name, its in NAMED.items() if all(getattr(its, s) == getattr(encoder, s) for s in sizes))
    return next(same, None)


def paper_scores(config: RunConfig) -> dict[str, float]:
    """The paper's scores, in percent, of this task, method and encoder; empty where it has none."""
    encoder = EncoderConfig.from_folder(pretrained.locate(config.model))
    name = paper_encoder(encoder)
    if name is None:
        return {}
    recipe = tomllib.loads((RECIPES / f"{config.task}.toml").read_text(encoding="utf-8"))[name]
    theirs = make_method(AdaKron.name, recipe.get(AdaKron.name, {}))
    return recipe.get("published", {}) if config.method == theirs else {}
