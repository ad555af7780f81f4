"""Tokenised examples."""

import dataclasses
from typing import Literal

import numpy as np
from jaxtyping import Int


@dataclasses.dataclass(frozen=True)
class Examples:
    """Tokenised examples, end to end.

    Attributes:
      tokens, token_types: ids of all examples one after another, special tokens included.
      offsets: where each example begins, and where the last one ends [examples + 1].
      labels: a problem's targets: codes or numbers [examples], or whether each label holds [examples, labels].
      empty_texts, cut: how many texts were empty, and how many examples were cut.
      weights: of each example in the loss [examples]; none at all if every one has weight 1.
    """

    tokens: np.ndarray
    token_types: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray
    empty_texts: int
    cut: int = 0
    weights: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.float32))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each example."""
        return np.diff(self.offsets)

    def first(self, limit: int | Literal["all"]) -> "Examples":
        """The first `limit` examples."""
        if limit == "all" or limit >= len(self):
            return self
        end = self.offsets[limit]
        return dataclasses.replace(
            self,
            tokens=self.tokens[:end],
            token_types=self.token_types[:end],
            offsets=self.offsets[: limit + 1],
            labels=self.labels[:limit],
            weights=self.weights[:limit],
        )

    def take(self, rows: Int[np.ndarray, " rows"]) -> "Examples":
        """The examples with these numbers, in their order; the first ones of all are given as they lie, not copied."""
        if np.array_equal(rows, np.arange(len(rows))):
            return self.first(len(rows))
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        source = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths)
        return dataclasses.replace(
            self,
            tokens=self.tokens[source],
            token_types=self.token_types[source],
            offsets=offsets,
            labels=self.labels[rows],
            weights=self.weights[rows] if len(self.weights) else self.weights,
        )
