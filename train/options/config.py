"""A run's configuration, checked on construction; all that a flag needs is declared with its field."""

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
      ValueError: a field is out of its range; the message names it and what is accepted.
    """

    task: str = option(
        "", f"{', '.join(TASKS)}, or glue: the paper's eight; a table of your own: any name, by default the table's",
        EVERYDAY, grid=True, recipe=False,
    )  # fmt: skip
    model: str = option(
        "bert-base-uncased", "a hub id, a folder, or pkg:NAME for a model in an installed package", EVERYDAY
    )
    data: str = option(
        "hub", "hub, mini (built in), or a folder with TASK/SPLIT.parquet|tsv|csv|jsonl; for a table of your own: a "
        "file, a folder with train.*, or hub:OWNER/NAME[:CONFIG]", EVERYDAY,
    )  # fmt: skip
    out: str = option("", "the run's folder; by default runs/TASK-METHOD-seedN", EVERYDAY, numbers=False)
    seed: int = option(0, "seed of the initialisation, the data order and dropout", EVERYDAY, grid=True, together=True)
    method: Method = option(AdaKron(), "how to fine-tune", EVERYDAY, grid=True, recipe=False)
    recipe: str = option(
        "paper", "paper; table, for a table of your own, whose values follow its size; fast (a tenth of the epochs, at "
        "least 3); or a TOML file of these flags", EVERYDAY,
        numbers=False, recipe=False,
    )  # fmt: skip
    epochs: int = option(20, "passes over the training set", EVERYDAY, at_least=1)
    batch_size: int = option(64, "examples in one optimiser step", EVERYDAY, at_least=1, grid=True)
    learning_rate: float = option(4e-4, "the peak learning rate", EVERYDAY, grid=True, together=True)
    text: tuple[str, ...] = option((), "the column of a table's texts, or two for pairs", CUSTOM_DATA)
    label: tuple[str, ...] = option(("label",), "the column of its labels, or several if multilabel", CUSTOM_DATA)
    problem: str = option("auto", "the kind of problem; auto infers it from the labels", CUSTOM_DATA, ("auto", *KINDS))
    scheme: str = option(
        "auto", "how to read tags: auto tells BIO, IOB1, IO and BIOES apart; words: each tag is a kind of word",
        CUSTOM_DATA, ("auto", "words"),
    )  # fmt: skip
    label_pieces: str = option(
        "first", "which pieces of a tagged word are trained on: the first, or all", CUSTOM_DATA, ("first", "all")
    )
    test: str = option("none", "rows to score once, at the end: a share, a split, or a file", CUSTOM_DATA)
    quoting: bool = option(
        False, "quotes in a .tsv enclose fields, as in a .csv, and are not part of the text", CUSTOM_DATA
    )
    weight_decay: float = option(0.1, "decay of all but biases and LayerNorms", OPTIMISATION, at_least=0, grid=True)
    warmup_ratio: float = option(
        0.06, "share of the steps over which the learning rate rises from 0", OPTIMISATION, grid=True
    )
    accumulate: int = option(1, "micro-batches to split a batch into, to save memory", OPTIMISATION, at_least=1)
    init_from: str = option(
        "", "a portable adapter's folder to start from, of the same method and encoder", OPTIMISATION
    )
    max_length: int = option(128, "tokens at which an example is cut", DATA, at_least=8)
    validation: str = option(
        "auto", "rows that choose the epoch: a share of the training rows, a split, or a file; auto: the data's own, "
        f"else a share of {SHARE}", DATA,
    )  # fmt: skip
    split_seed: int = option(0, "seed of the shares and folds, apart from --seed", DATA, at_least=0)
    folds: int = option(1, "cut the training rows into N, each choosing the epoch of its own run", DATA, at_least=1)
    fold: int = option(1, "run one of the folds alone", DATA, at_least=1)
    class_weights: str = option("none", "weights of examples in the loss; balanced: all classes count the same", DATA,
                                ("none", "balanced"))  # fmt: skip
    train_split: str = option("train", "the split to train on", DATA)
    limit_train: Limit = option(
        "all", "train on N examples: the first, or, from a table of your own, drawn by --split-seed", DATA, at_least=1
    )
    limit_eval: Limit = option("all", "evaluate on N examples of each split, likewise", DATA, at_least=1)
    best_by: str = option(
        "auto", "the metric that chooses the best evaluation, or last; auto: the task's first", EVALUATION
    )
    eval_every: Every = option(
        "epoch", "evaluate every N steps within an epoch, and always at its end", EVALUATION, at_least=1
    )
    patience: int = option(
        0, "stop after N evaluations without a better best_by; 0 trains to the end", EVALUATION, at_least=0
    )
    evaluate_once: int = option(
        0, "evaluate once, after epoch N of --epochs, and end there; 0: as --eval-every says", EVALUATION, at_least=0
    )
    score_test: bool = option(
        True,
        "at the end, score the test part, or the development set if training rows are held out in its place",
        EVALUATION,
    )
    pooling: str = option(
        AUTO, "what the head reads: the pretrained pooler on the first token, the first token, or the mean of "
        "all; auto: what the encoder's folder says that it was trained with, else the architecture's own. A resumed "
        "run keeps what it began with", OPTIMISATION, typing.get_args(AnyPooling), grid=True,
    )  # fmt: skip
    precision: str = option(
        AUTO, f"what it computes in: {MEANING}; trained parameters stay f32. A resumed run keeps what it began with",
        MACHINE, PRECISIONS,
    )  # fmt: skip
    remat: bool = option(False, "recompute each layer in the backward pass, to save memory", MACHINE)
    mesh: str = option("data=1", "devices to train on, such as data=8 or data=4,model=2", MACHINE, numbers=False)
    resume: str = option(
        "auto", "an interrupted run in --out: auto continues it, never refuses it, must requires it", MACHINE,
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
        """Whether the run trains on a table of the user's own."""
        return bool(self.text)

    @property
    def holds_out(self) -> bool:
        """Whether a part of the training rows chooses the epoch, although the task has a split for that."""
        return not self.custom_data and (self.validation != "auto" or self.folds > 1)

    @property
    def choosing_rows(self) -> str:
        """The name of the rows that choose the epoch."""
        return "held-out rows" if self.holds_out else "validation rows" if self.custom_data else "development set"

    @property
    def last_epoch(self) -> int:
        """The epoch after which the run ends, unless patience ends it earlier."""
        return self.evaluate_once or self.epochs

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of an evaluation, the headline first; for custom data, all that its problem may have."""
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
        """The type that the model computes in; asks JAX for its devices if that is still open."""
        return dtype_of(self.precision)

    def alike(self) -> "RunConfig":
        """Returns a configuration that is equal for all runs that may be trained together with this one."""
        free = (name for name, known in options(self).items() if known.together or not known.numbers)
        return dataclasses.replace(self, **{name: getattr(RunConfig, name) for name in free})

    def as_toml(self) -> dict[str, Any]:
        """Returns the configuration as tables and plain values."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "method"}
        return values | {"method": as_table(self.method)}

    @classmethod
    def loads(cls, text: str, where: Path | None = None) -> "RunConfig":
        """Returns the configuration that `dumps` wrote into folder `where`; ValueError says what is wrong with it."""
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
        """Returns the fields, as `name saved -> here`, in which a saved configuration would give other numbers."""
        free = {name for name, known in options(self).items() if not known.numbers}
        free |= {name for name in DECIDED if getattr(self, name) == AUTO}  # a run continues with what it began with
        # A field that an older version did not have changes nothing at its default.
        defaults = {field.name: field.default for field in dataclasses.fields(self) if field.name != "method"}
        now, before = _flat(tomllib.loads(self.dumps().decode())), defaults | _flat(saved)
        return [
            f"{key} {before.get(key, 'unset')!r} -> {now.get(key, 'unset')!r}"
            for key in sorted(now.keys() | before.keys())
            if key not in free and not self._same(key, now.get(key), before.get(key))
        ]

    def _same(self, key: str, now: Any, before: Any) -> bool:
        """Returns whether two values of a field are the same: a place may be spelled in several ways.

        For custom data, only the rows count, which a run knows by their digest.
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
