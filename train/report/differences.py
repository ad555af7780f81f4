"""Paired differences between the rows of a table.

Over the seeds that both have, a bootstrap; over the examples that both predicted, a bootstrap and McNemar's exact test.
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
LEAST = 3  # seeds for an interval: with two it would be just the two values


@dataclasses.dataclass(frozen=True)
class OverExamples:
    """The comparison of two rows over examples.

    Attributes:
      examples: the number of examples.
      interval: the interval of the mean difference over seeds, in the scale of scores, when examples are redrawn.
      p_values: those of McNemar's test for each common seed; empty for a regression.
    """

    examples: int
    interval: tuple[float, float]
    p_values: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Difference:
    """The mean difference of two rows over common seeds, in the scale in which scores are shown.

    Attributes:
      which: the block, `best` or `test`.
      interval: the interval over seeds, if there are three or more.
      examples: the comparison over examples, if the runs have kept what they predicted.
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
    """Yields the differences of compared pairs, in every task's headline, at the best epoch and on the test part."""
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
    """Yields the pairs asked for; else AdaKron (of several rows, the paper's or the first) with every other row."""
    ran = [row for row in table.rows if row.values("epochs", column[0])]
    for names in table.compare:
        chosen = [[row for row in ran if name in names_of(row)] for name in names]
        yield from ((left, right) for left, right in itertools.product(*chosen) if left is not right)
    if not table.compare:
        ranked = sorted(ran, key=lambda row: (row.method != AdaKron(), row.method.name != AdaKron.name))
        ranked.sort(key=lambda row: not row.cells[BEST][column].scores)
        yield from ((ranked[0], other) for other in ranked[1:])


def names_of(row: Row) -> tuple[str, str]:
    """Returns the names of a row: its method's, and that with the fields that distinguish it."""
    return row.method.name, label(row.method)


def check_names(tables: Sequence[Table], names: Sequence[str]) -> None:
    """Raises ValueError unless every name is that of a row in some table."""
    known = dict.fromkeys(name for table in tables for row in table.rows for name in names_of(row))
    for name in names:
        if name not in known:
            raise ValueError(f"compare is {name!r}; accepted: {', '.join(map(repr, known))}")


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Returns the bootstrap's percentile interval of a mean, the same in every report; None for fewer than LEAST."""
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
    """Returns the comparison in one column of a block; None unless runs of common seeds predicted the same examples."""
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
    """Returns the two-sided p-value of McNemar's exact test, from whether each of two is right on each example.

    Among the examples on which they differ, the number where `left` alone is right is compared with a fair coin.
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
    """Returns whether each example is predicted right as a whole; None for a regression, where none can be."""
    targets, predictions = predicted.targets, predicted.predictions
    if isinstance(targets, Ragged):
        wrong = np.r_[0, np.cumsum(targets.values != predictions.values)]
        return np.diff(wrong[targets.offsets]) == 0
    if np.issubdtype(targets.dtype, np.floating):
        return None
    hits = targets == predictions
    return hits.all(-1) if hits.ndim > 1 else hits
