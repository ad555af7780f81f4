"""Two rows of a table compared over the examples that both predicted: a bootstrap, and McNemar's exact test."""

import dataclasses
import statistics
from typing import Any

import numpy as np

from adakron_jax.entities.ragged import Ragged
from adakron_jax.evaluation.metrics import METRICS
from train.output.predictions import Predicted
from train.report.runs import Column
from train.report.tables import Row

RESAMPLES, CONFIDENCE = 1000, 0.95


@dataclasses.dataclass(frozen=True)
class OverExamples:
    """The comparison.

    Attributes:
      examples: how many.
      interval: of the mean difference over seeds, as scores are shown, when other examples are drawn.
      p_values: of McNemar's test, for each common seed; none of a regression.
    """

    examples: int
    interval: tuple[float, float]
    p_values: tuple[float, ...]


def over_examples(left: Row, right: Row, column: Column, which: str) -> OverExamples | None:
    """The comparison in one column of a block; None unless all runs of common seeds predicted the same examples."""
    task, metric = column
    of_left, of_right = ({run.repeat: run for run in row.runs if run.config.task == task} for row in (left, right))
    repeats = sorted(of_left.keys() & of_right.keys())
    pairs = [(of_left[repeat].predicted.get(which), of_right[repeat].predicted.get(which)) for repeat in repeats]
    known = [(former, latter) for former, latter in pairs if former is not None and latter is not None]
    if metric not in METRICS or not known or len(known) < len(pairs):
        return None
    first = known[0][0].targets
    if not all(_same(first, predicted.targets) for pair in known for predicted in pair):
        return None
    compute, random, drawn = METRICS[metric], np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        rows = random.integers(len(first), size=len(first))
        scores = [[compute(first[rows], predicted.predictions[rows]) for predicted in pair] for pair in known]
        drawn.append(statistics.fmean(former - latter for former, latter in scores))
    low, high = compute.scale * np.nanquantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    hits = [(right_wholly(former), right_wholly(latter)) for former, latter in known]
    tests = tuple(mcnemar(former, latter) for former, latter in hits if former is not None and latter is not None)
    return OverExamples(len(first), (float(low), float(high)), tests)


def mcnemar(left: np.ndarray, right: np.ndarray) -> float:
    """The p-value of McNemar's exact test, of whether each of two predicted each example rightly.

    Of the examples on which they differ, how often one alone is right is held against a fair coin, from both sides.
    """
    from scipy import stats

    alone, differing = int((left & ~right).sum()), int((left != right).sum())
    return float(stats.binomtest(alone, differing).pvalue) if differing else 1.0


def _same(targets: Any, others: Any) -> bool:
    if isinstance(targets, Ragged):
        of_words = isinstance(others, Ragged) and np.array_equal(targets.offsets, others.offsets)
        return of_words and np.array_equal(targets.values, others.values)
    return isinstance(others, np.ndarray) and np.array_equal(targets, others)


def right_wholly(predicted: Predicted) -> np.ndarray | None:
    """Whether each example is predicted as a whole; None of a regression, whose predictions are no hits."""
    targets, predictions = predicted.targets, predicted.predictions
    if isinstance(targets, Ragged):
        wrong = np.r_[0, np.cumsum(targets.values != predictions.values)]
        return np.diff(wrong[targets.offsets]) == 0
    if np.issubdtype(targets.dtype, np.floating):
        return None
    hits = targets == predictions
    return hits.all(-1) if hits.ndim > 1 else hits
