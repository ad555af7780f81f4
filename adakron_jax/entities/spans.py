"""Entities as spans of words, and as spans of characters of a text."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float, Int

Bounds = Int[np.ndarray, "words 2"]  # start and end of each word, in characters


@dataclasses.dataclass(frozen=True)
class Spans:
    """Entities among concatenated words, in order and without overlap.

    Attributes:
      start, end: index of the first word, and one past the last.
      types: the number of the kind.
    """

    start: Int[np.ndarray, " entities"]
    end: Int[np.ndarray, " entities"]
    types: Int[np.ndarray, " entities"]

    def __len__(self) -> int:
        return len(self.start)

    def sentences(self, offsets: Int[np.ndarray, " ends"]) -> Int[np.ndarray, " entities"]:
        """Returns the sentence of each entity; `offsets` as in `spans`."""
        return np.searchsorted(offsets, self.start, side="right") - 1

    def means(self, values: Float[np.ndarray, " words"]) -> Float[np.ndarray, " entities"]:
        """Returns the mean of the values of each entity's words."""
        sums = np.r_[0.0, np.cumsum(values, dtype=np.float64)]
        return (sums[self.end] - sums[self.start]) / (self.end - self.start)


def spans(codes: Int[np.ndarray, " words"], offsets: Int[np.ndarray, " ends"]) -> Spans:
    """Finds the entities in words' codes in BIO, strictly: an inside code that nothing began is not an entity.

    Args:
      offsets: where each sentence begins, and where the last one ends [sentences + 1].
    """
    kind, first = (codes - 1) // 2, np.zeros(len(codes), bool)
    first[offsets[:-1][np.diff(offsets) > 0]] = True
    # A run extends while words are inside of the kind of the word before.
    goes_on = (codes > 0) & (codes % 2 == 0) & ~first
    goes_on[1:] &= (kind[1:] == kind[:-1]) & (codes[:-1] > 0)
    starts = np.flatnonzero(~goes_on)
    ends = np.r_[starts[1:], len(codes)][: len(starts)]
    entities = codes[starts] % 2 == 1
    return Spans(starts[entities], ends[entities], kind[starts][entities])


@dataclasses.dataclass(frozen=True, slots=True)
class Entity:
    """An entity in a text.

    Attributes:
      label: its kind.
      start, end: index of its first character, and one past its last.
      text: the characters between.
      score: the mean probability of its words' labels.
    """

    label: str
    start: int
    end: int
    text: str
    score: float

    def to_dict(self) -> dict[str, str | int | float]:
        """Returns the fields."""
        return dataclasses.asdict(self)


def entities(
    codes: Int[np.ndarray, " words"],
    scores: Float[np.ndarray, " words"],
    offsets: Int[np.ndarray, " ends"],
    kinds: Sequence[str],
    texts: Sequence[str],
    bounds: Bounds,
) -> list[list[Entity]]:
    """Returns the entities of each text; an entity includes what is between its words.

    Args:
      codes, scores: of all texts' words, from `decode`.
      offsets: where each text's words begin, and where the last one's end [texts + 1].
      bounds: of every word, in its text.
    """
    held: list[list[Entity]] = [[] for _ in texts]
    whole = spans(codes, offsets)
    sentences, means = whole.sentences(offsets).tolist(), whole.means(scores)
    for i, (text, kind) in enumerate(zip(sentences, whole.types.tolist(), strict=True)):
        start, end = int(bounds[whole.start[i], 0]), int(bounds[whole.end[i] - 1, 1])
        held[text].append(Entity(kinds[int(kind)], start, end, texts[int(text)][start:end], float(means[i])))
    return held


def replaced(text: str, entities: Iterable[Entity], replacement: str = "[{kind}]") -> str:
    """Returns a text with its entities replaced; `{kind}` stands for an entity's kind.

    >>> replaced("Anna lives in Ulm.", [Entity("person", 0, 4, "Anna", 0.9)])
    '[person] lives in Ulm.'
    """
    parts, at = [], 0
    for entity in entities:
        parts += [text[at : entity.start], replacement.replace("{kind}", entity.label)]
        at = entity.end
    return "".join([*parts, text[at:]])
