"""The metrics: how each is computed, its range, and which way is better.

They are plain counts, so that a bootstrap can afford thousands of them; tests compare them with scikit-learn's.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Shaped

from adakron_jax.entities import scores
from adakron_jax.entities.ragged import Ragged

Targets = Shaped[np.ndarray, "examples *labels"]
Number = float | np.floating
RESAMPLES, CONFIDENCE = 1000, 0.95  # of the bootstrap


@dataclasses.dataclass(frozen=True)
class Metric:
    """A number computed from targets and predictions, both in the form of `Problem.predict`; calling it computes it.

    Attributes:
      title: its name in a table's head.
      compute: from targets and predictions to the number.
      lowest, highest: the range of its values.
      higher_is_better: false for an error.
    """

    title: str
    compute: Callable[[Any, Any], Number]
    lowest: float = 0.0
    highest: float = 1.0
    higher_is_better: bool = True

    def __call__(self, targets: Targets | Ragged, predictions: Targets | Ragged) -> float:
        return float(self.compute(targets, predictions))

    def merit(self, value: float) -> float:
        """Returns the value, negated if less is better, so that more is better for every metric."""
        return value if self.higher_is_better else -value

    def holds(self, value: float) -> bool:
        """Returns whether the metric can have this value."""
        return self.lowest <= value <= self.highest and math.isfinite(value)

    @property
    def scale(self) -> float:
        """The factor for display: 100 for a share or a correlation, 1 for an error, which has a unit."""
        return 100.0 if self.highest == 1 else 1.0

    def show(self, value: float) -> str:
        return f"{self.scale * value:.2f}" if self.scale > 1 else f"{value:.4g}"


def _accuracy(targets: np.ndarray, predictions: np.ndarray) -> Number:
    right = targets == predictions
    return np.mean(right.all(-1) if right.ndim == 2 else right)


def counts(targets: np.ndarray, predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts hits, targets and predictions by label, from codes [examples] or booleans [examples, labels]."""
    if targets.ndim == 2:
        return (targets & predictions).sum(0), targets.sum(0), predictions.sum(0)
    labels = 1 + max(targets.max(), predictions.max())
    return (
        np.bincount(targets[targets == predictions], minlength=labels),
        np.bincount(targets, minlength=labels),
        np.bincount(predictions, minlength=labels),
    )


def f1_by_label(hits: np.ndarray, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Computes the harmonic mean of precision and recall from `counts`; 0 for a label that does not occur."""
    return 2 * hits / np.maximum(targets + predictions, 1)


def _f1(targets: np.ndarray, predictions: np.ndarray) -> Number:
    return f1_by_label(*counts(targets[:, None] == 1, predictions[:, None] == 1))[0]


def _macro_f1(targets: np.ndarray, predictions: np.ndarray) -> Number:
    counted = counts(targets, predictions)
    by_label = f1_by_label(*counted)
    # Codes that do not occur are not labels of these examples; a column of a multilabel problem always is one.
    return np.mean(by_label if targets.ndim == 2 else by_label[counted[1] + counted[2] > 0])


def _weighted_f1(targets: np.ndarray, predictions: np.ndarray) -> Number:
    counted = counts(targets, predictions)
    return np.average(f1_by_label(*counted), weights=counted[1])


def _micro_f1(targets: np.ndarray, predictions: np.ndarray) -> Number:
    hits, wanted, given = (count.sum() for count in counts(targets, predictions))
    return 2 * hits / max(wanted + given, 1)


def _matthews(targets: np.ndarray, predictions: np.ndarray) -> Number:
    # Gorodkin 2004, R_K; with two labels it is Matthews' coefficient.
    hits, wanted, given = (count.astype(np.float64) for count in counts(targets, predictions))
    total = len(targets)
    spread = (total**2 - given @ given) * (total**2 - wanted @ wanted)
    return (hits.sum() * total - given @ wanted) / math.sqrt(spread) if spread else 0.0


def _correlation(targets: np.ndarray, predictions: np.ndarray, kind: str) -> Number:
    # A constant has no correlation with anything; it counts as 0, as for Matthews'.
    if np.ptp(predictions) == 0 or np.ptp(targets) == 0:
        return 0.0
    from scipy import stats  # takes a second to import

    return getattr(stats, kind)(targets, predictions).statistic


def _rmse(targets: np.ndarray, predictions: np.ndarray) -> Number:
    return np.sqrt(np.mean(np.square(predictions - targets, dtype=np.float64)))


def _mae(targets: np.ndarray, predictions: np.ndarray) -> Number:
    return np.mean(np.abs(predictions - targets), dtype=np.float64)


def _of_entities(targets: Ragged, predictions: Ragged, name: str) -> Number:
    kinds = int(max(targets.values.max(initial=0), predictions.values.max(initial=0)) + 1) // 2
    return scores.compare(targets.values, predictions.values, targets.offsets, kinds).scores()[name]


METRICS = {
    "accuracy": Metric("accuracy", _accuracy),
    "f1": Metric("F1", _f1),
    "macro_f1": Metric("macro F1", _macro_f1),
    "weighted_f1": Metric("weighted F1", _weighted_f1),
    "matthews": Metric("Matthews", _matthews, lowest=-1.0),
    "micro_f1": Metric("micro F1", _micro_f1),
    "subset_accuracy": Metric("subset accuracy", _accuracy),
    "pearson": Metric("Pearson", functools.partial(_correlation, kind="pearsonr"), lowest=-1.0),
    "spearman": Metric("Spearman", functools.partial(_correlation, kind="spearmanr"), lowest=-1.0),
    "rmse": Metric("RMSE", _rmse, highest=math.inf, higher_is_better=False),
    "mae": Metric("MAE", _mae, highest=math.inf, higher_is_better=False),
    **{
        name: Metric(name.replace("_", " ").replace("f1", "F1"), functools.partial(_of_entities, name=name))
        for name in scores.METRICS
    },
}


def intervals(names: Sequence[str], targets: Targets, predictions: Targets) -> dict[str, tuple[float, float]]:
    """Computes every metric's percentile bootstrap: a thousand resamples of the examples, drawn with replacement."""
    random, drawn = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        rows = random.integers(len(targets), size=len(targets))
        drawn.append([METRICS[name](targets[rows], predictions[rows]) for name in names])
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate(names)}
