"""A run's configuration: defaults < the task's recipe < flags, checked on construction."""

import argparse
import dataclasses
import math
import tomllib
import typing
from collections.abc import Iterable, Mapping, Sequence
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

Limit = int | Literal["all"]


def option(default: Any, text: str, choices: Iterable[str] = ()) -> Any:
    return dataclasses.field(default=default, metadata={"help": text, "choices": tuple(choices)})


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run's numbers, and where they go.

    Raises:
      ValueError: a field is out of its range; it is named with what is accepted.
    """

    task: str = option("", "a GLUE task", TASKS)
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
    best_by: str = option("accuracy", "the metric that chooses the best epoch, or last")
    precision: str = option("f32", "of matrix products; trained parameters stay f32", ("f32", "bf16"))
    mesh: str = option("data=1", "devices, such as data=8 or data=4,model=2")
    train_split: str = option("train", "the split to train on")
    limit_train: Limit = option("all", "train on the first N examples")
    limit_eval: Limit = option("all", "evaluate on the first N examples of each split")
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
        self._check("seed", 0 <= self.seed < 2**32, "0 to 2**32 - 1")
        self._check("accumulate", self.batch_size % self.accumulate == 0, f"a divisor of batch_size {self.batch_size}")
        self._check("learning_rate", 0 < self.learning_rate < math.inf, "above 0")
        self._check("weight_decay", 0 <= self.weight_decay < math.inf, "at least 0")
        self._check("warmup_ratio", 0 <= self.warmup_ratio <= 1, "0 to 1")
        self._check("max_length", self.max_length >= 8, "at least 8")
        metrics = (*TASKS[self.task].metrics, "last")
        self._check("best_by", self.best_by in metrics, ", ".join(metrics))
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
        here, there = _flat(tomllib.loads(self.dumps().decode())), _flat(saved)
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


def parse(argv: Sequence[str]) -> RunConfig:
    """The configuration that a command line asks for.

    Raises:
      ValueError: a flag or value is not accepted, or the model it names cannot be found.
    """
    flags, unknown = _parser().parse_known_args(argv)
    given = vars(flags)
    method, fields = take_method(given)
    if unknown:
        accepted = [f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(RunConfig)]
        accepted += [f"--method.{field.name}" for field in dataclasses.fields(method)]
        raise ValueError(f"unknown argument {unknown[0]!r}; accepted: {', '.join(accepted)}")
    encoder = EncoderConfig.from_folder(pretrained.locate(given.get("model", RunConfig.model)))
    recipe = read_recipe(given.get("recipe", RunConfig.recipe), given["task"], encoder, method.name)
    fields = recipe.pop(method.name, {}) | fields
    values: dict[str, Any] = recipe | given | {"method": make_method(method.name, fields)}
    return RunConfig(**values)


def _parser() -> Parser:
    parser = Parser(prog="python -m train", description="Fine-tunes a BERT or RoBERTa encoder on a GLUE task.")
    hints = typing.get_type_hints(RunConfig)
    for field in dataclasses.fields(RunConfig):
        if field.name == "method":
            add_method_flags(parser)
            continue
        choices, kind = field.metadata["choices"], hints[field.name]
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=_limit if kind == Limit else kind,
            choices=choices or None,
            metavar=None if choices else field.name.upper(),
            required=field.name == "task",
            help=field.metadata["help"] + (f" (default: {field.default})" if field.default != "" else ""),
        )
    return parser


def _limit(text: str) -> Limit:
    if text != "all" and not text.removeprefix("-").isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}; accepted: all, or a whole number")
    return "all" if text == "all" else int(text)


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
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"recipe {str(path)!r}: no such file; accepted: paper, fast, or a TOML file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path}: {error}") from None
    values = values[section] if section else values
    accepted = {field.name for field in dataclasses.fields(RunConfig)} - {"task", "method", "recipe"}
    for key in values.keys() - accepted - METHODS.keys() - {"published"}:
        raise ValueError(f"{path}: unknown key {key!r}; accepted: {', '.join(sorted(accepted))}, or a method's name")
    hints = typing.get_type_hints(RunConfig) | {method: dict}
    values = {key: value for key, value in values.items() if key in accepted or key == method}
    for key, value in values.items():
        if hints[key] is float and fits(value, int):
            values[key] = float(value)
        elif not fits(value, hints[key]):
            words = "a table of its fields" if key == method else described(hints[key])
            raise ValueError(f"{path}: {key} is {value!r}; accepted: {words}")
    return values


def paper_scores(config: RunConfig) -> dict[str, float]:
    """The paper's scores, in percent, of this task, method and encoder; empty where it has none."""
    encoder = EncoderConfig.from_folder(pretrained.locate(config.model))
    sizes = ("model_type", "vocab_size", "hidden_size", "num_layers")
    papers = [name for name, its in NAMED.items() if all(getattr(its, s) == getattr(encoder, s) for s in sizes)]
    if not papers:
        return {}
    recipe = tomllib.loads((RECIPES / f"{config.task}.toml").read_text(encoding="utf-8"))[papers[0]]
    theirs = make_method(AdaKron.name, recipe.get(AdaKron.name, {}))
    return recipe.get("published", {}) if config.method == theirs else {}
