"""An assessment's plots."""

from typing import Any

import numpy as np

from adakron_jax.data.table import printable
from adakron_jax.evaluation.assessment import Assessment
from adakron_jax.pages.drawing import COLOURS, INK, shades, svg

CONFUSED = 10  # most pairs of labels
NUMBERED, DRAWN = 16, 30  # most classes of a matrix that shows its counts, and of one that is readable on a phone


def reliability(assessment: Assessment, salt: str, probability: str, share: str) -> str:
    """Draws the share of right predictions against their probability; the arguments name both axes."""
    bins = assessment.bins

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=INK, ls="--", lw=0.8, label="calibrated")
        lows, widths = [bin_.low for bin_ in bins], [bin_.high - bin_.low for bin_ in bins]
        axes.bar(lows, [bin_.right for bin_ in bins], widths, align="edge", color=COLOURS[0], ec="none", alpha=0.65)
        axes.set(xlim=(0, 1), ylim=(0, 1), ylabel=share)
        axes.set_xlabel(probability)

    words = "; ".join(f"{bin_.probability:.2f}: {bin_.right:.2f} of {bin_.count:,}" for bin_ in bins)
    return svg("Calibration", words, draw, f"{salt}-calibration")


def scatter(assessment: Assessment, salt: str) -> str:
    """Draws predictions against targets."""
    points = np.asarray(assessment.points)
    low, high = float(points.min()), float(points.max())

    def draw(axes: Any) -> None:
        axes.plot([low, high], [low, high], color=INK, ls="--", lw=0.8, label="without error")
        axes.plot(points[:, 0], points[:, 1], "o", ms=3, alpha=0.4, mew=0, color=COLOURS[0])
        axes.set(xlabel="target", ylabel="prediction")

    words = f"{len(points):,} examples between {low:.4g} and {high:.4g}"
    return svg("Predictions against targets", words, draw, f"{salt}-scatter")


def matrix(assessment: Assessment, salt: str) -> str:
    """Draws the confusion matrix, cells shaded by their share of the target's examples; of many the confused."""
    counts, chosen = np.asarray(assessment.confusion), drawn_classes(assessment)
    names = [short(assessment.problem.classes[code]) for code in chosen]
    shares = (counts / np.maximum(counts.sum(1, keepdims=True), 1))[np.ix_(chosen, chosen)]
    counts = counts[np.ix_(chosen, chosen)]
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


def drawn_classes(assessment: Assessment) -> list[int]:
    """Returns the classes of a matrix, in their order: all, or those confused most often if there are many."""
    names = assessment.problem.classes
    if len(names) <= DRAWN:
        return list(range(len(names)))
    chosen: dict[str, None] = {}
    for target, predicted, _ in assessment.confused:
        if len(chosen | {target: None, predicted: None}) <= DRAWN:
            chosen |= {target: None, predicted: None}
    return [code for code, name in enumerate(names) if name in chosen]


def short(name: str) -> str:
    """Returns a label's name, cut to the room beside a matrix."""
    name = printable(name)
    return name if len(name) <= 32 else f"{name[:31]}…"
