"""Classification: one of several labels an example."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Int

from adakron_jax.data.labels import INTEGER, each, in_order, listed, name_of, short
from adakron_jax.data.table import Table
from adakron_jax.evaluation.assessment import Assessment, Texts, confusion, mistakes
from adakron_jax.evaluation.plots import reliability
from adakron_jax.problems.labelled import Labelled
from adakron_jax.problems.problem import Logits, Targets


@dataclasses.dataclass(frozen=True)
class Classification(Labelled):
    """Targets are label codes, int32 [examples]; the loss is the cross-entropy."""

    name = "classification"
    metrics = ("accuracy", "macro_f1", "weighted_f1", "matthews")
    transformers_type = "single_label_classification"

    @classmethod
    def suits(cls, table: Table, columns: Sequence[str]) -> bool:
        return True

    @classmethod
    def infer(cls, table: Table, columns: Sequence[str]) -> "Classification":
        """All that a column names are classes, in the order that the table says, or sorted."""
        (column,) = columns
        if column in table.orders:
            return cls(table.orders[column])
        labels = in_order(each(table, column, name_of))
        if len(labels) < 2:
            only = short(*labels)
            raise ValueError(
                f"{table.origin}: {column} has only {only}; accepted: at least two labels, or a regression"
            )
        return cls(labels)

    def targets(
        self, table: Table, columns: Sequence[str], bounds: tuple[float, float] = (-math.inf, math.inf)
    ) -> Int[np.ndarray, " examples"]:
        if len(columns) > 1:
            raise ValueError(f"label is {' '.join(columns)}; accepted: one column")
        codes = each(table, columns[0], lambda cell: self.codes([name_of(cell)])[0])
        return np.fromiter(codes, np.int32, len(table))

    def named(self, table: Table, columns: Sequence[str]) -> Table:
        """Codes are taken for such only where no label is a whole number itself.

        Raises:
          ValueError: names the row whose cell is neither a name nor a code.
        """
        (column,) = columns
        names, accepted = {name: name for name in self.labels}, self.labels
        if not any(map(INTEGER.fullmatch, self.labels)):
            names |= {str(code): name for code, name in enumerate(self.labels)}
            accepted = [f"{code} ({name})" for code, name in enumerate(self.labels)]
        for row, cell in enumerate(table[column]):
            if str(cell) not in names:
                raise ValueError(f"{table.at(row)}: {column} is {short(cell)}; accepted: {listed(accepted)}")
        return table.replaced(column, [names[str(cell)] for cell in table[column]])

    def is_single(self, targets: Targets) -> bool:
        return len(np.unique(targets)) < 2

    @staticmethod
    def losses(logits: Float[Array, "*batch outputs"], targets: Int[Array, " *batch"]) -> Float[Array, " *batch"]:
        import optax

        return optax.softmax_cross_entropy_with_integer_labels(logits, targets)

    def fitted(self, targets: Targets) -> "Classification":
        if len(targets) < len(self.labels):
            raise ValueError(f"{len(targets)} training rows for {len(self.labels)} classes; accepted: a row a class")
        return self

    def balanced(self, targets: Targets) -> Float[np.ndarray, " examples"]:
        """Examples / (classes * those of its class)."""
        counts = np.bincount(targets)
        return (len(targets) / (np.count_nonzero(counts) * counts[targets])).astype(np.float32)

    def strata(self, targets: Targets) -> Int[np.ndarray, " examples"]:
        return targets

    def carriers(self, targets: Targets) -> Iterator[np.ndarray]:
        return (np.flatnonzero(targets == code) for code in range(len(self.labels)))

    def predict(self, logits: Logits) -> Int[np.ndarray, " examples"]:
        return logits.argmax(-1)

    def probabilities(self, logits: Logits) -> Float[np.ndarray, "examples labels"]:
        odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return odds / odds.sum(axis=-1, keepdims=True)

    def decide(self, logits: Logits) -> tuple[list[Any], list[float]]:
        names = [self.labels[code] for code in self.predict(logits).tolist()]
        return names, self.probabilities(logits).max(axis=-1).tolist()

    def constant(self, targets: Targets) -> int:
        return int(np.bincount(targets).argmax())

    def examine(
        self, targets: Targets, predictions: Targets, logits: Logits, texts: Callable[[int], Texts]
    ) -> dict[str, Any]:
        codes, surest = np.arange(len(self.labels)), self.probabilities(logits).max(-1)
        return {
            "labels": self._by_label(targets[:, None] == codes, predictions[:, None] == codes),
            "confusion": confusion(len(self.labels), targets, predictions),
            **self._calibrated(surest, targets == predictions),
            "mistakes": mistakes(
                np.where(targets == predictions, -1.0, surest),
                texts,
                lambda i: (self.labels[targets[i]], self.labels[predictions[i]]),
            ),
        }

    def plot(self, assessment: Assessment, salt: str) -> tuple[str, str]:
        return "Calibration", reliability(assessment, salt, "probability of the predicted label", "share that is right")
