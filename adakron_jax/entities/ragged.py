"""Values of words, grouped by sentence."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Shaped

from adakron_jax.data.sentences import Sentences, joined_offsets, taken


@dataclasses.dataclass(frozen=True)
class Ragged:
    """Values of words, codes or logits, concatenated over sentences of any lengths.

    Attributes:
      values: of every word.
      offsets: where each sentence's words begin, and where the last one's end [sentences + 1].
      sentences: the words themselves, if they are known.
    """

    values: Shaped[np.ndarray, "words *each"]
    offsets: Int[np.ndarray, " ends"]
    sentences: Sentences | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, chosen: Int[np.ndarray, " chosen"]) -> "Ragged":
        """Returns some of the sentences."""
        source, offsets = taken(self.offsets, chosen)
        return Ragged(self.values[source], offsets, self.sentences and self.sentences[chosen])

    @classmethod
    def joined(cls, parts: "Sequence[Ragged]") -> "Ragged":
        """Concatenates sentences."""
        words = [part.sentences for part in parts if part.sentences is not None]
        return cls(
            np.concatenate([part.values for part in parts]),
            joined_offsets([part.offsets for part in parts]),
            Sentences.joined(words) if len(words) == len(parts) else None,
        )

    def like(self, values: Shaped[np.ndarray, "words *each"]) -> "Ragged":
        """Returns other values of the same words."""
        return dataclasses.replace(self, values=values)
