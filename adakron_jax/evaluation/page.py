"""An assessment as a page: its tables in words, and its plots."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adakron_jax.data.table import printable
from adakron_jax.evaluation.assessment import CONFIDENCE, RESAMPLES, Assessment, Mistake
from adakron_jax.evaluation.metrics import METRICS
from adakron_jax.pages.drawing import COLOURS, INK, shades, svg
from adakron_jax.pages.render import render

ABOUT_INTERVALS = (
    f"Intervals hold {100 * CONFIDENCE:.0f} % of {RESAMPLES:,} bootstrap resamples of the examples. They tell how much "
    "other examples would change the score, not another seed of the training."
)
SCORE_HEADS = ["metric", "value", f"{100 * CONFIDENCE:.0f} % interval"]
LABEL_HEADS = ["label", "precision", "recall", "F1", "examples"]
CONFUSED = 10  # pairs of labels, at most
TEXT = 400  # characters of a mistake's text
NUMBERED, DRAWN = 16, 160  # labels up to which a matrix has room for its counts, and for its labels


def page(name: str, assessment: Assessment) -> str:
    """The page; `name` says what was evaluated on what."""
    return render(Path(__file__).with_name("page.html.jinja"), name=name, view=view(assessment, "evaluation"))


def view(assessment: Assessment, salt: str) -> dict[str, Any]:
    """What `parts.html.jinja` shows; `salt` begins the plots' ids."""
    regression = assessment.problem.kind == "regression"
    return {
        "summary": summary(assessment),
        "score_heads": SCORE_HEADS,
        "scores": score_rows(assessment),
        "about_intervals": ABOUT_INTERVALS,
        "plot_title": "Predictions against targets" if regression else "Calibration",
        "plot": scatter(assessment, salt) if regression else reliability(assessment, salt),
        "matrix": matrix(assessment, salt) if 0 < len(assessment.confusion) <= DRAWN else "",
        "confused": assessment.confused[:CONFUSED] if len(assessment.labels) > NUMBERED else [],
        "label_heads": LABEL_HEADS,
        "labels": label_rows(assessment),
        "mistakes": [mistake_row(mistake) for mistake in assessment.mistakes],
        "mistakes_title": "Largest errors" if regression else "Most confident mistakes",
        "weight_head": "error" if regression else "probability",
    }


def summary(assessment: Assessment) -> str:
    """Such as `3,080 examples, 77 labels`."""
    labels = len(assessment.labels)
    return f"{assessment.examples:,} examples, {f'{labels} labels' if labels else 'a regression'}"


def score_rows(assessment: Assessment) -> list[tuple[str, str, str]]:
    """(metric, value, interval) in words; shares and correlations in percent."""
    rows = []
    for name, value in assessment.scores.items():
        metric, (low, high) = METRICS[name], assessment.intervals[name]
        rows.append((metric.title, metric.show(value), f"{metric.show(low)} to {metric.show(high)}"))
    if assessment.bins:
        rows.append(("calibration error", f"{100 * assessment.calibration_error:.2f}", ""))
    return rows


def label_rows(assessment: Assessment) -> list[tuple[str, float, float, float, int]]:
    """(label, precision, recall, F1, examples), worst first."""
    worst = sorted(assessment.labels, key=lambda label: label.f1)
    return [(label.label, label.precision, label.recall, label.f1, label.support) for label in worst]


def mistake_row(mistake: Mistake) -> tuple[list[str], str, str, str]:
    """(texts, target, prediction, weight) in words."""
    cut = [text if len(text) <= TEXT else f"{text[:TEXT]} …" for text in mistake.texts]
    return cut, answer(mistake.target), answer(mistake.predicted), f"{mistake.weight:.4g}"


def answer(value: str | float | Sequence[str]) -> str:
    """A label, labels, or a number in words."""
    if isinstance(value, str):
        return value
    return f"{value:.4g}" if isinstance(value, float | int) else ", ".join(value) or "none"


def reliability(assessment: Assessment, salt: str) -> str:
    """The share of right predictions by their probability."""
    bins, every = assessment.bins, assessment.problem.kind == "multilabel"

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=INK, ls="--", lw=0.8, label="calibrated")
        lows, widths = [each.low for each in bins], [each.high - each.low for each in bins]
        axes.bar(lows, [each.right for each in bins], widths, align="edge", color=COLOURS[0], ec="none", alpha=0.65)
        axes.set(xlim=(0, 1), ylim=(0, 1), ylabel="share that holds" if every else "share that is right")
        axes.set_xlabel("probability of a label" if every else "probability of the predicted label")

    words = "; ".join(f"{each.probability:.2f}: {each.right:.2f} of {each.count:,}" for each in bins)
    return svg("Calibration", words, draw, f"{salt}-calibration")


def scatter(assessment: Assessment, salt: str) -> str:
    """Predictions against targets."""
    points = np.asarray(assessment.points)
    low, high = float(points.min()), float(points.max())

    def draw(axes: Any) -> None:
        axes.plot([low, high], [low, high], color=INK, ls="--", lw=0.8, label="without error")
        axes.plot(points[:, 0], points[:, 1], "o", ms=3, alpha=0.4, mew=0, color=COLOURS[0])
        axes.set(xlabel="target", ylabel="prediction")

    words = f"{len(points):,} examples between {low:.4g} and {high:.4g}"
    return svg("Predictions against targets", words, draw, f"{salt}-scatter")


def matrix(assessment: Assessment, salt: str) -> str:
    """The confusion matrix, each cell as dark as its share of the target's examples."""
    counts, names = np.asarray(assessment.confusion), [short(label) for label in assessment.problem.labels]
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    numbered = len(names) <= NUMBERED
    side = max(2.2, 0.45 * len(names)) if numbered else 0.13 * len(names)
    room = 0.5 + 0.07 * max(map(len, names))
    font = 9 if numbered else 7.5

    def draw(axes: Any) -> None:
        axes.imshow(shades(0.8 * np.sqrt(shares)), interpolation="none")
        if numbered:
            for (row, column), count in np.ndenumerate(counts):
                axes.text(column, row, f"{count:,}" if count else "", ha="center", va="center", fontsize=font)
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=font)
        axes.set_yticks(range(len(names)), names, fontsize=font)
        axes.tick_params(length=0)
        axes.grid(visible=False)
        axes.set(xlabel="predicted", ylabel="target")

    words = "; ".join(
        f"{target} as {predicted}: {count}" for target, predicted, count in assessment.confused[:CONFUSED]
    )
    size = (side + room, side + room)
    return svg("Targets and predictions", words or "no mistakes", draw, f"{salt}-matrix", size=size)


def short(name: str) -> str:
    """A label's name as there is room for it beside a matrix."""
    name = printable(name)
    return name if len(name) <= 32 else f"{name[:31]}…"
