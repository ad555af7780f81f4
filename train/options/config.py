"""A run's configuration, checked on construction."""

import dataclasses
import math
import tomllib
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import tomli_w

from adakron_jax.methods import AdaKron
from adakron_jax.splice import Method, described, fits, make_method
from train.data.glue import TASKS
from train.engine.sharding import parse_mesh

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

    @property
    def dtype(self) -> Any:
        """What the model computes in; None for the precision of its parameters, float32."""
        return jnp.bfloat16 if self.precision == "bf16" else None

    def as_toml(self) -> dict[str, Any]:
        """The configuration as tables and plain values."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "method"}
        return values | {"method": {"name": self.method.name, **dataclasses.asdict(self.method)}}

    @classmethod
    def loads(cls, text: str) -> "RunConfig":
        """The configuration that `dumps` wrote; ValueError says what none can be."""
        values = tomllib.loads(text)
        try:
            fields, hints = dict(values.pop("method")), typing.get_type_hints(cls)
            values = {key: typed(key, value, hints[key]) for key, value in values.items()}
            return cls(**values, method=make_method(fields.pop("name"), fields))
        except KeyError as error:
            raise ValueError(f"no {error}") from None
        except TypeError as error:
            raise ValueError(str(error)) from None

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


def typed(key: str, value: Any, hint: Any) -> Any:
    """A value from TOML as a field's declared type has it; ValueError names one that does not fit."""
    if hint is float and fits(value, int):
        return float(value)
    if not fits(value, hint):
        words = "a table of its fields" if hint is dict else described(hint)
        raise ValueError(f"{key} is {value!r}; accepted: {words}")
    return value


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat
