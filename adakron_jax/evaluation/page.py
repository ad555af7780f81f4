"""An assessment as a page: its tables as text, and its plots."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adakron_jax.entities.scores import ERRORS
from adakron_jax.evaluation.assessment import Assessment, Mark, Mistake
from adakron_jax.evaluation.metrics import CONFIDENCE, METRICS, RESAMPLES
from adakron_jax.evaluation.plots import CONFUSED, DRAWN, NUMBERED, drawn_classes, matrix
from adakron_jax.pages.render import render

ABOUT_INTERVALS = (
    f"Intervals hold {100 * CONFIDENCE:.0f} % of {RESAMPLES:,} bootstrap resamples of the examples. They show how much "
    "the score would change with other examples, not with another seed of the training."
)
SCORE_HEADS = ["metric", "value", f"{100 * CONFIDENCE:.0f} % interval"]
BRACKETS = {"target": "[]", "predicted": "{}"}  # around marked parts, where there is no colour
Piece = tuple[str, str]  # a part of a text: its characters, and their marks
TEXT = 400  # most characters of a mistake's text


def page(name: str, assessment: Assessment) -> str:
    """Renders the page; `name` says what was evaluated on what."""
    return render(Path(__file__).with_name("page.html.jinja"), name=name, view=view(assessment, "evaluation"))


def view(assessment: Assessment, salt: str) -> dict[str, Any]:
    """Returns the data that `parts.html.jinja` shows; `salt` begins the plots' ids."""
    problem = assessment.problem
    which = ", of the classes confused most often" if len(assessment.confusion) > DRAWN else ""
    title, plot = problem.plot(assessment, salt)
    return {
        "summary": summary(assessment),
        "score_heads": SCORE_HEADS,
        "scores": score_rows(assessment),
        "about_intervals": ABOUT_INTERVALS,
        "plot_title": title,
        "plot": plot,
        "matrix": matrix(assessment, salt) if assessment.confusion and drawn_classes(assessment) else "",
        "matrix_title": f"Targets and predictions{which}",
        "confused": assessment.confused[:CONFUSED] if len(assessment.labels) > NUMBERED else [],
        "label_heads": label_heads(assessment),
        "labels_title": f"{problem.label_heads[0].capitalize()}s, worst first",
        "errors": error_rows(assessment),
        "labels": label_rows(assessment),
        "mistakes": [mistake_row(mistake) for mistake in assessment.mistakes],
        "mistakes_title": problem.mistakes_title.capitalize(),
        "weight_head": problem.weight_head,
    }


def summary(assessment: Assessment) -> str:
    """Returns a summary such as `3,080 examples, 77 labels`."""
    return f"{assessment.examples:,} examples, {assessment.problem.summary()}"


def score_rows(assessment: Assessment) -> list[tuple[str, str, str]]:
    """Returns (metric, value, interval) as text; shares and correlations in percent."""
    rows = []
    for name, value in assessment.scores.items():
        metric, (low, high) = METRICS[name], assessment.intervals[name]
        rows.append((metric.title, metric.show(value), f"{metric.show(low)} to {metric.show(high)}"))
    if assessment.bins:
        rows.append(("calibration error", f"{100 * assessment.calibration_error:.2f}", ""))
    return rows


def label_rows(assessment: Assessment) -> list[tuple[str, float, float, float, int]]:
    """Returns (label, precision, recall, F1, examples), worst first."""
    worst = sorted(assessment.labels, key=lambda label: label.f1)
    return [(label.label, label.precision, label.recall, label.f1, label.support) for label in worst]


def label_heads(assessment: Assessment) -> list[str]:
    """Returns the heads of the columns of `label_rows`."""
    label, examples = assessment.problem.label_heads
    return [label, "precision", "recall", "F1", examples]


def error_rows(assessment: Assessment) -> list[tuple[str, int]]:
    """Returns (kind of error, count) for entities, as text."""
    return [(ERRORS.get(name, name), count) for name, count in assessment.errors.items()]


def pieces(text: str, marks: Sequence[Mark], room: int = TEXT) -> list[Piece]:
    """Splits a text into pieces, marked ones in brackets; a long text is cut to `room` characters around a mark."""
    first = min((start for start, _, _ in marks), default=0)
    begin = 0 if len(text) <= room else max(0, min(first - room // 4, len(text) - room))
    end = min(len(text), begin + room)
    bounds = sorted({begin, end, *(at for start, stop, _ in marks for at in (start, stop) if begin <= at <= end)})
    parts: list[Piece] = [("… ", "")] if begin else []
    for start, stop in itertools.pairwise(bounds):
        held = [mark for mark in marks if mark[0] <= start and stop <= mark[1]]
        opened = "".join(BRACKETS[what][0] for at, _, what in held if at == start)
        closed = "".join(BRACKETS[what][1] for _, at, what in reversed(held) if at == stop)
        parts.append((opened + text[start:stop] + closed, " ".join(what for _, _, what in held)))
    return [*parts, (" …", "")] if end < len(text) else parts


def mistake_row(mistake: Mistake) -> tuple[list[list[Piece]], str, str, str]:
    """Returns (pieces of its texts, target, prediction, weight) as text."""
    cut = [pieces(text, () if number else mistake.marks) for number, text in enumerate(mistake.texts)]
    return cut, in_words(mistake.target), in_words(mistake.predicted), f"{mistake.weight:.4g}"


def in_words(value: str | float | Sequence[str]) -> str:
    """Returns a label, labels, or a number as text."""
    if isinstance(value, str):
        return value
    return f"{value:.4g}" if isinstance(value, float | int) else ", ".join(value) or "none"
