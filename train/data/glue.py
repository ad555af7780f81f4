"""GLUE's nine tasks: columns, labels, splits and metrics, as the hub's `nyu-mll/glue` has them."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from adakron_jax.evaluation.metrics import METRICS
from adakron_jax.problem import Problem


@dataclasses.dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
      name: as in `--task` and on the hub.
      train_examples: how many the official training set has.
      texts: the one or two columns that hold the texts.
      labels: names in order of their codes; empty for a regression, whose labels are numbers in 0..5.
      metrics: the first is the one that the paper's Table 1 reports.
      best_by: the metric that chooses the best epoch, or `last` where the authors took the last one.
      dev_splits: split -> suffix of its metrics' names.
    """

    name: str
    train_examples: int
    texts: tuple[str, ...]
    labels: tuple[str, ...]
    metrics: tuple[str, ...] = ("accuracy",)
    best_by: str = "accuracy"
    dev_splits: Mapping[str, str] = dataclasses.field(default_factory=lambda: {"validation": ""})

    @property
    def regression(self) -> bool:
        return not self.labels

    @property
    def problem(self) -> Problem:
        return Problem("regression" if self.regression else "classification", self.labels)

    @property
    def scored(self) -> list[str]:
        """Names of every metric on every development split."""
        return [metric + suffix for suffix in self.dev_splits.values() for metric in self.metrics]

    def score(self, labels: np.ndarray, logits: np.ndarray) -> dict[str, float]:
        """Every metric, in [-1, 1], of logits [examples, labels]."""
        predictions = self.predict(logits)
        return {name: METRICS[name](labels, predictions) for name in self.metrics}

    def predict(self, logits: np.ndarray) -> np.ndarray:
        """Logits [examples, labels] to label codes, or to the regression's values."""
        return logits[:, 0] if self.regression else logits.argmax(-1)

    def collapsed(self, logits: np.ndarray) -> bool:
        """Whether every example gets the same answer, up to float32 rounding."""
        predictions = self.predict(logits)
        return bool(np.ptp(predictions) <= (1e-5 if self.regression else 0))


_PAIR = ("sentence1", "sentence2")
_TASKS = (
    Task("cola", 8_551, ("sentence",), ("unacceptable", "acceptable"), ("matthews", "accuracy"), best_by="last"),
    Task("sst2", 67_349, ("sentence",), ("negative", "positive")),
    Task("mrpc", 3_668, _PAIR, ("not_equivalent", "equivalent"), ("f1", "accuracy")),
    Task("qqp", 363_846, ("question1", "question2"), ("not_duplicate", "duplicate"), ("f1", "accuracy")),
    Task("stsb", 5_749, _PAIR, (), ("pearson", "spearman"), best_by="last"),
    Task(
        "mnli",
        392_702,
        ("premise", "hypothesis"),
        ("entailment", "neutral", "contradiction"),
        dev_splits={"validation_matched": "", "validation_mismatched": "_mismatched"},
    ),
    Task("qnli", 104_743, ("question", "sentence"), ("entailment", "not_entailment")),
    Task("rte", 2_490, _PAIR, ("entailment", "not_entailment")),
    Task("wnli", 635, _PAIR, ("not_entailment", "entailment")),
)
TASKS = {task.name: task for task in _TASKS}
SUITES = {"glue": ("mnli", "qnli", "sst2", "qqp", "mrpc", "cola", "rte", "stsb")}  # the paper's eight, in its order
