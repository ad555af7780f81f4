"""What was chosen for the runs of a table, and from what: a line per task and method, gains, and small curves."""

import statistics
from collections.abc import Iterator
from typing import Any

from adakron_jax.pages.drawing import logarithmic, svg
from train.data.task import metric_of
from train.output.selection_file import CHOSEN, Candidate, Choice, in_words, is_number
from train.report.plots import look
from train.report.tables import Row, Table
from train.report.words import named, scored, signed

SIZE = (3.6, 2.6)  # of a curve, in inches
TICKS = 6  # up to which each value has its own; with more, they are those of a logarithmic axis
Pairs = list[tuple[Row, Choice]]


def choices(table: Table) -> dict[str, Pairs]:
    """Returns the choices of every row, by task, in the table's order."""
    by_task: dict[str, Pairs] = {task: [] for task, _ in table.columns}  # sets the order of tasks
    for row in table.rows:
        for choice in {run.choice.group: run.choice for run in row.runs if run.choice}.values():
            by_task.setdefault(choice.task, []).append((row, choice))
    return {task: pairs for task, pairs in by_task.items() if pairs}


def lines(table: Table) -> Iterator[tuple[str, str, str, str]]:
    """Yields (task and metric, method, what was chosen, what was tried) in words."""
    for row, choice in (pair for pairs in choices(table).values() for pair in pairs):
        notes = [note for note in choice.notes(choice.best) if note != CHOSEN]
        tried = sorted(choice.candidates, key=lambda candidate: tuple(candidate.values.values()))
        runs = len(choice.best.scores)
        how = f"{choice.held_out} held out" + (f", means of {runs} runs" if runs > 1 else "")
        yield (
            _scored(choice),
            named(row),
            "; ".join([choice.words(choice.best), *notes]),
            f"{', '.join(_tried(choice, candidate) for candidate in tried)} ({how})",
        )


def _scored(choice: Choice) -> str:
    return scored((choice.task, choice.metric))


def _tried(choice: Choice, candidate: Candidate) -> str:
    """Returns, say, `66.67 at 0.001`, with the fields' names if several were selected."""
    words = choice.words(candidate)
    at = words.rpartition(" ")[2] if len(choice.fields) == 1 else words
    return f"{metric_of(choice.metric).show(candidate.mean)} at {at}" if candidate.scores else f"no score at {at}"


def gains(table: Table) -> Iterator[str]:
    """Yields, for each task, how much the values chosen for the methods gain over the best that most methods tried."""
    for pairs in choices(table).values():
        first, metric = pairs[0][1], metric_of(pairs[0][1].metric)
        means = [
            {tuple(c.values.items()): c.mean for c in choice.candidates if c.scores and c.values} for _, choice in pairs
        ]
        tried: dict[Any, list[float]] = {}
        for known in means:
            for values, mean in known.items():
                tried.setdefault(values, []).append(mean)
        most = max(map(len, tried.values()), default=0)
        if most > 1:
            common = [values for values, scores in tried.items() if len(scores) == most]
            best = max(common, key=lambda values: metric.merit(statistics.fmean(tried[values])))
            gained = (
                f"{named(row)} {signed(metric.scale * (choice.best.mean - known[best]))}"
                for (row, choice), known in zip(pairs, means, strict=True)
                if best in known
            )
            whose = "the best for all" if most == len(pairs) else f"the best that {most} methods tried"
            yield f"{_scored(first)}, gain over {in_words(dict(best))}, {whose}: {', '.join(gained)}"


def curves(table: Table, salt: str) -> Iterator[str]:
    """Yields a plot per task and selected numeric field: the best held-out score at each value, a line per method."""
    for task, pairs in choices(table).items():
        for field in pairs[0][1].fields:
            series = [(table.rows.index(row), row, choice, _best_by_value(choice, field)) for row, choice in pairs]
            if series := [line for line in series if len(line[3]) > 1]:
                metric, words = _scored(pairs[0][1]), field.replace("_", " ")
                said = "; ".join(f"{named(row)}: {choice.words(choice.best)}" for _, row, choice, _ in series)
                draw = _drawing(series, field, metric)
                name = f"{metric} on held-out rows by {words}"
                yield svg(name, f"Chosen: {said}", draw, f"{salt}-{task}-{field}", size=SIZE)


def _best_by_value(choice: Choice, field: str) -> dict[int | float, Candidate]:
    """Returns value -> the best candidate that has it, for a numeric field."""
    merit = metric_of(choice.metric).merit
    scored = [c for c in choice.candidates if c.scores and is_number(c.values.get(field))]
    ascending = sorted(scored, key=lambda candidate: (candidate.values[field], merit(candidate.mean)))
    return {candidate.values[field]: candidate for candidate in ascending}  # the last candidate of a value is its best


def _drawing(series: list[tuple[int, Row, Choice, dict[int | float, Candidate]]], field: str, metric: str) -> Any:
    def draw(axes: Any) -> None:
        for number, row, choice, points in series:
            scale, best = metric_of(choice.metric).scale, choice.best
            errors = [scale * (candidate.standard_error or 0) for candidate in points.values()]
            means = [scale * candidate.mean for candidate in points.values()]
            axes.errorbar(list(points), means, errors, label=named(row), capsize=2, **look(number) | {"ms": 4})
            ring = "s" if field in choice.edges else "o"
            axes.plot(best.values[field], scale * best.mean, ring, ms=11, mfc="none", mec=look(number)["color"])
        values = sorted({value for *_, points in series for value in points})
        if values[0] > 0:
            axes.set_xscale("log")
        if values[0] > 0 and len(values) > TICKS:
            logarithmic(axes.xaxis, values, "{x:g}")
        else:
            axes.set_xticks(values, [f"{value:g}" for value in values])
            axes.set_xticks([], minor=True)
        axes.margins(x=0.1, y=0.2)
        axes.set_xlabel(field.replace("_", " "))
        axes.set_ylabel(metric)

    return draw
