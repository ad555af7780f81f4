"""What problems with named labels share."""

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from adakron_jax.data.labels import listed, short
from adakron_jax.data.table import printable
from adakron_jax.evaluation.assessment import Bin, LabelScores, calibration, label_scores
from adakron_jax.problems.problem import Logits, Prediction, Problem, Targets

SHOWN = 10  # labels that a line names


@dataclasses.dataclass(frozen=True)
class Labelled(Problem):
    """A problem whose logits are of labels with names.

    Raises:
      ValueError: there is no label, or one stands twice.
    """

    def __post_init__(self):
        if not self.labels:
            raise ValueError(f"labels of a {self.name} are []; accepted: names")
        if len(set(self.labels)) < len(self.labels):
            raise ValueError(f"labels are {list(self.labels)}; accepted: every label once")

    @property
    def outputs(self) -> int:
        return len(self.labels)

    @classmethod
    def of_count(cls, labels: int) -> Problem:
        if labels < 1:
            raise ValueError(f"labels is {labels}; accepted: at least 1, or names")
        return cls(tuple(map(str, range(labels))))

    def codes(self, names: Sequence[str]) -> list[int]:
        """The codes of labels; ValueError names the first that is none."""
        if unknown := [name for name in names if name not in self._codes]:
            raise ValueError(f"{short(unknown[0])}; accepted: {listed(self.labels)}")
        return [self._codes[name] for name in names]

    @functools.cached_property
    def _codes(self) -> dict[str, int]:
        return {name: code for code, name in enumerate(self.labels)}

    def predictions(self, logits: Logits, with_logits: bool = False) -> list[Prediction]:
        labels, scores = self.decide(logits)
        shares = self.probabilities(logits).tolist()
        given = map(tuple, logits.tolist()) if with_logits else itertools.repeat(None)
        return [
            Prediction(label, score, dict(zip(self.labels, row, strict=True)), values)
            for label, score, row, values in zip(labels, scores, shares, given, strict=False)
        ]

    def as_columns(self, logits: Logits, probabilities: bool = False) -> dict[str, list[Any]]:
        labels, scores = self.decide(logits)
        columns = {"prediction": [list(label) if isinstance(label, tuple) else label for label in labels]}
        columns["score"] = scores
        if probabilities:
            shares = self.probabilities(logits)
            columns |= {f"probability_{name}": shares[:, code].tolist() for code, name in enumerate(self.labels)}
        return columns

    def served(self, prediction: Prediction) -> list[tuple[str, float]]:
        return sorted(prediction.probabilities.items(), key=lambda pair: -pair[1])

    def collapsed(self, logits: Logits) -> bool:
        predictions = self.predict(logits)
        return bool((predictions == predictions[:1]).all())

    def summary(self) -> str:
        return f"{len(self.labels)} labels"

    def described(self) -> str:
        names = ", ".join(map(printable, self.labels[:SHOWN])) + (", ..." if len(self.labels) > SHOWN else "")
        return f"{self.name} of {len(self.labels)} labels: {names}"

    def _by_label(self, targets: Targets, predictions: Targets) -> tuple[LabelScores, ...]:
        """Of booleans [examples, labels]."""
        return label_scores(self.labels, targets, predictions)

    @staticmethod
    def _calibrated(probabilities: np.ndarray, right: np.ndarray) -> dict[str, float | tuple[Bin, ...]]:
        error, bins = calibration(probabilities, right)
        return {"calibration_error": error, "bins": bins}
