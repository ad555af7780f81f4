"""Sentences: their words, and the words' places in the text.

A sentence is a list of words, or a text that is split into words here: runs of letters and digits, and every other
character by itself, a Chinese one too, each with the marks that belong to it.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import regex
from jaxtyping import Int

from adakron_jax.data.labels import SURROGATE, short
from adakron_jax.data.table import Table
from adakron_jax.data.texts import texts

_SPACE = r"[\s\x1c-\x1f]"
# Marks and joiners belong to the letter before them.
_LETTERS = r"(?:[[\p{L}\p{N}_]--\p{Han}][\p{M}\u200c\u200d]*)+"
# \X is a character with its marks, or an emoji of several characters.
_WORD = regex.compile(rf"(?V1){_LETTERS}|(?!{_SPACE})\X(?<!{_SPACE})|(?!{_SPACE}).")


@dataclasses.dataclass(frozen=True)
class Sentences:
    """Texts split into words.

    Attributes:
      texts: the texts as given; for lists of words, the words joined by spaces.
      bounds: for all words, concatenated: start and end of the word in its text, in characters [words, 2].
      offsets: where each sentence's words begin, and where the last one's end [sentences + 1].
    """

    texts: list[str]
    bounds: Int[np.ndarray, "words 2"]
    offsets: Int[np.ndarray, " ends"]

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, chosen: Int[np.ndarray, " chosen"]) -> "Sentences":
        """Returns some of the sentences."""
        source, offsets = taken(self.offsets, chosen)
        return Sentences([self.texts[i] for i in chosen.tolist()], self.bounds[source], offsets)

    def words(self, sentence: int) -> list[str]:
        """Returns the words of one sentence."""
        text = self.texts[sentence]
        return [text[start:end] for start, end in self.bounds_of(sentence)]

    def bounds_of(self, sentence: int) -> list[list[int]]:
        """Returns the bounds of one sentence's words."""
        return self.bounds[self.offsets[sentence] : self.offsets[sentence + 1]].tolist()

    @classmethod
    def of_texts(cls, texts: Sequence[str]) -> "Sentences":
        """Splits texts into words.

        >>> sentences = Sentences.of_texts(["It's Anaïs, 3pm."])
        >>> sentences.words(0)
        ['It', "'", 's', 'Anaïs', ',', '3pm', '.']
        """
        return cls._of(list(texts), [[match.span() for match in _WORD.finditer(text)] for text in texts])

    @classmethod
    def of_words(cls, sentences: Sequence[Sequence[str]]) -> "Sentences":
        """Makes sentences from lists of words.

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
        flat = np.array([pair for words in bounds for pair in words], np.int64).reshape(-1, 2)
        return cls(texts, flat, np.r_[0, np.cumsum([len(words) for words in bounds], dtype=np.int64)])

    @classmethod
    def of_cells(cls, cells: Sequence[Any]) -> "Sentences":
        """Makes sentences from lists of words, or from texts."""
        return cls.of_words(cells) if any(isinstance(cell, list) for cell in cells) else cls.of_texts(cells)

    @classmethod
    def joined(cls, parts: "Sequence[Sentences]") -> "Sentences":
        """Concatenates sentences."""
        texts = [text for part in parts for text in part.texts]
        bounds = np.concatenate([part.bounds for part in parts])
        return cls(texts, bounds, joined_offsets([part.offsets for part in parts]))

    @classmethod
    def of_table(cls, table: Table, column: str) -> "Sentences":
        """Makes sentences from a column; raises the ValueError of `cells`."""
        return cls.of_cells(cells(table, column))


def joined_offsets(parts: Sequence[np.ndarray]) -> Int[np.ndarray, " ends"]:
    """Returns where each sentence's words begin, and where the last one's end, after concatenation."""
    return np.r_[0, np.cumsum(np.concatenate([np.diff(offsets) for offsets in parts]))]


def taken(
    offsets: Int[np.ndarray, " ends"], chosen: Int[np.ndarray, " chosen"]
) -> tuple[Int[np.ndarray, " words"], Int[np.ndarray, " chosen+1"]]:
    """Returns the indices of the chosen sentences' words, and where each sentence then begins and the last one ends."""
    lengths = np.diff(offsets)[chosen]
    ends = np.r_[0, np.cumsum(lengths)]
    return np.arange(ends[-1]) + np.repeat(offsets[:-1][chosen] - ends[:-1], lengths), ends


def cells(table: Table, column: str) -> list[str] | list[list[str]]:
    """Returns a column's texts, or its lists of words.

    Raises:
      ValueError: the column is missing, or a cell is neither, or has an empty word; the row is named.
    """
    read = table[column]
    if not any(isinstance(cell, list) for cell in read):
        return texts(table, (column,))[0]
    for row, cell in enumerate(read):
        if not isinstance(cell, list):
            raise ValueError(f"{table.at(row)}: {column} is {short(cell)}; accepted: a list of words")
        for word in cell:
            if not isinstance(word, str) or not word.strip() or SURROGATE.search(word):
                raise ValueError(f"{table.at(row)}: {column} has the word {short(word)}; accepted: texts")
    return read
