"""Tokenised examples."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Int

from adakron_jax.data.sentences import Sentences, joined_offsets, taken

Texts = str | Sequence[str]  # of an example: its one text, or its two
ENCODED_AT_ONCE = 8192  # examples, between two words of how far it is


def ignore(done: int) -> None:
    """For work that nobody watches."""


@dataclasses.dataclass(frozen=True)
class Examples:
    """Tokenised examples, end to end.

    Attributes:
      tokens, token_types: ids of all examples one after another, special tokens included.
      offsets: where each example begins, and where the last one ends [examples + 1].
      labels: a problem's targets: codes or numbers [examples], or whether each label holds [examples, labels];
        or one of every token [tokens], of which those below 0 are none.
      empty_texts, cut: how many texts were empty, and how many examples were cut.
      weights: of each example in the loss [examples]; none at all if every one has weight 1.
      rows: which sentence each example is a part of, in order [examples]; none at all if the labels are of examples.
      sentences: the sentences, where they are known.
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
        """Examples of one kind, one part after another, without their sentences and weights."""
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
        """Whether tokens have labels, instead of examples."""
        return len(self.rows) > 0

    @property
    def count(self) -> int:
        """Rows of the table: examples, or sentences, which may be several."""
        return len(self._begins) if self.of_tokens else len(self)

    @property
    def _begins(self) -> Int[np.ndarray, " rows"]:
        """The first example of each sentence."""
        return np.flatnonzero(np.diff(self.rows, prepend=-1))

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each example."""
        return np.diff(self.offsets)

    def first(self, limit: int | Literal["all"]) -> "Examples":
        """The first `limit` examples, or sentences."""
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
        """The examples with these numbers, or the sentences, in their order; the first ones are not copied."""
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
