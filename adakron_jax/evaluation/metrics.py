"""The metrics, each in [-1, 1] of labels and predictions."""

from collections.abc import Callable

import numpy as np

Metric = Callable[[np.ndarray, np.ndarray], float]


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
