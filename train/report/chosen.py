"""What was chosen for the runs of a table, and from what: a line for each task and method, and a small curve."""

from collections.abc import Iterator
from typing import Any

from adakron_jax.pages.drawing import svg
from train.data.task import metric_of
from train.output.selection import CHOSEN, Candidate, Choice, is_number
from train.report.plots import look
from train.report.tables import Row, Table
from train.report.words import heading, named

SIZE = (3.6, 2.6)  # inches of a curve


def choices(table: Table) -> Iterator[tuple[Row, Choice]]:
    """The choices of every row, one a task, in the order of its runs."""
    for row in table.rows:
        for choice in {run.choice.group: run.choice for run in row.runs if run.choice}.values():
            yield row, choice


def lines(table: Table) -> Iterator[tuple[str, str, str, str]]:
    """(task and metric, method, what was chosen, what was tried) in words."""
    for row, choice in sorted(choices(table), key=lambda pair: table.columns.index(_column(table, pair[1]))):
        notes = [note for note in choice.notes(choice.best) if note != CHOSEN]
        tried = sorted(choice.candidates, key=lambda candidate: tuple(candidate.values.values()))
        runs = len(choice.best.scores)
        how = f"{choice.held_out} held out" + (f", means of {runs} runs" if runs > 1 else "")
        yield (
            " ".join(heading((choice.task, choice.metric))),
            named(row),
            "; ".join([choice.words(choice.best), *notes]),
            f"{', '.join(_tried(choice, candidate) for candidate in tried)} ({how})",
        )


def _column(table: Table, choice: Choice) -> tuple[str, str]:
    return next(column for column in table.columns if column[0] == choice.task)


def _tried(choice: Choice, candidate: Candidate) -> str:
    """Such as `66.67 at 0.001`, or with names where several fields were selected."""
    words = choice.words(candidate)
    at = words.rpartition(" ")[2] if len(choice.fields) == 1 else words
    return f"{metric_of(choice.metric).show(candidate.mean)} at {at}" if candidate.scores else f"no score at {at}"


def curves(table: Table, salt: str) -> Iterator[str]:
    """Of each task and selected field of numbers, the best held-out score at each value, a line a method."""
    by_task: dict[str, list[tuple[Row, Choice]]] = {}
    for row, choice in choices(table):
        by_task.setdefault(choice.task, []).append((row, choice))
    for task, pairs in by_task.items():
        for field in pairs[0][1].fields:
            series = [(table.rows.index(row), row, choice, _best_by_value(choice, field)) for row, choice in pairs]
            series = [line for line in series if len(line[3]) > 1]
            if series:
                metric, words = " ".join(heading((task, pairs[0][1].metric))), field.replace("_", " ")
                said = "; ".join(f"{named(row)}: {choice.words(choice.best)}" for _, row, choice, _ in series)
                draw = _drawing(series, field, metric)
                yield svg(
                    f"{metric} on held-out rows by {words}",
                    f"Chosen: {said}",
                    draw,
                    f"{salt}-{task}-{field}",
                    size=SIZE,
                )


def _best_by_value(choice: Choice, field: str) -> dict[int | float, Candidate]:
    """Value -> the best candidate that has it, of a field of numbers."""
    best: dict[int | float, Candidate] = {}
    merit = metric_of(choice.metric).merit
    for candidate in choice.candidates:
        value: Any = candidate.values.get(field)
        if candidate.scores and is_number(value):
            known = best.get(value)
            best[value] = candidate if known is None or merit(candidate.mean) > merit(known.mean) else known
    return dict(sorted(best.items()))


def _drawing(series: list[tuple[int, Row, Choice, dict[int | float, Candidate]]], field: str, metric: str) -> Any:
    def draw(axes: Any) -> None:
        for number, row, choice, points in series:
            scale, best = metric_of(choice.metric).scale, choice.best
            errors = [scale * (candidate.standard_error or 0) for candidate in points.values()]
            means = [scale * candidate.mean for candidate in points.values()]
            axes.errorbar(list(points), means, errors, label=named(row), capsize=2, **look(number) | {"ms": 4})
            value, score = best.values[field], scale * best.mean
            ring = "s" if field in choice.edges else "o"
            axes.plot(value, score, ring, ms=11, mfc="none", mec=look(number)["color"])
        values = sorted({value for *_, points in series for value in points})
        if values[0] > 0:
            axes.set_xscale("log")
        axes.set_xticks(values, [f"{value:g}" for value in values])
        axes.set_xticks([], minor=True)
        axes.margins(x=0.1, y=0.2)
        axes.set_xlabel(field.replace("_", " "))
        axes.set_ylabel(metric)

    return draw
