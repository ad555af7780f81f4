"""`result.json`: the record of a finished run."""

import dataclasses
import importlib.metadata
import json
import platform
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from adakron_jax.data.frames import frame_of
from adakron_jax.io.fields import from_mapping, typed
from adakron_jax.io.files import json_digest, write_whole
from adakron_jax.methods.registry import as_table, from_table
from adakron_jax.problems import kind_of
from adakron_jax.splice import Method
from train.data.glue import TASKS
from train.data.task import metric_of
from train.options.config import RunConfig


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One evaluation, with scores by metric."""

    epoch: int
    step: int
    scores: Mapping[str, float]

    def as_json(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "step": self.step, **self.scores}


@dataclasses.dataclass(frozen=True)
class Parameters:
    """The counts that `adakron_jax.params.budget` returns."""

    method: int
    head: int
    base: int
    percent: float


@dataclasses.dataclass(frozen=True)
class Throughput:
    """The throughput of training alone, without padding; `padding_fraction` of all tokens is padding."""

    examples_per_second: float
    tokens_per_second: float
    padding_fraction: float


@dataclasses.dataclass(frozen=True)
class Seconds:
    """Seconds since the run was started or resumed, including those of all runs trained together with it."""

    train: float
    eval: float
    compile: float
    total: float


@dataclasses.dataclass(frozen=True)
class Compilations:
    train: int
    eval: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """The record of a finished run.

    Attributes:
      best, last: the evaluation that `best_by` chose, and the one at the end.
      collapsed: whether the last evaluation predicted the same for every example.
      train_examples: how many examples it was trained on; None if an older version did not record it.
      together: how many runs were trained together, this one included.
      problem, data: for custom data, the kind of problem and the fingerprint of the rows.
      test: scores of the best evaluation's adapter on the splits that are scored once.
      journal: the SHA-256 of `metrics.jsonl`; empty if an older version did not record it.
    """

    task: str
    model: str
    method: Method
    seed: int
    params: Parameters
    best_by: str
    best: Evaluation
    last: Evaluation
    collapsed: bool
    stopped_early: bool = False
    train_examples: int | None = None
    together: int = 1
    problem: str = ""
    data: str = ""
    test: dict = dataclasses.field(default_factory=dict)
    journal: str = ""
    throughput: Throughput
    seconds: Seconds
    compilations: Compilations
    device: dict
    versions: dict

    @property
    def scored(self) -> dict[str, Mapping[str, float]]:
        """Scores of the `best` and the `last` evaluation, and of the `test` splits if there are any."""
        return {"best": self.best.scores, "last": self.last.scores} | ({"test": self.test} if self.test else {})

    def __repr__(self) -> str:
        words = {
            which: ", ".join(f"{name} {metric_of(name).show(score)}" for name, score in scores.items())
            for which, scores in self.scored.items()
        }
        said = f"{self.task}, {self.method.name}, seed {self.seed}: epoch {self.best.epoch} with {words['best']}"
        return f"{type(self).__name__}({said}{'; test ' + words['test'] if self.test else ''})"

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, as in `result.json`."""
        return dataclasses.asdict(self) | {
            "method": as_table(self.method),
            "best": self.best.as_json(),
            "last": self.last.as_json(),
        }

    def to_frame(self) -> Any:
        """Returns a pandas frame of every metric at the best and the last evaluation, and on the test part."""
        names, scored = dict.fromkeys([*self.best.scores, *self.test]), self.scored
        rows = ({"metric": name} | {which: scores.get(name) for which, scores in scored.items()} for name in names)
        return frame_of(list(rows), "metric")

    def write(self, folder: Path) -> None:
        values = self.to_dict()
        values |= {"sha256": json_digest(values)}
        write_whole(folder / "result.json", json.dumps(values, indent=2).encode() + b"\n")


def parse(text: str, config: RunConfig) -> Result:
    """Returns the result of a configuration's run from the contents of its `result.json`.

    Raises:
      ValueError: the contents are damaged, of another run, or not of a run.
    """
    try:
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError(f"it is {str(values)[:20]}; accepted: an object")
        digest = values.pop("sha256", None)
        method = from_table(values["method"])
        scored = scored_by(config, values.get("problem", ""))
        evaluations = {which: read_evaluation(values[which], scored) for which in ("best", "last")}
        result = from_mapping(Result, values | {"method": method} | evaluations)
    except KeyError as error:
        raise ValueError(f"no {error}") from None
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    for name in ("task", "model", "seed", "method"):
        if (value := getattr(result, name)) != getattr(config, name):
            raise ValueError(f"{name} is {value!r}, but {getattr(config, name)!r} in config.toml")
    if digest not in (None, json_digest(values)):  # older versions wrote none
        raise ValueError("it has been changed since it was written")
    return result


def scored_by(config: RunConfig, problem: str) -> Sequence[str]:
    """Returns the names of all scores of a run's evaluations; for custom data, by the kind of problem."""
    if config.custom_data:
        return kind_of(problem).metrics
    task = TASKS[config.task]
    return (task.holding_out() if config.holds_out else task).scored


def read_evaluation(record: Mapping[str, Any], scored: Collection[str]) -> Evaluation:
    """Reads an evaluation from its record; ValueError or KeyError unless it has all scores, each in its range."""
    scores = {name: typed(name, record[name], float) for name in scored}
    for name, score in scores.items():
        if not (metric := metric_of(name)).holds(score):
            raise ValueError(f"{name} is {score!r}; accepted: {metric.lowest:g} to {metric.highest:g}")
    return Evaluation(typed("epoch", record["epoch"], int), typed("step", record["step"], int), scores)


def low_resource(config: RunConfig, examples: int | None) -> bool:
    """Returns whether a run trains on part of GLUE's training set, by its examples, or else by its flags."""
    if config.custom_data:
        return False
    if config.data == "mini" or config.train_split != "train":
        return True
    if examples is None:
        return config.limit_train != "all"
    return examples < TASKS[config.task].train_examples


_PACKAGES = ("adakron-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "transformers", "datasets", "numpy")


def versions() -> dict[str, str]:
    def version(name: str) -> str:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return "not installed"

    return {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}


def device() -> dict[str, Any]:
    first = jax.devices()[0]
    return {"platform": first.platform, "kind": first.device_kind, "count": len(jax.devices())}
