"""What a run is trained for: one of GLUE's tasks, or custom data."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from adakron_jax.evaluation.metrics import METRICS, Metric
from adakron_jax.problems import Problem, from_json

MISMATCHED = "_mismatched"  # suffix of the names of scores on MNLI's second development set
_SCORES = {metric + suffix: METRICS[metric] for suffix in ("", MISMATCHED) for metric in METRICS}


def metric_of(score: str) -> Metric:
    """Returns the metric of a score, whose name is the metric's with the suffix of a split."""
    return _SCORES[score]


@dataclasses.dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
      name: as in `--task`, in reports and in the adapter.
      problem: what the head predicts.
      texts: the one or two columns that hold the texts.
      label: the columns that hold the labels; only a multilabel problem may have more than one.
      metrics: the first is the headline.
      best_by: the metric that chooses the best evaluation unless told otherwise, or `last`.
      dev_splits: the splits that choose the epoch, split -> suffix of its metrics' names.
      test_splits: the splits scored once at the end, likewise.
      train_examples: the size of the official training set; 0 for custom data.
      fingerprint: the fingerprint of custom data.
    """

    name: str
    problem: Problem
    texts: tuple[str, ...]
    label: tuple[str, ...] = ("label",)
    metrics: tuple[str, ...] = ("accuracy",)
    best_by: str = "accuracy"
    dev_splits: Mapping[str, str] = dataclasses.field(default_factory=lambda: {"validation": ""})
    test_splits: Mapping[str, str] = dataclasses.field(default_factory=dict)
    train_examples: int = 0
    fingerprint: str = ""

    @classmethod
    def of(cls, problem: Problem, **fields: Any) -> "Task":
        """Returns a task with all metrics of its problem."""
        return cls(problem=problem, metrics=problem.metrics, best_by=problem.metrics[0], **fields)

    def as_json(self) -> dict[str, Any]:
        """Returns the fields as `from_json` reads them."""
        return dataclasses.asdict(self) | self.problem.as_json()

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Task":
        """Returns the task whose fields `as_json` wrote; ValueError if they are not those of a task."""
        try:
            values: dict[str, Any] = {**fields, "problem": from_json(fields)}
            values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
            return cls(**{field.name: values[field.name] for field in dataclasses.fields(cls)})
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no task ({error})") from None

    @property
    def labels(self) -> tuple[str, ...]:
        return self.problem.labels

    @property
    def scored(self) -> list[str]:
        """The names of every metric on every split that chooses the epoch."""
        return [metric + suffix for suffix in self.dev_splits.values() for metric in self.metrics]

    def score(self, targets: Any, logits: Any) -> dict[str, float]:
        """Returns every metric of logits [examples, outputs]."""
        return self.problem.scores(targets, self.problem.predict(logits), self.metrics)

    def holding_out(self) -> "Task":
        """Returns the task with part of its training set to choose the epoch: its dev splits are scored at the end."""
        return dataclasses.replace(self, dev_splits={"held_out": ""}, test_splits=self.dev_splits)
