"""Evaluation: every metric with its uncertainty, scores per label, calibration, and the worst mistakes."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from adakron_jax.data.examples import Texts
from adakron_jax.data.frames import frame_of
from adakron_jax.evaluation.metrics import METRICS, counts, f1_by_label

if TYPE_CHECKING:
    from adakron_jax.problems.problem import Problem

BINS = 15  # of equal width, as in Guo et al. 2017
MISTAKES = 20
WHOLE, PAIRS = 160, 100  # most labels of a whole confusion matrix, and the pairs that are kept if there are more

PARTS = ("labels", "bins", "mistakes")  # parts of an assessment that consist of rows

Mark = tuple[int, int, str]  # start and end in characters, and `target` or `predicted`


@dataclasses.dataclass(frozen=True)
class LabelScores:
    """Scores of one label: 0 where the denominator is 0. `support`: number of examples that have it."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclasses.dataclass(frozen=True)
class Bin:
    """Predictions with a probability in [low, high): their mean probability, and the share that was right."""

    low: float
    high: float
    count: int
    probability: float
    right: float


@dataclasses.dataclass(frozen=True)
class Mistake:
    """An example that was predicted wrongly.

    Attributes:
      texts: its one or two texts.
      target, predicted: a label, labels, or a number in its unit.
      weight: mistakes are ranked by it: the probability of the wrong label; for a regression the error's size.
      marks: what the mistake is about in the first text; empty if it is about all of it.
    """

    texts: tuple[str, ...]
    target: Any
    predicted: Any
    weight: float
    marks: tuple[Mark, ...] = ()


