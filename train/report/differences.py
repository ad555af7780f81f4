"""Paired differences between the rows of a table.

Over the seeds that both have: a bootstrap. Over the examples that both predicted: a bootstrap and McNemar's exact test.
"""

import dataclasses
import itertools
import math
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from adakron_jax.entities.ragged import Ragged
from adakron_jax.evaluation.metrics import METRICS
from adakron_jax.methods import AdaKron
from train.output.predictions import BEST, TEST, Predicted
from train.report.runs import Column, Repeat
from train.report.tables import Row, Table, label

CONFIDENCE = 0.95
RESAMPLES, RESAMPLES_OF_EXAMPLES = 9999, 1000
LEAST = 3  # seeds of an interval: that of two is nothing but the two values


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


@dataclasses.dataclass(frozen=True)
class Difference:
    """The mean difference of two rows over common seeds, as scores are shown.

    Attributes:
      which: the block, `best` or `test`.
      interval: over seeds, of three or more.
      examples: the comparison over examples, where the runs have kept what they predicted.
    """

    left: Row
    right: Row
    column: Column
    which: str
    seeds: list[Repeat]
    mean: float | None
    interval: tuple[float, float] | None
    examples: OverExamples | None


def differences(table: Table) -> Iterator[Difference]:
    """Of every task's headline, at the best epoch and on the test part: those of the pairs that are compared."""
    for column in table.headlines:
        for which in (which for which in (BEST, TEST) if which in table.blocks):
            for left, right in pairs(table, column):
                of_left, of_right = (row.cells[which][column].scores for row in (left, right))
                seeds = sorted(of_left.keys() & of_right.keys())
                values = [of_left[seed] - of_right[seed] for seed in seeds]
                mean = statistics.fmean(values) if values else None
                examples = over_examples(left, right, column, which) if values else None
                yield Difference(left, right, column, which, seeds, mean, interval(values), examples)


def pairs(table: Table, column: Column) -> Iterator[tuple[Row, Row]]:
    """The pairs that were asked for; else AdaKron (of several rows the paper's, else the first) and every other row."""
    ran = [row for row in table.rows if row.values("epochs", column[0])]
    for names in table.compare:
        chosen = [[row for row in ran if name in names_of(row)] for name in names]
        yield from ((left, right) for left, right in itertools.product(*chosen) if left is not right)
    if not table.compare:
        ranked = sorted(ran, key=lambda row: (row.method != AdaKron(), row.method.name != AdaKron.name))
        ranked.sort(key=lambda row: not row.cells[BEST][column].scores)
        yield from ((ranked[0], other) for other in ranked[1:])


def names_of(row: Row) -> tuple[str, str]:
    """How a row may be called: by its method, or with the fields that tell it from its kin."""
    return row.method.name, label(row.method)


def check_names(tables: Sequence[Table], names: Sequence[str]) -> None:
    """ValueError unless every name is that of a row of some table."""
    known = dict.fromkeys(name for table in tables for row in table.rows for name in names_of(row))
    for name in names:
        if name not in known:
            raise ValueError(f"compare is {name!r}; accepted: {', '.join(map(repr, known))}")


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The bootstrap's percentile interval of a mean, the same in every report; None of fewer than three values."""
    if len(values) < LEAST or not all(map(math.isfinite, values)):
        return None
    from scipy import stats

    bounds = stats.bootstrap(
        (np.asarray(values),),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(bounds.low), float(bounds.high)


def over_examples(left: Row, right: Row, column: Column, which: str) -> OverExamples | None:
    """The comparison in one column of a block; None unless all runs of common seeds predicted the same examples."""
    task, metric = column
    ended = ({run.repeat: run for run in row.runs if run.result and run.config.task == task} for row in (left, right))
    of_left, of_right = ended
    repeats = sorted(of_left.keys() & of_right.keys())
    pairs = [(of_left[repeat].predicted.get(which), of_right[repeat].predicted.get(which)) for repeat in repeats]
    known = [(former, latter) for former, latter in pairs if former is not None and latter is not None]
    if metric not in METRICS or not known or len(known) < len(pairs):
        return None
    first = known[0][0].targets
    if not all(_same(first, predicted.targets) for pair in known for predicted in pair):
        return None
    compute, random, drawn = METRICS[metric], np.random.default_rng(0), []
    for _ in range(RESAMPLES_OF_EXAMPLES):
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
