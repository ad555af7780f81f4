"""The base classes of problems with named labels."""

import abc
import collections
import dataclasses
import functools
import itertools
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int

from adakron_jax.data.labels import is_whole, listed, name_of, short, value_of
from adakron_jax.data.table import Table, printable
from adakron_jax.problems.prediction import Prediction
from adakron_jax.problems.problem import Logits, Problem, Targets

SHOWN = 10  # labels that a line lists
MANY = 20  # more whole numbers than this may be amounts


@dataclasses.dataclass(frozen=True)
class Named(Problem):
    """A problem whose logits belong to named labels.

    Class attributes:
      counted: the singular and the plural of what `shown` lists.

    Raises:
      ValueError: there is no label, or a label occurs twice.
    """

    counted: ClassVar[tuple[str, str]] = ("label", "labels")

    def __post_init__(self):
        if not self.labels:
            raise ValueError(f"labels of a {self.name} are []; accepted: names")
        if wrong := [label for label in self.labels if not isinstance(label, str)]:
            raise ValueError(f"labels hold {wrong[0]!r}; accepted: texts")
        if twice := [label for label, count in collections.Counter(self.labels).items() if count > 1]:
            raise ValueError(
                f"labels are {short(list(self.labels))}; accepted: every label once; {short(twice[0])} occurs twice"
            )

    @property
    def outputs(self) -> int:
        return len(self.labels)

    @classmethod
    def of_count(cls, labels: int) -> Problem:
        if labels < 1:
            raise ValueError(f"labels is {labels}; accepted: at least 1, or names")
        return cls(tuple(map(str, range(labels))))

    @property
    def shown(self) -> Sequence[str]:
        """The names that a line lists."""
        return self.labels

    def summary(self) -> str:
        return f"{len(self.shown)} {self.counted[len(self.shown) != 1]}"

    def described(self) -> str:
        names = ", ".join(map(printable, self.shown[:SHOWN])) + (", ..." if len(self.shown) > SHOWN else "")
        return f"{self.name} of {self.summary()}: {names}"


@dataclasses.dataclass(frozen=True)
class Labelled(Named):
    """A problem in which examples have the labels."""

    def code_of(self, name: str) -> int:
        """Returns the code of a label in any of its spellings; ValueError if it is not a label."""
        code = self._codes.get(name, self._codes.get(value_of(name)))
        if code is None:
            raise ValueError(f"{short(name)}; accepted: {listed(self.labels)}")
        return code

    def has(self, cell: Any) -> bool:
        """Returns whether a cell names one of the labels."""
        try:
            self.code_of(name_of(cell))
        except ValueError:
            return False
        return True

    @functools.cached_property
    def _codes(self) -> dict[str, int]:
        codes = {name: code for code, name in enumerate(self.labels)}
        return {value_of(name): code for name, code in codes.items()} | codes

    @abc.abstractmethod
    def counts(self, targets: Targets) -> Int[np.ndarray, " labels"]:
        """Returns how many examples have each label."""

    @abc.abstractmethod
    def names_in(self, table: Table, columns: Sequence[str]) -> Iterator[str]:
        """Yields the labels that cells name, as spelled there."""

    def respelled(self, table: Table, columns: Sequence[str]) -> Iterator[str]:
        labels = set(self.labels)
        for name, count in collections.Counter(self.names_in(table, columns)).items():
            if name not in labels:
                label = self.labels[self.code_of(name)]
                yield f"note: {short(name)} ({count:,} times) is the label {short(label)}, whose value is the same"

    def notes(self, targets: Mapping[str, Targets]) -> Iterator[str]:
        counts = {part: self.counts(labels) for part, labels in targets.items()}
        total = np.sum(list(counts.values()), axis=0)
        alike: dict[str, list[int]] = {}
        for code, label in enumerate(self.labels):
            folded = unicodedata.normalize("NFKC", label).casefold()
            alike.setdefault(" ".join(folded.split()), []).append(code)
        for codes in [codes for codes in alike.values() if len(codes) > 1][:SHOWN]:
            names = ", ".join(f"{self.labels[code]!a} ({total[code]:,} rows)" for code in codes)
            yield f"note: labels that differ by space, case or Unicode form alone: {names}"
        for part, count in counts.items():
            if missing := [self.labels[code] for code in np.flatnonzero(count == 0)]:
                rows = "no training row has" if part == "train" else f"{part} has no row of"
                yield f"note: {rows} {listed(missing)}"
        if len(self.labels) > MANY and all(map(is_whole, self.labels)):
            yield f"note: {len(self.labels)} whole numbers are taken for classes, not amounts (a regression)"

    @abc.abstractmethod
    def decide(self, logits: Logits) -> tuple[list[Any], list[float]]:
        """Returns labels and scores of all examples, as in `Prediction`."""

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
