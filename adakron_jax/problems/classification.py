"""Classification: one of several labels per example."""

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Int

from adakron_jax.data.examples import Texts
from adakron_jax.data.labels import in_order, listed, name_of, plain, read_cells, short, value_of
from adakron_jax.data.table import Table
from adakron_jax.evaluation.assessment import Assessment, calibration, confusion, label_scores, mistakes
from adakron_jax.evaluation.plots import reliability
from adakron_jax.problems.labelled import Labelled
from adakron_jax.problems.problem import Logits, Targets

_NUMBERED = re.compile(r"\s*[+-]?\d").match
_COMMA = re.compile(r"[+-]?\d+,\d+").fullmatch


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
        """Takes all names in a column as classes, in the table's order, or sorted."""
        (column,) = columns
        if column in table.orders:
            return cls(table.orders[column])
        labels = in_order(read_cells(table, column, name_of))
        if len(labels) < 2:
            only = short(*labels)
            raise ValueError(
                f"{table.origin}: {column} has only {only}; accepted: at least two labels, or a regression"
            )
        return cls(labels)

    def targets(self, table: Table, columns: Sequence[str]) -> Int[np.ndarray, " examples"]:
        if len(columns) > 1:
            raise ValueError(f"label is {' '.join(columns)}; accepted: one column")
        codes = read_cells(table, columns[0], lambda cell: self.code_of(name_of(cell)))
        return np.fromiter(codes, np.int32, len(table))

    def named(self, table: Table, columns: Sequence[str]) -> Table:
        """Replaces codes by names only if no label begins with a digit, and no cell is a label.

        Raises:
          ValueError: a cell is neither a name nor a code; the row is named.
        """
        (column,) = columns
        cells, codes = table[column], {} if any(map(_NUMBERED, self.labels)) else dict(enumerate(self.labels))
        names = [value_of(str(plain(cell))) for cell in cells]
        by_code = {str(code): label for code, label in codes.items()}
        if codes and by_code.keys() >= set(names):
            return table.replaced(column, [by_code[name] for name in names])
        accepted = [f"{code} ({label})" for code, label in codes.items()] or self.labels
        wrong = [row for row, cell in enumerate(cells) if not self.has(cell)]
        if wrong:
            row = next((row for row in wrong if names[row] not in by_code), wrong[0])
            raise ValueError(f"{table.at(row)}: {column} is {short(cells[row])}; accepted: {listed(accepted)}")
        return table

    def names_in(self, table: Table, columns: Sequence[str]) -> Iterator[str]:
        return read_cells(table, columns[0], name_of)

    def counts(self, targets: Targets) -> Int[np.ndarray, " labels"]:
        return np.bincount(targets, minlength=len(self.labels))

    def undrawn(self, targets: Targets) -> str:
        labels, rows = np.unique(targets, return_counts=True)
        commas = ", and numbers with a point for the comma" if all(map(_COMMA, self.labels)) else ""
        reason = f", and labels that repeat: there are {len(labels):,} in {len(targets):,} rows{commas}"
        return reason if 2 * (rows == 1).sum() > len(labels) else ""

    def is_single(self, targets: Targets) -> bool:
        return len(np.unique(targets)) < 2

    @staticmethod
    def losses(logits: Float[Array, "*batch outputs"], targets: Int[Array, " *batch"]) -> Float[Array, " *batch"]:
        import optax

        return optax.softmax_cross_entropy_with_integer_labels(logits, targets)

    def fitted(self, targets: Targets) -> "Classification":
        if len(targets) < len(self.labels):
            raise ValueError(f"{len(targets)} training rows for {len(self.labels)} classes; accepted: a row per class")
        return self

    def balanced(self, targets: Targets) -> Float[np.ndarray, " examples"]:
        """Returns examples / (classes * examples of the class)."""
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

    def constant_loss(self, targets: Targets, weights: Float[np.ndarray, " examples"] | None) -> float:
        shares = np.bincount(targets, weights=weights)
        shares = shares[shares > 0] / shares.sum()
        return float(-(shares * np.log(shares)).sum())

    def examine(
        self, targets: Targets, predictions: Targets, logits: Logits, texts: Callable[[int], Texts]
    ) -> dict[str, Any]:
        codes, surest = np.arange(len(self.labels)), self.probabilities(logits).max(-1)
        return {
            "labels": label_scores(self.labels, targets[:, None] == codes, predictions[:, None] == codes),
            **confusion(self.labels, targets, predictions),
            **calibration(surest, targets == predictions),
            "mistakes": mistakes(
                np.where(targets == predictions, -1.0, surest),
                texts,
                lambda i: (self.labels[targets[i]], self.labels[predictions[i]]),
            ),
        }

    def plot(self, assessment: Assessment, salt: str) -> tuple[str, str]:
        return "Calibration", reliability(assessment, salt, "probability of the predicted label", "share that is right")
