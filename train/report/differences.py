"""Paired differences between the rows of a table, seed by seed."""

import dataclasses
import math
import statistics
from collections.abc import Sequence

from adakron_jax.methods import AdaKron
from train.report.runs import Column, Repeat
from train.report.tables import Row, Table

RESAMPLES, CONFIDENCE = 9999, 0.95


@dataclasses.dataclass(frozen=True)
class Difference:
    """The mean difference of two rows over common seeds, as scores are shown; `interval` needs two seeds or more."""

    left: Row
    right: Row
    column: Column
    seeds: list[Repeat]
    mean: float | None
    interval: tuple[float, float] | None


def differences(table: Table) -> list[Difference]:
    """AdaKron's best epochs (of several rows the paper's, else the first) minus every other row's, seed by seed."""
    ranked = sorted(table.rows, key=lambda row: (row.method != AdaKron(), row.method.name != AdaKron.name))
    pairs = []
    for column in table.headlines:
        ran = sorted(
            (row for row in ranked if row.epochs(column[0])), key=lambda row: not row.cells["best"][column].scores
        )
        for other in ran[1:]:
            left, right = ran[0].cells["best"][column].scores, other.cells["best"][column].scores
            seeds = sorted(left.keys() & right.keys())
            values = [left[seed] - right[seed] for seed in seeds]
            mean = statistics.fmean(values) if values else None
            pairs.append(Difference(ran[0], other, column, seeds, mean, interval(values)))
    return pairs


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The bootstrap's percentile interval of a mean, the same in every report; None of fewer than two values."""
    if len(values) < 2 or not all(map(math.isfinite, values)):
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
