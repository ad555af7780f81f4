"""Tags of words: the schemes they come in, how they are distinguished, and the one that all other code here reads.

That scheme is BIO (Ramshaw and Marcus 1995, as in CoNLL 2002): `B-` begins an entity of a kind, `I-` continues the
entity before it, `O` is outside of all. Its codes are 0 for `O`, 1 + 2k for `B-` and 2 + 2k for `I-` of kind k.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Int

OUTSIDE = "O"
UNNAMED = "entity"  # the kind of tags that are only prefixes
BEGINS, CLOSES, INSIDE = "BSU", "ELSU", "IELM"  # S or U: an entity of one word; E or L: its last word; M: a middle one
ACCEPTED = "accepted: O, or a kind after B- or I- (BIO, IOB1, IO), and E- or S- (BIOES)"


def parted(tag: str) -> tuple[str, str]:
    """Splits a tag into prefix and kind; a tag without a prefix is inside of what it names; for O both are empty.

    >>> parted("B-person"), parted("person"), parted("O"), parted("I")
    (('B', 'person'), ('I', 'person'), ('', ''), ('I', 'entity'))
    """
    if tag == OUTSIDE:
        return "", ""
    return (tag[0], tag[2:] or UNNAMED) if is_tag(tag) else ("I", tag)


def is_tag(tag: str) -> bool:
    """Returns whether a label has a scheme's prefix, or is one."""
    return tag[:1] in set(BEGINS + INSIDE) and (len(tag) == 1 or len(tag) > 2 and tag[1] == "-")


def scheme_of(sentences: Iterable[Sequence[str]]) -> str:
    """Returns the scheme of tagged sentences: `BIO`, `IOB1`, `IO` or `BIOES`.

    `IO` has no tag that begins an entity; in `IOB1` an entity begins with `B-` only directly after another of its kind.
    Kinds without prefixes, with O among them, are `IO` too.

    Raises:
      ValueError: the tags follow no scheme; one of them is named.
    """
    tags, adjacent, apart, orphans = set(), 0, 0, 0
    for sentence in sentences:
        tags.update(sentence)
        before = ""
        for tag in sentence:
            prefix, kind = parted(tag)
            adjacent += prefix == "B" and kind == before
            apart += prefix == "B" and kind != before
            orphans += prefix == "I" and kind != before
            before = kind
    prefixes = {parted(tag)[0] for tag in tags if is_tag(tag)}
    for tag in sorted(tags - {OUTSIDE}):
        named = tag[:1].isalpha() and tag[1:2] not in ("-", "_")
        if not (is_tag(tag) if prefixes else named and OUTSIDE in tags):
            raise ValueError(f"tag {tag!r}; {ACCEPTED}")
    if prefixes - set("BI"):
        return "BIOES"
    if prefixes == {"I"} or (tags - {OUTSIDE} and not prefixes):
        return "IO"
    return "IOB1" if orphans and adjacent and not apart else "BIO"


def to_bio(sentence: Sequence[str], scheme: str = "BIO") -> list[str]:
    """Converts the tags of a sentence to BIO. An inside tag that nothing began begins an entity.

    >>> to_bio(["I-x", "I-x", "B-x", "O", "I-x"]), to_bio(["S-x", "B-x", "E-x"])
    (['B-x', 'I-x', 'B-x', 'O', 'B-x'], ['B-x', 'B-x', 'I-x'])

    Args:
      scheme: `words` takes each tag as the kind of an entity of one word; the other schemes are all read alike.
    """
    if scheme == "words":
        return [tag if tag == OUTSIDE else f"B-{tag}" for tag in sentence]
    tags, open_kind = [], ""
    for tag in sentence:
        prefix, kind = parted(tag)
        continues = prefix in INSIDE and kind == open_kind
        tags.append(f"{'I' if continues else 'B'}-{kind}" if kind else OUTSIDE)
        open_kind = "" if prefix in CLOSES else kind
    return tags


def mended(before: Sequence[str], after: Sequence[str]) -> int:
    """Returns how many entities of a sentence begin inside, from its tags before and after `to_bio`."""
    return sum(parted(old)[0] == "I" and new[0] == "B" for old, new in zip(before, after, strict=True))


def labels_of(kinds: Iterable[str]) -> tuple[str, ...]:
    """Returns all tags of BIO for these kinds, in the order of their codes.

    >>> labels_of(["person", "place"])
    ('O', 'B-person', 'I-person', 'B-place', 'I-place')
    """
    return (OUTSIDE, *itertools.chain.from_iterable((f"B-{kind}", f"I-{kind}") for kind in kinds))


@dataclasses.dataclass(frozen=True)
class TagSet:
    """The meaning of a head's labels, in any naming: BIO or another scheme, in any order, or kinds alone.

    Attributes:
      labels: the labels by code.
    """

    labels: tuple[str, ...]

    @functools.cached_property
    def kinds(self) -> tuple[str, ...]:
        """The kinds, in the order of their first labels."""
        return tuple(dict.fromkeys(kind for _, kind in map(parted, self.labels) if kind))

    @functools.cached_property
    def types(self) -> Int[np.ndarray, " labels"]:
        """The kind of each label, -1 for O."""
        numbers = {kind: number for number, kind in enumerate(self.kinds)}
        return np.array([numbers.get(parted(label)[1], -1) for label in self.labels], np.int32)

    @functools.cached_property
    def begins(self) -> Bool[np.ndarray, " labels"]:
        """Whether each label always begins an entity."""
        return np.array([parted(label)[0] in set(BEGINS) for label in self.labels])

    @functools.cached_property
    def closes(self) -> Bool[np.ndarray, " labels"]:
        """Whether an entity ends with each label."""
        return np.array([parted(label)[0] in set(CLOSES) for label in self.labels])

    @functools.cached_property
    def bound(self) -> Bool[np.ndarray, " labels"]:
        """Whether each label may only follow another of its kind, because the kind has a label to begin with."""
        begun = np.isin(self.types, self.types[self.begins & ~self.closes])
        return ~self.begins & (self.types >= 0) & begun

    @functools.cached_property
    def label(self) -> Int[np.ndarray, " codes"]:
        """The label for each code in BIO: if there is none, another of its kind; -1 if none is O."""
        ranks = np.where(self.begins, 0, 2) + self.closes
        labels = [int(np.argmax(self.types < 0)) if (self.types < 0).any() else -1]
        for kind in range(len(self.kinds)):
            held = np.flatnonzero(self.types == kind)
            labels += [int(held[ranks[held].argmin()]), int(held[(ranks[held] ^ 2).argmin()])]
        return np.array(labels, np.int32)

    def codes(self, sentence: Sequence[str]) -> list[int]:
        """Returns the codes in BIO of a sentence's tags, of any scheme; kinds without an inside label always begin.

        Raises:
          ValueError: a tag is of another kind.
        """
        codes = []
        for tag in to_bio(sentence):
            prefix, kind = parted(tag)
            if kind and kind not in self._numbers:
                raise ValueError(f"{kind!r}; accepted: {', '.join(self.kinds)}")
            number = self._numbers.get(kind, 0)
            codes.append(0 if not kind else 1 + 2 * number + (prefix == "I" and self._goes_on[number]))
        return codes

    @functools.cached_property
    def _numbers(self) -> dict[str, int]:
        return {kind: number for number, kind in enumerate(self.kinds)}

    @functools.cached_property
    def _goes_on(self) -> list[bool]:
        """Whether each kind has an inside label."""
        return [not self.begins[self.types == number].all() for number in range(len(self.kinds))]
