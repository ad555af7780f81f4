"""A table's plots, as SVG elements that take their text colour and fonts from the page around them."""

import io
import math
import re
import statistics
from collections.abc import Callable, Iterator
from typing import Any

from adakron_jax.methods import AdaKron
from train.report.runs import Column, metrics
from train.report.tables import AVERAGE, Cell, Table
from train.report.text import counted, heading, named, scarcity, settings, shown

# Okabe and Ito's colours, told apart by colour-blind readers, in tones that show on white and on black.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b58900", "#56b4e9", "#8c6bb1", "#7f7f7f")
MARKERS, STYLES = "osD^vP", ("-", "--", "-.", ":")
INK = "#010203"  # becomes the page's own text colour


def plot(table: Table, salt: str) -> Iterator[str]:
    """Every plot that a table has data for, as SVG elements whose ids no other salt shares."""
    tasks = list(dict.fromkeys(task for task, _ in table.columns if task != AVERAGE[0]))
    for kind in (pareto, curves, ablation):
        for task in tasks:
            column = (task, table.published.get(task, metrics(task)[0]))
            if drawn := kind(table, column):
                yield svg(*drawn, scarcity(table, task), f"{salt}-{kind.__name__}-{task}")


Drawing = tuple[str, str, Callable[[Any], None]]  # a title, what it shows in words, and what draws it on axes


def pareto(table: Table, column: Column) -> Drawing | None:
    """Score against what is trained, head included, so that a bare head has a place on the logarithmic axis."""
    points = []
    for number, row in enumerate(table.rows):
        sizes = [run.result.params for run in row.runs if run.result and run.config.task == column[0]]
        if sizes:
            points.append((number, row, sizes[0].method + sizes[0].head, row.cells["best"][column]))
    if len(points) < 2:
        return None

    def draw(axes: Any) -> None:
        for number, row, size, cell in points:
            axes.errorbar(
                size, cell.mean, yerr=cell.std or 0, label=named(row), capsize=2, **_look(number) | {"ls": ""}
            )
        from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

        sizes = [size for _, _, size, _ in points]
        axes.set_xscale("log")
        wide = LogLocator(subs=(1, 2, 5) if max(sizes) < 20 * min(sizes) else (1,))
        axes.xaxis.set_major_locator(wide if max(sizes) > 5 * min(sizes) else MaxNLocator(5))
        axes.xaxis.set_major_formatter(EngFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(x=0.1, y=0.12)
        axes.set_xlabel("trained parameters, head included")
        axes.set_ylabel(" ".join(heading(column)))

    words = "; ".join(f"{named(row)}: {size:,} parameters, {shown(cell)[0]}" for _, row, size, cell in points)
    return f"{' '.join(heading(column))} against trained parameters", words, draw


def curves(table: Table, column: Column) -> Drawing | None:
    """Score by epoch: the mean over seeds, and a band of a standard deviation where there are several."""
    found = []
    for number, row in enumerate(table.rows):
        runs = [run for run in row.runs if run.curve and run.config.task == column[0]]
        scores = [{run.passes(record): 100.0 * record[column[1]] for record in run.curve} for run in runs]
        # Only epochs that all seeds have, so that a line does not jump where one of them ends.
        if scores and (epochs := sorted(set.intersection(*(set(each) for each in scores)))):
            found.append((number, row, epochs, [[each[epoch] for each in scores] for epoch in epochs]))
    if all(len(epochs) < 2 for _, _, epochs, _ in found):
        return None

    def draw(axes: Any) -> None:
        from matplotlib.ticker import MaxNLocator

        for number, row, epochs, scores in found:
            means = [statistics.fmean(each) for each in scores]
            look = _look(number) | ({} if len(epochs) <= 10 else {"marker": ""})
            axes.plot(epochs, means, label=named(row), **look)
            if len(scores[0]) > 1:
                widths = [statistics.stdev(each) for each in scores]
                low, high = (
                    [mean + sign * width for mean, width in zip(means, widths, strict=True)] for sign in (-1, 1)
                )
                axes.fill_between(epochs, low, high, color=look["color"], alpha=0.15, lw=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch")
        axes.set_ylabel(" ".join(heading(column)))

    words = "; ".join(
        f"{named(row)}: from {statistics.fmean(scores[0]):.1f} after epoch {epochs[0]:g} to "
        f"{statistics.fmean(scores[-1]):.1f} after epoch {epochs[-1]:g}, {counted(len(scores[0]), 'seed')}"
        for _, row, epochs, scores in found
    )
    return f"{' '.join(heading(column))} by epoch", words, draw


def ablation(table: Table, column: Column) -> Drawing | None:
    """AdaKron's score against its bottleneck r, one line for each last factor a; the paper's Table 3."""
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
            axes.errorbar(widths, [cell.mean for cell in cells], errors, label=names[kind], capsize=2, **_look(number))
        ticks = sorted({width for points in series.values() for width, _ in points})
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.set_xlabel("bottleneck r")
        axes.set_ylabel(" ".join(heading(column)))

    words = "; ".join(
        f"{names[kind]}: " + ", ".join(f"{width}: {shown(cell)[0]}" for width, cell in points)
        for kind, points in series.items()
    )
    return f"{' '.join(heading(column))} of AdaKron against its bottleneck", words, draw


def _look(number: int) -> dict[str, Any]:
    """A row's colour, marker and line, the same in every plot; colours come again with another line."""
    style = STYLES[number // len(COLOURS) % len(STYLES)]
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)], "ms": 5, "ls": style}


def svg(title: str, words: str, draw: Callable[[Any], None], caution: str, salt: str) -> str:
    """A drawing as one SVG element with title and description, in the page's fonts and its text colour.

    What a reader must be cautioned of, if anything, stands above it.
    """
    import matplotlib as mpl
    from markupsafe import escape
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "figure.facecolor": "none",
        "savefig.facecolor": "none",
        "axes.facecolor": "none",
        "text.color": INK,
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "text.parse_math": False,
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.6,
        "lines.linewidth": 1.6,
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(4.8, 3.4), layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        if caution:
            axes.set_title(caution, fontsize=9, loc="left", wrap=True)
        axes.grid(alpha=0.15, color=INK, lw=0.6)
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
        drawn = io.StringIO()
        FigureCanvasSVG(figure).print_svg(drawn, metadata={"Date": None})
    body = re.sub(r"<metadata>.*?</metadata>", "", drawn.getvalue(), flags=re.DOTALL)
    body = body[body.index("<svg") :]
    box = re.search(r'viewBox="[^"]*"', body)
    assert box is not None
    body = re.sub(r' id="[a-zA-Z][\w.]*_\d+"', "", body[body.index(">") + 1 :])  # numbered alike in every plot
    body = body.replace(INK, "currentColor").replace("'DejaVu Sans', ", "")
    name = f"{title}, {caution}" if caution else title
    label = f'aria-labelledby="{salt}-title {salt}-words"'
    about = f'<title id="{salt}-title">{escape(name)}</title>\n<desc id="{salt}-words">{escape(words)}</desc>'
    return f'<svg {box[0]} role="img" {label}>\n{about}\n{body.strip()}'