@dataclasses.dataclass(frozen=True)
class Assessment:
    """The result of `assess`.

    Attributes:
      problem: what was predicted.
      examples: number of examples.
      scores: metric -> value, for the problem's metrics in their order.
      intervals: metric -> the 95 % interval of a bootstrap over examples, (low, high).
      labels: scores per label, in the problem's order; empty for a regression.
      confusion: for a classification, how often a target [row] was predicted as a label [column]; else empty.
      calibration_error: the mean distance of probability and share of right ones, over `bins`; 0 for a regression.
      bins: the non-empty bins of the predicted label's probability, or, in a multilabel problem, of every label's.
      mistakes: the twenty most certain mistakes, most certain first.
      pairs: for a classification of more than 160 labels, the value of `confused` in place of `confusion`.
      errors: for entities, the number of errors of each kind.
      points: for a regression, (target, prediction) of evenly spaced examples, at most 2,000.
    """

    problem: "Problem"
    examples: int
    scores: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    labels: tuple[LabelScores, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    calibration_error: float = 0.0
    bins: tuple[Bin, ...] = ()
    mistakes: tuple[Mistake, ...] = ()
    points: tuple[tuple[float, float], ...] = ()
    pairs: tuple[tuple[str, str, int], ...] = ()
    errors: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        scores = (
            f"{METRICS[name].title} {METRICS[name].show(value)} [{METRICS[name].show(low)}, {METRICS[name].show(high)}]"
            for name, value in self.scores.items()
            for low, high in [self.intervals[name]]
        )
        return f"{type(self).__name__}({self.examples:,} examples, {self.problem.summary()}: {', '.join(scores)})"

    def to_frame(self, part: str = "scores") -> Any:
        """Returns a pandas frame.

        Args:
          part: `scores`, with their intervals; `labels`, `mistakes` or `bins`, as in this object; or `confused`, pairs
            of target and prediction by how often they were confused.

        Raises:
          ValueError: there is no such part.
        """
        if part == "scores":
            rows = [
                {"metric": name, "value": value, "low": low, "high": high}
                for name, value in self.scores.items()
                for low, high in [self.intervals[name]]
            ]
            return frame_of(rows, "metric")
        if part == "confused":
            return frame_of(
                [dict(zip(("target", "predicted", "examples"), pair, strict=True)) for pair in self.confused]
            )
        if part not in PARTS:
            raise ValueError(f"part is {part!r}; accepted: scores, confused, {', '.join(PARTS)}")
        return frame_of([dataclasses.asdict(row) for row in getattr(self, part)])

    def __getitem__(self, metric: str) -> float:
        """Returns the value of a metric by its name."""
        return self.scores[metric]

    @property
    def confused(self) -> list[tuple[str, str, int]]:
        """(target, prediction, count) of a classification's wrong predictions, most frequent first."""
        names = self.problem.classes
        if not self.confusion:
            return list(self.pairs)
        pairs = [
            (names[row], names[column], count)
            for row, line in enumerate(self.confusion)
            for column, count in enumerate(line)
            if count and row != column
        ]
        return sorted(pairs, key=lambda pair: -pair[2])

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, with the metrics by name at the top level."""
        return {
            **self.scores,
            **{name: getattr(self, name) for name in ("examples", "intervals", "calibration_error")},
            **{name: [dataclasses.asdict(part) for part in getattr(self, name)] for name in PARTS},
            "confusion": self.confusion,
            "points": self.points,
            **{name: value for name in ("pairs", "errors") if (value := getattr(self, name))},
            "problem": self.problem.as_json(),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any], problem: "Problem") -> "Assessment":
        """Makes the assessment from values that `to_dict` returned, with its problem, which has been read already.

        Raises:
          KeyError, TypeError, ValueError: the values are not an assessment's.
        """
        return cls(
            problem,
            values["examples"],
            scores={name: float(values[name]) for name in problem.metrics},
            intervals={name: (float(low), float(high)) for name, (low, high) in values["intervals"].items()},
            labels=tuple(LabelScores(**fields) for fields in values["labels"]),
            confusion=tuple(tuple(map(int, line)) for line in values["confusion"]),
            calibration_error=float(values["calibration_error"]),
            bins=tuple(Bin(**fields) for fields in values["bins"]),
            mistakes=tuple(_mistake(fields) for fields in values["mistakes"]),
            points=tuple((float(target), float(prediction)) for target, prediction in values["points"]),
            pairs=tuple((str(target), str(label), int(count)) for target, label, count in values.get("pairs", ())),
            errors={name: int(count) for name, count in values.get("errors", {}).items()},
        )


def assess(
    problem: "Problem",
    targets: Any,
    logits: Any,
    texts: Sequence[Texts] | Callable[[int], Texts],
) -> Assessment:
    """Evaluates predictions against their targets.

    Args:
      problem: defines what logits mean.
      targets: from `Problem.targets`.
      logits: the model's, from `Problem.arranged`.
      texts: the texts of each example, or a function from its number to them, for the mistakes.

    Raises:
      ValueError: there is no example.
    """
    if not len(targets):
        raise ValueError("no examples to evaluate; accepted: at least one")
    predictions = problem.predict(logits)
    text_of = texts if callable(texts) else texts.__getitem__
    return Assessment(
        problem,
        len(targets),
        scores=problem.scores(targets, predictions),
        intervals=problem.intervals(targets, predictions),
        **problem.examine(targets, predictions, logits, text_of),
    )


def label_scores(
    labels: Sequence[str],
    targets: Bool[np.ndarray, "examples labels"],
    predictions: Bool[np.ndarray, "examples labels"],
) -> tuple[LabelScores, ...]:
    """Computes each label's scores from whether it holds and whether it was predicted."""
    hits, wanted, given = counts(targets, predictions)
    precision, recall = hits / np.maximum(given, 1), hits / np.maximum(wanted, 1)
    f1 = f1_by_label(hits, wanted, given)
    return tuple(
        LabelScores(label, float(precision[i]), float(recall[i]), float(f1[i]), int(wanted[i]))
        for i, label in enumerate(labels)
    )


def confusion(
    labels: Sequence[str], targets: Int[np.ndarray, " examples"], predictions: Int[np.ndarray, " examples"]
) -> dict[str, Any]:
    """Counts how often each target was predicted as each label; for many labels, only the most frequent confusions."""
    count = len(labels)
    cells, often = np.unique(targets.astype(np.int64) * count + predictions, return_counts=True)
    if count <= WHOLE:
        matrix = np.zeros(count**2, np.int64)
        matrix[cells] = often
        return {"confusion": tuple(tuple(map(int, line)) for line in matrix.reshape(count, count))}
    wrong = cells // count != cells % count
    first = np.argsort(-often[wrong], kind="stable")[:PAIRS]
    pairs = zip(cells[wrong][first].tolist(), often[wrong][first].tolist(), strict=True)
    return {"pairs": tuple((labels[cell // count], labels[cell % count], times) for cell, times in pairs)}


def calibration(
    probabilities: Float[np.ndarray, " decisions"], right: Bool[np.ndarray, " decisions"]
) -> dict[str, Any]:
    """Computes the expected calibration error (Guo et al. 2017, equation 5), and the non-empty bins, by field."""
    at = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    bins = []
    for i in np.unique(at):
        inside = at == i
        probability, share = float(probabilities[inside].mean()), float(right[inside].mean())
        bins.append(Bin(int(i) / BINS, (int(i) + 1) / BINS, int(inside.sum()), probability, share))
    gaps = [bin_.count * abs(bin_.probability - bin_.right) for bin_ in bins]
    return {"calibration_error": sum(gaps) / max(1, len(probabilities)), "bins": tuple(bins)}


def mistakes(
    weights: Float[np.ndarray, " examples"],
    texts: Callable[[int], Texts],
    both: Callable[[int], tuple[Any, Any]],
    marks: Callable[[int], tuple[Mark, ...]] = lambda case: (),
) -> tuple[Mistake, ...]:
    """Returns the examples with the largest weights.

    Args:
      weights: below 0 where the prediction is right.
      both: from an example's number to its target and its prediction.
      marks: from an example's number to the marks in its text.
    """
    first = np.argsort(-weights, kind="stable")[:MISTAKES]
    wrong = [i for i in map(int, first) if weights[i] >= 0]
    return tuple(Mistake(_texts(texts(i)), *both(i), float(weights[i]), marks(i)) for i in wrong)


def _mistake(fields: Mapping[str, Any]) -> Mistake:
    """Makes a mistake from its fields in JSON."""
    marks = tuple((int(start), int(end), str(what)) for start, end, what in fields.get("marks", ()))
    return Mistake(**{**fields, "texts": tuple(fields["texts"]), "marks": marks})


def _texts(texts: Texts) -> tuple[str, ...]:
    return (texts,) if isinstance(texts, str) else tuple(texts)
