"""Multilabel: any number of labels per example."""

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from adakron_jax.data.examples import Texts
from adakron_jax.data.labels import as_list, holds, in_order, name_of, read_cells, short
from adakron_jax.data.table import Table
from adakron_jax.evaluation.assessment import Assessment, calibration, label_scores, mistakes
from adakron_jax.evaluation.plots import reliability
from adakron_jax.problems.labelled import Labelled
from adakron_jax.problems.problem import Logits, Targets

MARKS = ";|"  # separators that a text of several labels may use
_ENTITY = re.compile(r"&#?\w+;")


@dataclasses.dataclass(frozen=True)
class Multilabel(Labelled):
    """Targets say whether each label holds, booleans [examples, labels]; the loss is the mean over labels."""

    name = "multilabel"
    metrics = ("micro_f1", "macro_f1", "subset_accuracy")
    independent = True
    transformers_type = "multi_label_classification"
    cell_types = {"prediction": [""]}

    @classmethod
    def suits(cls, table: Table, columns: Sequence[str]) -> bool:
        """Accepts several columns, or lists in one; ValueError if texts in it look like labels with a separator."""
        if len(columns) > 1:
            return True
        (column,) = columns
        cells = table[column]
        if any(isinstance(cell, list) for cell in cells):
            return True
        if 2 * sum(as_list(cell) is not None for cell in cells) > len(cells):
            return True
        if column not in table.orders and (mark := _mark(cells)):
            row = next(row for row, cell in enumerate(cells) if _has(cell, mark))
            ways = f"the problem said to be multilabel, which parts it at {mark!r}, or a classification"
            raise ValueError(f"{table.at(row)}: {column} is {short(cells[row])}; accepted: {ways}")
        return False

    @classmethod
    def infer(cls, table: Table, columns: Sequence[str]) -> "Multilabel":
        """Takes as labels the columns' names, all names in the lists of one column, or the places in its lists."""
        if len(columns) > 1:
            return cls(tuple(columns))
        lists = _lists(table, columns[0])
        if width := _hot(lists):
            return cls(tuple(map(str, range(width))))
        labels = in_order(_names(table, columns[0], lists))
        if not labels:
            raise ValueError(
                f"{table.origin}: {columns[0]} has no label at all; accepted: at least two labels, or a regression"
            )
        return cls(labels)

    def targets(self, table: Table, columns: Sequence[str]) -> Bool[np.ndarray, "examples labels"]:
        if len(columns) > 1:
            if set(columns) != set(self.labels):
                raise ValueError(f"label is {' '.join(columns)}; accepted: {', '.join(self.labels)}")
            return np.stack(
                [np.fromiter(read_cells(table, name, holds), bool, len(table)) for name in self.labels], axis=-1
            )
        (column,) = columns
        lists = _lists(table, column)
        if _hot(lists) == len(self.labels):
            return np.array(lists, bool)
        held = np.zeros((len(table), len(self.labels)), bool)
        rows = read_cells(
            table.replaced(column, lists), column, lambda names: [self.code_of(name) for name in _named(names)]
        )
        for row, codes in enumerate(rows):
            held[row, codes] = True
        return held

    def names_in(self, table: Table, columns: Sequence[str]) -> Iterator[str]:
        lists = [] if len(columns) > 1 else _lists(table, columns[0])
        return iter(()) if not lists or _hot(lists) else _names(table, columns[0], lists)

    def counts(self, targets: Targets) -> Int[np.ndarray, " labels"]:
        return targets.sum(axis=0)

    @staticmethod
    def losses(
        logits: Float[Array, "*batch labels"], targets: Shaped[Array, "*batch labels"]
    ) -> Float[Array, "*batch"]:
        import optax

        return optax.sigmoid_binary_cross_entropy(logits, targets.astype(logits.dtype)).mean(axis=-1)

    def initial_bias(self, targets: Bool[np.ndarray, "examples labels"]) -> Float[np.ndarray, " labels"]:
        """Returns the logits of each label's frequency.

        A head that starts from them need not first learn that most labels are rare. The gradients for that, the largest
        of all, would stay in AdamW's second moments and slow down what follows for hundreds of steps.
        """
        share = (targets.sum(axis=0) + 1) / (len(targets) + 2)
        return np.log(share / (1 - share)).astype(np.float32)

    def strata(self, targets: Targets) -> Int[np.ndarray, " examples"]:
        """Returns each example's rarest label."""
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
        labels = [tuple(self._held(row)) for row in self.predict(logits)]
        return labels, np.maximum(probabilities, 1 - probabilities).min(axis=-1).tolist()

    def _held(self, row: Bool[np.ndarray, " labels"]) -> list[str]:
        return list(itertools.compress(self.labels, row))

    def constant(self, targets: Targets) -> Bool[np.ndarray, " labels"]:
        return targets.mean(axis=0) > 0.5

    def constant_loss(self, targets: Targets, weights: Float[np.ndarray, " examples"] | None) -> float:
        share = np.clip(np.average(targets, axis=0, weights=weights), 1e-12, 1 - 1e-12)
        return float(-(share * np.log(share) + (1 - share) * np.log(1 - share)).mean())

    def examine(
        self, targets: Targets, predictions: Targets, logits: Logits, texts: Callable[[int], Texts]
    ) -> dict[str, Any]:
        probabilities = self.probabilities(logits)
        weights = np.where(targets == predictions, -1.0, np.maximum(probabilities, 1 - probabilities)).max(-1)
        return {
            "labels": label_scores(self.labels, targets, predictions),
            **calibration(probabilities.ravel(), targets.ravel()),
            "mistakes": mistakes(weights, texts, lambda i: (self._held(targets[i]), self._held(predictions[i]))),
        }

    def plot(self, assessment: Assessment, salt: str) -> tuple[str, str]:
        return "Calibration", reliability(assessment, salt, "probability of a label", "share that holds")


