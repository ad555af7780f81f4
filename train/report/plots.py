"""The plots of a table."""

import math
import statistics
from collections.abc import Callable, Iterator
from typing import Any

from adakron_jax.methods import AdaKron
from adakron_jax.pages.drawing import COLOURS, logarithmic, svg, whole
from train.data.task import metric_of
from train.report.runs import Column
from train.report.tables import Cell, Table
from train.report.words import counted, named, noun, scarcity, scored, settings, shown

MARKERS, STYLES = "osD^vP", ("-", "--", "-.", ":")


def plot(table: Table, salt: str) -> Iterator[str]:
    """Yields every plot that a table has data for, as SVG elements whose ids are unique to the salt."""
    for kind in (pareto, curves, ablation):
        for number, column in enumerate(table.headlines):
            if drawn := kind(table, column):
                yield svg(*drawn, f"{salt}-{kind.__name__}-{number}", scarcity(table, column[0]))


Drawing = tuple[str, str, Callable[[Any], None]]  # a title, the content in words, and the function that draws it


def pareto(table: Table, column: Column) -> Drawing | None:
    """Plots score against trained parameters, head included, so that a bare head fits on the logarithmic axis."""
    points = []
    for number, row in enumerate(table.rows):
        sizes = [run.result.params for run in row.runs if run.result and run.config.task == column[0]]
        if sizes:
            points.append((number, row, sizes[0].method + sizes[0].head, row.cells["best"][column]))
    if len(points) < 2:
        return None

    def draw(axes: Any) -> None:
        for number, row, size, cell in points:
            axes.errorbar(size, cell.mean, yerr=cell.std or 0, label=named(row), capsize=2, **look(number) | {"ls": ""})
        axes.set_xscale("log")
        logarithmic(axes.xaxis, [size for _, _, size, _ in points])
        axes.margins(x=0.1, y=0.12)
        axes.set_xlabel("trained parameters, head included")
        axes.set_ylabel(scored(column))

    words = "; ".join(f"{named(row)}: {size:,} parameters, {shown(cell)[0]}" for _, row, size, cell in points)
    return f"{scored(column)} against trained parameters", words, draw


def curves(table: Table, column: Column) -> Drawing | None:
    """Plots score by epoch: the mean over seeds, with a band of a standard deviation if there are several."""
    lines = []
    for number, row in enumerate(table.rows):
        runs = [run for run in row.runs if run.curve and run.config.task == column[0]]
        scores = [
            {run.passes(record): metric_of(column[1]).scale * record[column[1]] for record in run.curve} for run in runs
        ]
        # Only the epochs that all seeds have, so that a line does not jump where one of them ends.
        if scores and (epochs := sorted(set.intersection(*map(set, scores)))):
            lines.append((number, row, epochs, [[run[epoch] for run in scores] for epoch in epochs]))
    if all(len(epochs) < 2 for _, _, epochs, _ in lines):
        return None

    def draw(axes: Any) -> None:
        for number, row, epochs, scores in lines:
            means = [statistics.fmean(values) for values in scores]
            line = look(number) | ({} if len(epochs) <= 10 else {"marker": ""})
            axes.plot(epochs, means, label=named(row), **line)
            if len(scores[0]) > 1:
                widths = [statistics.stdev(values) for values in scores]
                low, high = (
                    [mean + sign * width for mean, width in zip(means, widths, strict=True)] for sign in (-1, 1)
                )
                axes.fill_between(epochs, low, high, color=line["color"], alpha=0.15, lw=0)
        whole(axes.xaxis)
        axes.set_xlabel("epoch")
        axes.set_ylabel(scored(column))

    words = "; ".join(
        f"{named(row)}: from {statistics.fmean(scores[0]):.1f} after epoch {epochs[0]:g} to "
        f"{statistics.fmean(scores[-1]):.1f} after epoch {epochs[-1]:g}, "
        + counted(len(scores[0]), noun(run.repeat for run in row.runs))
        for _, row, epochs, scores in lines
    )
    return f"{scored(column)} by epoch", words, draw


def ablation(table: Table, column: Column) -> Drawing | None:
    """Plots AdaKron's score against its bottleneck r, a line for each last factor a, as in the paper's Table 3."""
    series: dict[tuple[int, str], list[tuple[int, Cell]]] = {}
    for row in table.rows:
        if isinstance(row.method, AdaKron) and row.cells["best"][column].scores:
            kind = (row.method.factors[-1], settings(row.departs))
            series.setdefault(kind, []).append((math.prod(row.method.factors), row.cells["best"][column]))
    if len({width for points in series.values() for width, _ in points}) < 2:
        return None
    series = {kind: sorted(points, key=lambda point: point[0]) for kind, points in sorted(series.items())}
    names = {kind: f"a = {kind[0]}" + (f" ({kind[1]})" if kind[1] else "") for kind in series}

    def draw(axes: Any) -> None:
        for number, (kind, points) in enumerate(series.items()):
            widths, cells = zip(*points, strict=True)
            errors = [cell.std or 0 for cell in cells]
            axes.errorbar(widths, [cell.mean for cell in cells], errors, label=names[kind], capsize=2, **look(number))
        ticks = sorted({width for points in series.values() for width, _ in points})
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.set_xlabel("bottleneck r")
        axes.set_ylabel(scored(column))

    words = "; ".join(
        f"{names[kind]}: " + ", ".join(f"{width}: {shown(cell)[0]}" for width, cell in points)
        for kind, points in series.items()
    )
    return f"{scored(column)} of AdaKron against its bottleneck", words, draw


def look(number: int) -> dict[str, Any]:
    """Returns a row's colour, marker and line, the same in every plot; colours repeat with another line style."""
    style = STYLES[number // len(COLOURS) % len(STYLES)]
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)], "ms": 5, "ls": style}
