"""Regression: one number per example."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from adakron_jax.data.examples import Texts
from adakron_jax.data.labels import LARGEST, as_number, read_cells, short
from adakron_jax.data.table import Table
from adakron_jax.evaluation.assessment import Assessment, mistakes
from adakron_jax.evaluation.plots import scatter
from adakron_jax.problems.prediction import Prediction
from adakron_jax.problems.problem import Logits, Problem, Targets

POINTS = 2000  # most points of the scatter plot
EVEN = 1e-5  # logits that differ by less are equal up to float32's rounding


@dataclasses.dataclass(frozen=True)
class Regression(Problem):
    """Targets are numbers, float64 [examples]; the head learns `(target - mean) / scale` with the squared error.

    Attributes:
      mean, scale: of the targets, in their original unit.
    """

    mean: float = 0.0
    scale: float = 1.0

    name = "regression"
    metrics = ("pearson", "spearman", "rmse", "mae")
    transformers_type = "regression"
    mistakes_title = "largest errors"
    weight_head = "error"

    def __post_init__(self):
        if self.labels:
            raise ValueError(f"labels of a regression are {list(self.labels)}; accepted: none")
        if not (np.isfinite([self.mean, self.scale]).all() and self.scale > 0):
            raise ValueError(f"mean and scale are {self.mean} and {self.scale}; accepted: numbers, and a scale above 0")

    @property
    def outputs(self) -> int:
        return 1

    @property
    def unit(self) -> tuple[float, float]:
        return self.mean, self.scale

    @property
    def output_names(self) -> tuple[str, ...]:
        return ("LABEL_0",)

    @classmethod
    def of_count(cls, labels: int) -> "Regression":
        if labels != 1:
            raise ValueError(f"labels of a regression are {labels!r}; accepted: 1")
        return cls()

    @classmethod
    def suits(cls, table: Table, columns: Sequence[str]) -> bool:
        """Accepts numbers at least one of which has a fraction; ValueError if there are other cells among them."""
        (column,) = columns
        cells = table[column]
        numbers = [as_number(cell) for cell in cells]
        if not any(number is not None and number % 1 for number in numbers):
            return False
        if None in numbers:
            row = numbers.index(None)
            others = "accepted: a number as in other rows, or the problem said to be a classification"
            raise ValueError(f"{table.at(row)}: {column} is {short(cells[row])}; {others}")
        return True

    @classmethod
    def infer(cls, table: Table, columns: Sequence[str]) -> "Regression":
        """Returns a regression whose unit is not known before training."""
        return cls()

    def targets(self, table: Table, columns: Sequence[str]) -> Float[np.ndarray, " examples"]:
        if len(columns) > 1:
            raise ValueError(f"label is {' '.join(columns)}; accepted: one column")

        def read(cell: Any) -> float:
            number = as_number(cell)
            if number is None:
                raise ValueError(f"{short(cell)}; accepted: a number from -{LARGEST:.4g} to {LARGEST:.4g}")
            return number

        return np.fromiter(read_cells(table, columns[0], read), np.float64, len(table))

    @staticmethod
    def losses(logits: Float[Array, "*batch 1"], targets: Float[Array, " *batch"]) -> Float[Array, " *batch"]:
        import jax.numpy as jnp

        return jnp.square(logits[..., 0] - targets)

    def fitted(self, targets: Targets) -> "Regression":
        """Returns the problem with mean and standard deviation of its training targets."""
        mean, scale = float(np.mean(targets)), float(np.std(targets))
        if not scale > 0:
            raise ValueError(f"every training target is {mean:g}; accepted: at least two different ones")
        return dataclasses.replace(self, mean=mean, scale=scale)

    def standardize(self, targets: Targets) -> Float[np.ndarray, " examples"]:
        return ((targets - self.mean) / self.scale).astype(np.float32)

    def strata(self, targets: Targets) -> Float[np.ndarray, " examples"]:
        return targets

    def predict(self, logits: Logits) -> Float[np.ndarray, " examples"]:
        """Computes in float64, since a unit may be far finer than its mean."""
        return self.mean + self.scale * logits[:, 0].astype(np.float64)

    def predictions(self, logits: Logits, with_logits: bool = False) -> list[Prediction]:
        given = map(tuple, logits.tolist()) if with_logits else itertools.repeat(None)
        return [
            Prediction(None, number, {}, values)
            for number, values in zip(self.predict(logits).tolist(), given, strict=False)
        ]

    def as_columns(self, logits: Logits, probabilities: bool = False) -> dict[str, list[Any]]:
        if probabilities:
            self.probabilities(logits)
        numbers = self.predict(logits).tolist()
        return {"prediction": numbers, "score": numbers}

    def served(self, prediction: Prediction) -> list[tuple[str, float]]:
        """Uses the name that Hugging Face's pipelines give a single output."""
        return [(self.output_names[0], prediction.score)]

    def collapsed(self, logits: Logits) -> bool:
        return bool(np.ptp(logits) <= EVEN)

    def constant(self, targets: Targets) -> float:
        return float(targets.mean())

    def constant_loss(self, targets: Targets, weights: Float[np.ndarray, " examples"] | None) -> float:
        mean = np.average(targets, weights=weights)
        return float(np.average(np.square(targets - mean), weights=weights))

    def examine(
        self, targets: Targets, predictions: Targets, logits: Logits, texts: Callable[[int], Texts]
    ) -> dict[str, Any]:
        at = np.linspace(0, len(targets) - 1, min(len(targets), POINTS)).astype(int)
        errors = np.abs(predictions - targets)
        return {
            "points": tuple((float(targets[i]), float(predictions[i])) for i in at),
            "mistakes": mistakes(
                np.where(errors > 0, errors, -1.0), texts, lambda i: (float(targets[i]), float(predictions[i]))
            ),
        }

    def summary(self) -> str:
        return "a regression"

    def described(self) -> str:
        return f"{self.name} of numbers, {self.mean:.4g} on average, {self.scale:.4g} standard deviation"

    def plot(self, assessment: Assessment, salt: str) -> tuple[str, str]:
        return "Predictions against targets", scatter(assessment, salt)
