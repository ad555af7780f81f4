"""Paired differences between the rows of a table, seed by seed and example by example."""

import dataclasses
import itertools
import math
import statistics
from collections.abc import Iterator, Sequence

from adakron_jax.methods import AdaKron
from train.output.predictions import BEST, TEST
from train.report.examples import OverExamples, over_examples
from train.report.runs import Column, Repeat
from train.report.tables import Row, Table, label

RESAMPLES, CONFIDENCE = 9999, 0.95
LEAST = 3  # seeds of an interval: that of two is nothing but the two values


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
    import numpy as np
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