def _mark(cells: Sequence[Any]) -> str:
    """Returns the separator of several labels in a column's texts that are not lists; empty if there is none."""
    return next((mark for mark in MARKS if any(_has(cell, mark) for cell in cells)), "")


def _has(cell: Any, mark: str) -> bool:
    parts = _ENTITY.sub("", cell).split(mark) if isinstance(cell, str) and as_list(cell) is None else ()
    return sum(bool(part.strip()) for part in parts) > 1


def _lists(table: Table, column: str) -> list[list[Any]]:
    """Returns a column's cells as lists; ValueError names a row whose cell is not one."""
    mark = _mark(table[column])

    def read(cell: Any) -> list[Any]:
        if (listed := as_list(cell)) is not None:
            return listed
        if not mark or not isinstance(cell, str):
            raise ValueError(f"{short(cell)}; accepted: a list of labels")
        return [part.strip() for part in cell.split(mark) if part.strip()]

    return list(read_cells(table, column, read))


def _hot(lists: Sequence[Sequence[Any]]) -> int:
    """Returns the number of labels in lists of 0 and 1 with one place per label; 0 if they are not such lists."""
    width = len(lists[0]) if lists else 0
    if width < 2 or any(len(row) != width or not all(map(_is_bit, row)) for row in lists):
        return 0
    return width


def _is_bit(cell: Any) -> bool:
    return isinstance(cell, int | float) and cell in (0, 1)


def _named(cells: Sequence[Any]) -> list[str]:
    """Returns the labels of a list; ValueError if it holds 0 and 1 for each label, where other lists do not."""
    if len(cells) > 2 and all(map(_is_bit, cells)):
        raise ValueError(
            f"{short(list(cells))}; accepted: every label once, or 0 and 1 per label in lists of one length"
        )
    return [name_of(cell) for cell in cells]


def _names(table: Table, column: str, lists: list[list[Any]]) -> Iterator[str]:
    return itertools.chain.from_iterable(read_cells(table.replaced(column, lists), column, _named))
