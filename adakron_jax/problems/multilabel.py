"""Multilabel: any number of the labels an example."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from adakron_jax.data.labels import as_list, each, holds, in_order, name_of, short
from adakron_jax.data.table import Table
from adakron_jax.evaluation.assessment import Assessment, Texts, mistakes
from adakron_jax.evaluation.plots import reliability
from adakron_jax.problems.labelled import Labelled
from adakron_jax.problems.problem import Logits, Targets


@dataclasses.dataclass(frozen=True)
class Multilabel(Labelled):
    """Targets are whether each label holds, booleans [examples, labels]; the loss is the mean over labels."""

    name = "multilabel"
    metrics = ("micro_f1", "macro_f1", "subset_accuracy")
    independent = True
    transformers_type = "multi_label_classification"

    @classmethod
    def suits(cls, table: Table, columns: Sequence[str]) -> bool:
        """Several columns, or lists in one."""
        if len(columns) > 1:
            return True
        cells = table[columns[0]]
        return any(isinstance(cell, list) for cell in cells) or all(as_list(cell) is not None for cell in cells)

    @classmethod
    def infer(cls, table: Table, columns: Sequence[str]) -> "Multilabel":
        """The labels are the columns' names, or all that the lists of one column name."""
        if len(columns) > 1:
            return cls(tuple(columns))
        labels = in_order(itertools.chain.from_iterable(each(table, columns[0], _names)))
        if not labels:
            raise ValueError(
                f"{table.origin}: {columns[0]} has no label at all; accepted: at least two labels, or a regression"
            )
        return cls(labels)

    def targets(
        self, table: Table, columns: Sequence[str], bounds: tuple[float, float] = (-math.inf, math.inf)
    ) -> Bool[np.ndarray, "examples labels"]:
        if len(columns) > 1:
            if set(columns) != set(self.labels):
                raise ValueError(f"label is {' '.join(columns)}; accepted: {', '.join(self.labels)}")
            return np.stack([np.fromiter(each(table, name, holds), bool, len(table)) for name in self.labels], axis=-1)
        held = np.zeros((len(table), len(self.labels)), bool)
        for row, codes in enumerate(each(table, columns[0], lambda cell: self.codes(_names(cell)))):
            held[row, codes] = True
        return held

    @staticmethod
    def losses(logits: Float[Array, "*batch labels"], targets: Shaped[Array, "*batch labels"]) -> Float[Array, "*b"]:
        import optax

        return optax.sigmoid_binary_cross_entropy(logits, targets.astype(logits.dtype)).mean(axis=-1)

    def initial_bias(self, targets: Bool[np.ndarray, "examples labels"]) -> Float[np.ndarray, " labels"]:
        """The logits of how often each label holds.

        A head that starts from them need not learn first that most labels are rare: the gradients of that, the largest
        of all, would stay in AdamW's second moments and hold back what comes after for hundreds of steps.
        """
        share = (targets.sum(axis=0) + 1) / (len(targets) + 2)
        return np.log(share / (1 - share)).astype(np.float32)

    def strata(self, targets: Targets) -> Int[np.ndarray, " examples"]:
        """An example's rarest label."""
        rarest = np.argsort(targets.sum(axis=0), kind="stable")
        return np.where(targets.any(axis=1), targets[:, rarest].argmax(axis=1), targets.shape[1])

    def carriers(self, targets: Targets) -> Iterator[np.ndarray]:
        return (np.flatnonzero(targets[:, code]) for code in range(len(self.labels)))

    def predict(self, logits: Logits) -> Bool[np.ndarray, "examples labels"]:
        return logits > 0  # where the sigmoid is above 0.5

    def probabilities(self, logits: Logits) -> Float[np.ndarray, "examples labels"]:
        return np.exp(-np.logaddexp(0, -logits))

    def decide(self, logits: Logits) -> tuple[list[Any], list[float]]:
        probabilities = self.probabilities(logits)
        labels = [tuple(self._held(row)) for row in self.predict(logits).tolist()]
        return labels, np.maximum(probabilities, 1 - probabilities).min(axis=-1).tolist()

    def _held(self, row: Sequence[bool]) -> list[str]:
        return list(itertools.compress(self.labels, row))

    def constant(self, targets: Targets) -> Bool[np.ndarray, " labels"]:
        return targets.mean(axis=0) > 0.5

    def examine(
        self, targets: Targets, predictions: Targets, logits: Logits, texts: Callable[[int], Texts]
    ) -> dict[str, Any]:
        probabilities = self.probabilities(logits)
        weights = np.where(targets == predictions, -1.0, np.maximum(probabilities, 1 - probabilities)).max(-1)
        return {
            "labels": self._by_label(targets, predictions),
            **self._calibrated(probabilities.ravel(), targets.ravel()),
            "mistakes": mistakes(weights, texts, lambda i: (self._held(targets[i]), self._held(predictions[i]))),
        }

    def plot(self, assessment: Assessment, salt: str) -> tuple[str, str]:
        return "Calibration", reliability(assessment, salt, "probability of a label", "share that holds")


def _names(cell: Any) -> list[str]:
    """The labels that a cell names."""
    if (cells := as_list(cell)) is None:
        raise ValueError(f"{short(cell)}; accepted: a list of labels")
    return [name_of(one) for one in cells]
