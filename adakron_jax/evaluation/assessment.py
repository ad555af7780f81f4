"""How good predictions are: every metric with its uncertainty, each label, calibration, and where they go wrong."""

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

BINS = 15  # of equal width, as Guo et al. 2017 have them
MISTAKES = 20
WHOLE, PAIRS = 160, 100  # labels up to which the confusion is kept whole, and what is kept of more

PARTS = ("labels", "bins", "mistakes")  # of an assessment that are rows

Mark = tuple[int, int, str]  # its first character, the one behind its last, and whether it is `target` or `predicted`


@dataclasses.dataclass(frozen=True)
class LabelScores:
    """How well one label is told: 0 where there is nothing to divide by. `support`: examples that have it."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclasses.dataclass(frozen=True)
class Bin:
    """Predictions whose probability lies in [low, high): their mean probability, and the share that was right."""

    low: float
    high: float
    count: int
    probability: float
    right: float


@dataclasses.dataclass(frozen=True)
class Mistake:
    """An example that was predicted wrongly, and how surely.

    Attributes:
      texts: its one or two.
      target, predicted: a label, labels, or a number in its unit.
      weight: by which mistakes are ranked: the probability of the wrong label; of a regression the error's size.
      marks: what it is about in its first text; nothing of a mistake about all of it.
    """

    texts: tuple[str, ...]
    target: Any
    predicted: Any
    weight: float
    marks: tuple[Mark, ...] = ()


@dataclasses.dataclass(frozen=True)
class Assessment:
    """What `assess` says of predictions.

    Attributes:
      problem: what was predicted.
      examples: how many.
      scores: metric -> value; of a problem's metrics in their order.
      intervals: metric -> the interval of 95 % of a bootstrap over examples, (low, high).
      labels: one a label, in the problem's order; none of a regression.
      confusion: of a classification, how often a target [row] was predicted as a label [column]; else empty.
      calibration_error: the mean distance of probability and share of right ones, over `bins`; 0 of a regression.
      bins: of probabilities: of the predicted label, or of every label of a multilabel problem; those with predictions.
      mistakes: the twenty surest, surest first.
      pairs: of a classification of more than 160 labels, in place of `confusion`, what `confused` gives.
      errors: of entities, how many there are of each sort of error.
      points: of a regression, (target, prediction) of examples evenly taken, at most 2,000.
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
        """A pandas frame.

        Args:
          part: `scores`, with their intervals; `labels`, `mistakes` or `bins`, as they are here; or `confused`, pairs
            of target and prediction by how often they were taken for one another.

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
        """The value of a metric by its name."""
        return self.scores[metric]

    @property
    def confused(self) -> list[tuple[str, str, int]]:
        """(target, prediction, how often) of a classification's wrong predictions, most frequent first."""
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
        """Plain values, the metrics by name at the top level."""
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
        """The assessment that `to_dict` gave, from plain values, of which `problem` is read already.

        Raises:
          KeyError, TypeError, ValueError: they are none.
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
    """Holds predictions against what was to be predicted.

    Args:
      problem: says what logits mean.
      targets: as `Problem.targets` gives them.
      logits: the model's, as `Problem.arranged` gives them.
      texts: of each example, or what gives those of an example by its number, for the mistakes.

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
    """How well each label is told, from whether it holds and whether it was predicted."""
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
    """How often each target was predicted as each label: all of it, or of many labels the most frequent confusions."""
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
    """The expected calibration error (Guo et al. 2017, equation 5), and the bins that hold something, by field."""
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
    """The examples with the largest weights.

    Args:
      weights: below 0 where the prediction is right.
      both: from an example's number to its target and its prediction.
      marks: from an example's number to what is marked in its text.
    """
    first = np.argsort(-weights, kind="stable")[:MISTAKES]
    wrong = [i for i in map(int, first) if weights[i] >= 0]
    return tuple(Mistake(_texts(texts(i)), *both(i), float(weights[i]), marks(i)) for i in wrong)


def _mistake(fields: Mapping[str, Any]) -> Mistake:
    """The mistake whose fields JSON holds."""
    marks = tuple((int(start), int(end), str(what)) for start, end, what in fields.get("marks", ()))
    return Mistake(**{**fields, "texts": tuple(fields["texts"]), "marks": marks})


def _texts(texts: Texts) -> tuple[str, ...]:
    return (texts,) if isinstance(texts, str) else tuple(texts)
