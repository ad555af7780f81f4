"""Tokenised examples."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Int

from adakron_jax.data.sentences import Sentences, joined_offsets, taken

Texts = str | Sequence[str]  # the one or two texts of an example
ENCODED_AT_ONCE = 8192  # examples between two reports of progress


def ignore(done: int) -> None:
    """Ignores progress."""


@dataclasses.dataclass(frozen=True)
class Examples:
    """Tokenised examples, concatenated.

    Attributes:
      tokens, token_types: ids of all examples one after another, special tokens included.
      offsets: where each example begins, and where the last one ends [examples + 1].
      labels: a problem's targets: codes or numbers [examples], or whether each label holds [examples, labels];
        or one for every token [tokens], where a value below 0 means no label.
      empty_texts, cut: number of empty texts, and of examples that were cut.
      weights: weight of each example in the loss [examples]; empty if every weight is 1.
      rows: the sentence that each example is a part of, in order [examples]; empty if examples have the labels.
      sentences: the sentences, if they are known.
    """

    tokens: np.ndarray
    token_types: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray
    empty_texts: int
    cut: int = 0
    weights: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.float32))
    rows: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    sentences: Sentences | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def joined(cls, parts: "Sequence[Examples]") -> "Examples":
        """Concatenates examples of one kind, without their sentences and weights."""
        counts = np.cumsum([0, *(part.count for part in parts)])
        return cls(
            tokens=np.concatenate([part.tokens for part in parts]),
            token_types=np.concatenate([part.token_types for part in parts]),
            offsets=joined_offsets([part.offsets for part in parts]),
            labels=np.concatenate([part.labels for part in parts]),
            empty_texts=sum(part.empty_texts for part in parts),
            cut=sum(part.cut for part in parts),
            rows=np.concatenate([part.rows + count for part, count in zip(parts, counts, strict=False)]),
        )

    @property
    def of_tokens(self) -> bool:
        """Whether the labels belong to tokens rather than examples."""
        return len(self.rows) > 0

    @property
    def count(self) -> int:
        """Number of the table's rows: examples, or sentences, which may consist of several examples."""
        return len(self._begins) if self.of_tokens else len(self)

    @property
    def _begins(self) -> Int[np.ndarray, " rows"]:
        """The first example of each sentence."""
        return np.flatnonzero(np.diff(self.rows, prepend=-1))

    @property
    def lengths(self) -> np.ndarray:
        """Number of tokens of each example."""
        return np.diff(self.offsets)

    def first(self, limit: int | Literal["all"]) -> "Examples":
        """Returns the first `limit` examples, or sentences."""
        if limit == "all" or limit >= self.count:
            return self
        limit = int(self._begins[limit]) if self.of_tokens else limit
        end = self.offsets[limit]
        return dataclasses.replace(
            self,
            tokens=self.tokens[:end],
            token_types=self.token_types[:end],
            offsets=self.offsets[: limit + 1],
            labels=self.labels[: end if self.of_tokens else limit],
            weights=self.weights[:limit],
            rows=self.rows[:limit],
        )

    def take(self, rows: Int[np.ndarray, " rows"]) -> "Examples":
        """Returns the examples, or sentences, with these numbers, in this order; a leading range is not copied."""
        if np.array_equal(rows, np.arange(len(rows))):
            return self.first(len(rows))
        if self.of_tokens:
            rows, _ = taken(np.r_[self._begins, len(self)], rows)
        source, offsets = taken(self.offsets, rows)
        return dataclasses.replace(
            self,
            tokens=self.tokens[source],
            token_types=self.token_types[source],
            offsets=offsets,
            labels=self.labels[source if self.of_tokens else rows],
            weights=self.weights[rows] if len(self.weights) else self.weights,
            rows=self.rows[rows] if self.of_tokens else self.rows,
        )
