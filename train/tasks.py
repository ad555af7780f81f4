"""GLUE's nine tasks: columns, labels, splits and metrics, as the hub's `nyu-mll/glue` has them."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

Metric = Callable[[np.ndarray, np.ndarray], float]


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
    def num_labels(self) -> int:
        return len(self.labels) or 1

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


@dataclasses.dataclass(frozen=True)
class Sheet:
    """One file of answers, as the leaderboard at gluebenchmark.com wants it.

    Attributes:
      name: of the file, before `.tsv`.
      task: the one whose model answers.
      size: examples of the official test set.
      split: of the data.
      spelled: whether labels are given by their names rather than their codes.
      source: where the data have the examples, if not at the task's name.
    """

    name: str
    task: Task
    size: int
    split: str = "test"
    spelled: bool = False
    source: str = ""

    @property
    def examples(self) -> Task:
        """The task under the name that its test examples have in the data."""
        return dataclasses.replace(self.task, name=self.source or self.task.name)

    def words(self, predictions: np.ndarray) -> list[str]:
        """Label codes, or a regression's values, as the site reads them."""
        if self.task.regression:
            return [f"{value:.3f}" for value in np.clip(predictions, 0, 5)]
        return [self.task.labels[code] if self.spelled else str(code) for code in predictions]


SHEETS = (
    Sheet("CoLA", TASKS["cola"], 1063),
    Sheet("SST-2", TASKS["sst2"], 1821),
    Sheet("MRPC", TASKS["mrpc"], 1725),
    Sheet("STS-B", TASKS["stsb"], 1379),
    Sheet("MNLI-m", TASKS["mnli"], 9796, "test_matched", spelled=True),
    Sheet("MNLI-mm", TASKS["mnli"], 9847, "test_mismatched", spelled=True),
    Sheet("QNLI", TASKS["qnli"], 5463, spelled=True),
    Sheet("RTE", TASKS["rte"], 3000, spelled=True),
    Sheet("QQP", TASKS["qqp"], 390965),
    Sheet("WNLI", TASKS["wnli"], 146),
    Sheet("AX", TASKS["mnli"], 1104, spelled=True, source="ax"),
)


# scikit-learn and scipy take seconds to import, so each metric imports what it needs.
def _accuracy(labels: np.ndarray, predictions: np.ndarray) -> float:
    return float(np.mean(labels == predictions))


def _f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predictions, zero_division=0.0))  # pyright: ignore[reportArgumentType]


def _matthews(labels: np.ndarray, predictions: np.ndarray) -> float:
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(labels, predictions))


def _correlation(labels: np.ndarray, predictions: np.ndarray, kind: str) -> float:
    # A constant has no correlation with anything; like Matthews' it counts as 0.
    if np.ptp(predictions) == 0 or np.ptp(labels) == 0:
        return 0.0
    from scipy import stats

    return float(getattr(stats, kind)(labels, predictions).statistic)


METRICS: dict[str, Metric] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "matthews": _matthews,
    "pearson": lambda labels, predictions: _correlation(labels, predictions, "pearsonr"),
    "spearman": lambda labels, predictions: _correlation(labels, predictions, "spearmanr"),
}
