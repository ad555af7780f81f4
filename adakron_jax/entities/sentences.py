"""Sentences of a table: their words, where these stand in the text, and their tags.

A sentence is a list of words, or a text, which is then parted into words here: runs of letters and digits, and every
other character by itself, a Chinese one too, each with the marks that belong to it.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import regex
from jaxtyping import Int

from adakron_jax.data.labels import SURROGATE, short
from adakron_jax.data.table import Table
from adakron_jax.entities.tags import OUTSIDE

_SPACE = r"[\s\x1c-\x1f]"
# Marks and joiners belong to the letter before them.
_LETTERS = r"(?:[[\p{L}\p{N}_]--\p{Han}][\p{M}\u200c\u200d]*)+"
# \X is a character with its marks, or an emoji of several characters.
_WORD = regex.compile(rf"(?V1){_LETTERS}|(?!{_SPACE})\X(?<!{_SPACE})|(?!{_SPACE}).")


@dataclasses.dataclass(frozen=True)
class Sentences:
    """Texts parted into words.

    Attributes:
      texts: as they were given; of lists of words, these with a space between.
      bounds: of all words, end to end: the first character in the word's text, and the one behind its last [words, 2].
      offsets: where each sentence's words begin, and where the last one's end [sentences + 1].
    """

    texts: list[str]
    bounds: Int[np.ndarray, "words 2"]
    offsets: Int[np.ndarray, " ends"]

    def __len__(self) -> int:
        return len(self.texts)

    def words(self, sentence: int) -> list[str]:
        """The words of one sentence."""
        text = self.texts[sentence]
        return [text[start:end] for start, end in self._bounds(sentence)]

    def _bounds(self, sentence: int) -> list[list[int]]:
        return self.bounds[self.offsets[sentence] : self.offsets[sentence + 1]].tolist()

    @classmethod
    def of_texts(cls, texts: Sequence[str]) -> "Sentences":
        """Texts, parted into words.

        >>> sentences = Sentences.of_texts(["It's Anaïs, 3pm."])
        >>> sentences.words(0)
        ['It', "'", 's', 'Anaïs', ',', '3pm', '.']
        """
        return cls._of(list(texts), [[match.span() for match in _WORD.finditer(text)] for text in texts])

    @classmethod
    def of_words(cls, sentences: Sequence[Sequence[str]]) -> "Sentences":
        """Lists of words.

        >>> Sentences.of_words([["New York", "!"]]).texts
        ['New York !']
        """
        bounds = []
        for words in sentences:
            ends = np.cumsum([len(word) + 1 for word in words], dtype=np.int64) - 1
            bounds.append([(int(end) - len(word), int(end)) for word, end in zip(words, ends, strict=True)])
        return cls._of([" ".join(words) for words in sentences], bounds)

    @classmethod
    def _of(cls, texts: list[str], bounds: list[list[tuple[int, int]]]) -> "Sentences":
        flat = np.array([each for words in bounds for each in words], np.int64).reshape(-1, 2)
        return cls(texts, flat, np.r_[0, np.cumsum([len(words) for words in bounds], dtype=np.int64)])

    @classmethod
    def of_table(cls, table: Table, column: str) -> "Sentences":
        """A column's lists of words, or its texts.

        Raises:
          ValueError: the column is missing, or names the row whose cell is neither, or has a word without a character.
        """
        cells = table[column]
        if not any(isinstance(cell, list) for cell in cells):
            for row, cell in enumerate(cells):
                if not isinstance(cell, str) or SURROGATE.search(cell):
                    raise ValueError(
                        f"{table.at(row)}: {column} is {short(cell)}; accepted: a text, or a list of words"
                    )
            return cls.of_texts(cells)
        for row, cell in enumerate(cells):
            if not isinstance(cell, list):
                raise ValueError(f"{table.at(row)}: {column} is {short(cell)}; accepted: a list of words")
            for word in cell:
                if not isinstance(word, str) or not word.strip() or SURROGATE.search(word):
                    raise ValueError(f"{table.at(row)}: {column} has the word {short(word)}; accepted: texts")
        return cls.of_words(cells)


@dataclasses.dataclass(frozen=True)
class Tagged:
    """Tags of sentences' words, as they were found.

    Attributes:
      tags: of each sentence, one a word; those of spans are in BIO.
      cut: how many spans began or ended within a word, all of which is then tagged.
    """

    tags: list[list[str]]
    cut: int = 0

    @classmethod
    def of_table(cls, table: Table, column: str, sentences: Sentences) -> "Tagged":
        """A column's lists of tags, one a word, or its lists of spans `{"start", "end", "label"}` of the text.

        Raises:
          ValueError: the column is missing, or names the row whose cell is neither, has not one tag a word, or has
            spans that overlap or are out of the text.
        """
        tags, cut = [], 0
        for row, cell in enumerate(table[column]):
            if not isinstance(cell, list):
                raise ValueError(f"{table.at(row)}: {column} is {short(cell)}; accepted: a list of tags, or of spans")
            try:
                if any(isinstance(each, dict) for each in cell) or not cell:
                    of_words, cuts = _aligned(_spans(cell, len(sentences.texts[row])), sentences._bounds(row))
                else:
                    of_words, cuts = _checked(cell, int(np.diff(sentences.offsets[row : row + 2])[0])), 0
            except ValueError as error:
                raise ValueError(f"{table.at(row)}: {column} has {error}") from None
            tags.append(of_words)
            cut += cuts
        return cls(tags, cut)


def _checked(tags: list[Any], words: int) -> list[str]:
    if len(tags) != words:
        raise ValueError(f"{len(tags)} tags for {words} words; accepted: one a word")
    for tag in tags:
        if not isinstance(tag, str) or not tag.strip() or SURROGATE.search(tag):
            raise ValueError(f"the tag {short(tag)}; accepted: texts such as B-person, or spans")
    return tags


def _spans(cell: list[Any], length: int) -> list[tuple[int, int, str]]:
    """The spans of a text of so many characters, in order."""
    spans = []
    for each in cell:
        keys = ("start", "end", "label")
        if not isinstance(each, dict) or any(key not in each for key in keys):
            raise ValueError(f'{short(each)}; accepted: {{"start": ..., "end": ..., "label": ...}}')
        start, end, label = (each[key] for key in keys)
        if type(start) is not int or type(end) is not int or not 0 <= start < end <= length:
            raise ValueError(f"a span from {short(start)} to {short(end)}; accepted: within the {length} characters")
        if not isinstance(label, str) or not label.strip() or SURROGATE.search(label):
            raise ValueError(f"the label {short(label)}; accepted: a text")
        spans.append((start, end, label))
    spans.sort()
    for before, after in zip(spans, spans[1:], strict=False):
        if after[0] < before[1]:
            raise ValueError(f"spans {before} and {after}, which overlap; accepted: spans apart")
    return spans


def _aligned(spans: list[tuple[int, int, str]], bounds: list[list[int]]) -> tuple[list[str], int]:
    """Tags of the words that spans touch, the first span of a word's; and how many of them cut a word."""
    tags, cut, word = [OUTSIDE] * len(bounds), 0, 0
    for start, end, label in spans:
        while word < len(bounds) and bounds[word][1] <= start:
            word += 1
        first = word
        while word < len(bounds) and bounds[word][0] < end:
            tags[word] = f"{'B' if word == first else 'I'}-{label}"
            word += 1
        touched = [bounds[at] for at in (first, word - 1) if first < word]
        # A word that an earlier span has taken is cut by both.
        begins_within = first > 0 and bounds[first - 1][1] > start
        cut += begins_within or any(left < start or right > end for left, right in touched)
    return tags, cut
