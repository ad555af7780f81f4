"""A run's configuration, checked on construction; all that is to be known of a flag is said with its field."""

import dataclasses
import functools
import math
import os
import re
import tomllib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import tomli_w

from adakron_jax.architectures.folder import AnyPooling
from adakron_jax.data.formats import suffix_of
from adakron_jax.evaluation.metrics import METRICS
from adakron_jax.methods import AdaKron
from adakron_jax.methods.registry import as_table, from_table
from adakron_jax.problems import KINDS
from adakron_jax.splice import Method
from adakron_jax.xla.precision import AUTO, MEANING, PRECISIONS, dtype_of
from train.data.glue import TASKS
from train.data.sources import ROWS
from train.data.splits import SHARE, share
from train.options.mesh import MeshShape, parse_mesh
from train.options.option import check_options, option, options, typed

Limit = int | Literal["all"]
_NAME = re.compile(r"\w[\w.-]*")
Every = int | Literal["epoch"]

EVERYDAY, CUSTOM_DATA, OPTIMISATION, DATA = "everyday flags", "a table of your own", "optimisation", "data"
EVALUATION, MACHINE = "evaluation", "machine"


DECIDED = ("precision", "pooling")  # what `auto` leaves to the machine and the encoder until a run begins


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run's numbers, and where they go.

    Raises:
      ValueError: a field is out of its range; it is named with what is accepted.
    """

    task: str = option(
        "", f"{', '.join(TASKS)}, or glue: the paper's eight; of a table of your own any name, by default its own",
        EVERYDAY, grid=True, recipe=False,
    )  # fmt: skip
    model: str = option(
        "bert-base-uncased", "a hub id, a folder, or pkg:NAME for a model in an installed package", EVERYDAY
    )
    data: str = option(
        "hub", "hub, mini (built in), or a folder with TASK/SPLIT.parquet|tsv|csv|jsonl; a table of your own: a file, "
        "a folder with train.*, or hub:OWNER/NAME[:CONFIG]", EVERYDAY,
    )  # fmt: skip
    out: str = option("", "the run's folder; by default runs/TASK-METHOD-seedN", EVERYDAY, numbers=False)
    seed: int = option(0, "of the initialisation, the data order and dropout", EVERYDAY, grid=True, together=True)
    method: Method = option(AdaKron(), "how to fine-tune", EVERYDAY, grid=True, recipe=False)
    recipe: str = option(
        "paper", "paper; table, of a table of your own, whose values follow its size; fast (a tenth of the epochs, at "
        "least 3); or a TOML file of these flags", EVERYDAY,
        numbers=False, recipe=False,
    )  # fmt: skip
    epochs: int = option(20, "passes over the training set", EVERYDAY, at_least=1)
    batch_size: int = option(64, "examples of one optimiser step", EVERYDAY, at_least=1, grid=True)
    learning_rate: float = option(4e-4, "at its peak", EVERYDAY, grid=True, together=True)
    text: tuple[str, ...] = option((), "the column of a table's texts, or two of pairs", CUSTOM_DATA)
    label: tuple[str, ...] = option(("label",), "the column of its labels; several are multilabel", CUSTOM_DATA)
    problem: str = option("auto", "what a table's labels ask for; auto looks at them", CUSTOM_DATA, ("auto", *KINDS))
    scheme: str = option(
        "auto", "of tags: auto tells BIO, IOB1, IO and BIOES apart; words: each tag is a kind, as parts of speech are",
        CUSTOM_DATA, ("auto", "words"),
    )  # fmt: skip
    label_pieces: str = option(
        "first", "which of a tagged word's pieces train: the first, or all", CUSTOM_DATA, ("first", "all")
    )
    test: str = option("none", "what a table's best epoch is scored on once, at the end: likewise", CUSTOM_DATA)
    quoting: bool = option(
        False, "quotes in a .tsv enclose fields, as in a .csv, and are no part of the text", CUSTOM_DATA
    )
    weight_decay: float = option(0.1, "on all but biases and LayerNorms", OPTIMISATION, at_least=0, grid=True)
    warmup_ratio: float = option(
        0.06, "share of the steps over which the learning rate rises from 0", OPTIMISATION, grid=True
    )
    accumulate: int = option(1, "micro-batches that a batch is computed in, to save memory", OPTIMISATION, at_least=1)
    init_from: str = option(
        "", "a portable adapter's folder to start from, of the same method and encoder", OPTIMISATION
    )
    max_length: int = option(128, "tokens at which an example is cut", DATA, at_least=8)
    validation: str = option(
        "auto", "what chooses the epoch: a share of the training rows, a split, or a file; auto: the data's own, else "
        f"a share of {SHARE}", DATA,
    )  # fmt: skip
    split_seed: int = option(0, "of the shares and folds, which no --seed moves", DATA, at_least=0)
    folds: int = option(1, "cut the training rows into N, each of which chooses in a run of its own", DATA, at_least=1)
    fold: int = option(1, "run one of the folds alone", DATA, at_least=1)
    class_weights: str = option("none", "of the examples in the loss; balanced: all classes count the same", DATA,
                                ("none", "balanced"))  # fmt: skip
    train_split: str = option("train", "the split to train on", DATA)
    limit_train: Limit = option(
        "all", "train on N examples: the first, of a table of your own ones drawn by --split-seed", DATA, at_least=1
    )
    limit_eval: Limit = option("all", "evaluate on N examples of each split, likewise", DATA, at_least=1)
    best_by: str = option(
        "auto", "the metric that chooses the best evaluation, or last; auto: the task's first", EVALUATION
    )
    eval_every: Every = option(
        "epoch", "evaluate after N steps of an epoch, 2 N and so on, and at its end anyway", EVALUATION, at_least=1
    )
    patience: int = option(
        0, "stop after N evaluations without a better best_by; 0 trains to the end", EVALUATION, at_least=0
    )
    evaluate_once: int = option(
        0, "evaluate once, after epoch N of --epochs, and end there; 0: as --eval-every says", EVALUATION, at_least=0
    )
    score_test: bool = option(
        True,
        "score the test part, or the development set of which training rows take the place, at the end",
        EVALUATION,
    )
    pooling: str = option(
        AUTO, "what the head reads: the pretrained pooler on the first token, the first token, or the mean of "
        "all; auto: what the encoder's folder says that it was trained with, else the architecture's own. A resumed "
        "run keeps to what it began with", OPTIMISATION, typing.get_args(AnyPooling), grid=True,
    )  # fmt: skip
    precision: str = option(
        AUTO, f"what it computes in: {MEANING}; trained parameters stay f32. A resumed run keeps to what it began in",
        MACHINE, PRECISIONS,
    )  # fmt: skip
    remat: bool = option(False, "compute each layer again in the backward pass, to save memory", MACHINE)
    mesh: str = option("data=1", "devices, such as data=8 or data=4,model=2", MACHINE, numbers=False)
    resume: str = option(
        "auto", "an interrupted run in --out: auto continues it, never refuses, must insists", MACHINE,
        ("auto", "never", "must"), numbers=False,
    )  # fmt: skip

    def __post_init__(self):
        if self.custom_data:
            self._check("task", _NAME.fullmatch(self.task) is not None, "a name of letters, digits, points and dashes")
            self._check("data", self.data not in ("hub", "mini"), "a table: a file, a folder, or hub:OWNER/NAME")
        else:
            self._check("task", self.task in TASKS, ", ".join(TASKS))
            self._check("validation", self.validation == "auto" or share(self.validation) > 0, "auto, or a share")
            self._check("test", self.test == "none", "none, but for a table of one's own")
        check_options(self)
        for name in ("scheme", "label_pieces"):
            default = getattr(RunConfig, name)
            self._check(name, self.custom_data or getattr(self, name) == default, f"{default}, but for a table's tags")
        self._check("quoting", self.custom_data or not self.quoting, "false, but for a table of one's own")
        self._check("seed", 0 <= self.seed < 2**32, "0 to 2**32 - 1")
        self._check("accumulate", self.batch_size % self.accumulate == 0, f"a divisor of batch_size {self.batch_size}")
        self._check("learning_rate", 0 < self.learning_rate < math.inf, "above 0")
        self._check("warmup_ratio", 0 <= self.warmup_ratio <= 1, "0 to 1")
        choosing = ("auto", *self.metrics, "last")
        self._check("best_by", self.best_by in choosing, ", ".join(choosing))
        self._check("patience", not self.patience or self.best_by != "last", "0, since best_by is 'last'")
        self._check("evaluate_once", self.evaluate_once <= self.epochs, f"at most {self.epochs}, the epochs")
        self._check("patience", not (self.patience and self.evaluate_once), "0, since it evaluates once")
        self._check("fold", self.fold <= self.folds, f"1 to {self.folds}, the folds")
        self._check("validation", self.folds == 1 or self.validation == "auto", "auto, where the folds choose")
        _ = self.mesh_shape

    def _check(self, name: str, valid: bool, accepted: str) -> None:
        if not valid:
            raise ValueError(f"{name} is {getattr(self, name)!r}; accepted: {accepted}")

    @property
    def custom_data(self) -> bool:
        """Whether it trains on a table of one's own."""
        return bool(self.text)

    @property
    def holds_out(self) -> bool:
        """Whether a part of the training rows chooses although the task has a split that would."""
        return not self.custom_data and (self.validation != "auto" or self.folds > 1)

    @property
    def choosing_rows(self) -> str:
        """What the rows that choose the epoch are called."""
        return "held-out rows" if self.holds_out else "validation rows" if self.custom_data else "development set"

    @property
    def last_epoch(self) -> int:
        """The epoch after which it ends, whatever patience does."""
        return self.evaluate_once or self.epochs

    @property
    def metrics(self) -> tuple[str, ...]:
        """Those of an evaluation; the first is the headline. Of one's own table, those that it may turn out to have."""
        return tuple(METRICS) if self.custom_data else TASKS[self.task].metrics

    @functools.cached_property
    def mesh_shape(self) -> MeshShape:
        return parse_mesh(self.mesh)

    @property
    def folder(self) -> Path:
        fold = f"-fold{self.fold}of{self.folds}" if self.folds > 1 else ""
        return Path(self.out or f"runs/{self.task}-{self.method.name}{fold}-seed{self.seed}")

    @property
    def dtype(self) -> Any:
        """What the model computes in; asks JAX for its devices where that is to be decided."""
        return dtype_of(self.precision)

    def alike(self) -> "RunConfig":
        """The same for all runs that may take their steps as one with it."""
        free = (name for name, known in options(self).items() if known.together or not known.numbers)
        return dataclasses.replace(self, **{name: getattr(RunConfig, name) for name in free})

    def as_toml(self) -> dict[str, Any]:
        """The configuration as tables and plain values."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "method"}
        return values | {"method": as_table(self.method)}

    @classmethod
    def loads(cls, text: str, where: Path | None = None) -> "RunConfig":
        """The configuration that `dumps` wrote, for the file in a folder; ValueError says what none can be."""
        values = tomllib.loads(text)
        try:
            method, hints = from_table(dict(values.pop("method")), where), typing.get_type_hints(cls)
            values = {key: typed(key, value, hints[key]) for key, value in values.items()}
            return cls(**values, method=method)
        except KeyError as error:
            raise ValueError(f"no {error}") from None
        except TypeError as error:
            raise ValueError(str(error)) from None

    def dumps(self) -> bytes:
        return tomli_w.dumps(self.as_toml()).encode()

    def differences(self, saved: Mapping[str, Any]) -> list[str]:
        """Fields, as `name saved -> here`, in which a saved configuration would give other numbers."""
        free = {name for name, known in options(self).items() if not known.numbers}
        free |= {name for name in DECIDED if getattr(self, name) == AUTO}  # a run goes on with what it began with
        # A field that an older version did not have changes nothing at its default.
        defaults = {field.name: field.default for field in dataclasses.fields(self) if field.name != "method"}
        now, before = _flat(tomllib.loads(self.dumps().decode())), defaults | _flat(saved)
        return [
            f"{key} {before.get(key, 'unset')!r} -> {now.get(key, 'unset')!r}"
            for key in sorted(now.keys() | before.keys())
            if key not in free and not self._same(key, now.get(key), before.get(key))
        ]

    def _same(self, key: str, now: Any, before: Any) -> bool:
        """Whether two values of a field are one: places may be spelled in several ways.

        Of a table of one's own its rows decide, which a run knows by their digest.
        """
        if now == before or not isinstance(now, str) or not isinstance(before, str):
            return now == before
        if self.custom_data and key == "data":
            return True
        if self.custom_data and key in ("validation", "test"):
            return all(suffix_of(Path(place)) or place.startswith(ROWS) for place in (now, before))
        return key in ("model", "data", "init_from") and os.path.abspath(now) == os.path.abspath(before)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat
