"""Entities as spans of words, and as spans of characters of a text."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float, Int

Bounds = Int[np.ndarray, "words 2"]  # of each word, its first character and the one behind its last


@dataclasses.dataclass(frozen=True)
class Spans:
    """Entities among words that stand end to end, in their order; none overlaps another.

    Attributes:
      start, end: the first word, and the one behind the last.
      types: the number of its kind.
    """

    start: Int[np.ndarray, " entities"]
    end: Int[np.ndarray, " entities"]
    types: Int[np.ndarray, " entities"]

    def __len__(self) -> int:
        return len(self.start)

    def sentences(self, offsets: Int[np.ndarray, " ends"]) -> Int[np.ndarray, " entities"]:
        """The sentence of each; `offsets` as `spans` takes them."""
        return np.searchsorted(offsets, self.start, side="right") - 1

    def means(self, values: Float[np.ndarray, " words"]) -> Float[np.ndarray, " entities"]:
        """The mean of the values of each one's words."""
        sums = np.r_[0.0, np.cumsum(values, dtype=np.float64)]
        return (sums[self.end] - sums[self.start]) / (self.end - self.start)


def spans(codes: Int[np.ndarray, " words"], offsets: Int[np.ndarray, " ends"]) -> Spans:
    """The entities of words' codes in BIO, strictly: what is inside of an entity that nothing began is none.

    Args:
      offsets: where each sentence begins, and where the last one ends [sentences + 1].
    """
    kind, first = (codes - 1) // 2, np.zeros(len(codes), bool)
    first[offsets[:-1][np.diff(offsets) > 0]] = True
    # A run goes on as long as words are inside of what the word before is of.
    goes_on = (codes > 0) & (codes % 2 == 0) & ~first
    goes_on[1:] &= (kind[1:] == kind[:-1]) & (codes[:-1] > 0)
    starts = np.flatnonzero(~goes_on)
    ends = np.r_[starts[1:], len(codes)][: len(starts)]
    entities = codes[starts] % 2 == 1
    return Spans(starts[entities], ends[entities], kind[starts][entities])


@dataclasses.dataclass(frozen=True, slots=True)
class Entity:
    """Something in a text.

    Attributes:
      label: its kind.
      start, end: its first character, and the one behind its last.
      text: the characters between.
      score: the mean probability of its words' labels.
    """

    label: str
    start: int
    end: int
    text: str
    score: float

    def to_dict(self) -> dict[str, str | int | float]:
        """Its fields."""
        return dataclasses.asdict(self)


def entities(
    codes: Int[np.ndarray, " words"],
    scores: Float[np.ndarray, " words"],
    offsets: Int[np.ndarray, " ends"],
    kinds: Sequence[str],
    texts: Sequence[str],
    bounds: Bounds,
) -> list[list[Entity]]:
    """The entities of each text; words of one entity are joined with what stands between them.

    Args:
      codes, scores: of all texts' words, as `decode` gives them.
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
    """A text with entities replaced; `{kind}` stands for what each is.

    >>> replaced("Anna lives in Ulm.", [Entity("person", 0, 4, "Anna", 0.9)])
    '[person] lives in Ulm.'
    """
    parts, at = [], 0
    for entity in entities:
        parts += [text[at : entity.start], replacement.replace("{kind}", entity.label)]
        at = entity.end
    return "".join([*parts, text[at:]])
