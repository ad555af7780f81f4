"""Tags of a table's sentences: a list of tags, one per word, or a list of spans of the text."""

import dataclasses
from typing import Any

import numpy as np

from adakron_jax.data.labels import SURROGATE, short
from adakron_jax.data.sentences import Sentences
from adakron_jax.data.table import Table
from adakron_jax.entities.tags import OUTSIDE


@dataclasses.dataclass(frozen=True)
class Tagged:
    """Tags of sentences' words, as the table has them.

    Attributes:
      tags: for each sentence, one tag per word; those from spans are in BIO.
      cut: number of spans that begin or end within a word, all of which is then tagged.
    """

    tags: list[list[str]]
    cut: int = 0

    @classmethod
    def of_table(cls, table: Table, column: str, sentences: Sentences) -> "Tagged":
        """Reads a column's lists of tags, one per word, or its lists of spans `{"start", "end", "label"}` of the text.

        Raises:
          ValueError: the column is missing; or a cell is neither, has not one tag per word, or has spans that overlap,
            hold no word or are outside of the text, and its row is named.
        """
        tags, cut, cells = [], 0, table[column]
        items = [item for cell in cells if isinstance(cell, list) for item in cell]
        of_spans = not items or any(isinstance(item, dict) for item in items)
        for row, cell in enumerate(cells):
            if not isinstance(cell, list):
                raise ValueError(f"{table.at(row)}: {column} is {short(cell)}; accepted: a list of tags, or of spans")
            try:
                if of_spans:
                    of_words, cuts = _aligned(_spans(cell, len(sentences.texts[row])), sentences.bounds_of(row))
                else:
                    of_words, cuts = _checked(cell, int(np.diff(sentences.offsets[row : row + 2])[0])), 0
            except ValueError as error:
                raise ValueError(f"{table.at(row)}: {column} has {error}") from None
            tags.append(of_words)
            cut += cuts
        return cls(tags, cut)


def _checked(tags: list[Any], words: int) -> list[str]:
    if len(tags) != words:
        raise ValueError(f"{len(tags)} tags for {words} words; accepted: one per word")
    for tag in tags:
        if not isinstance(tag, str) or not tag.strip() or SURROGATE.search(tag):
            raise ValueError(f"the tag {short(tag)}; accepted: texts such as B-person, or spans")
    return tags


def _spans(cell: list[Any], length: int) -> list[tuple[int, int, str]]:
    """Returns the spans of a text of `length` characters, in order."""
    spans = []
    for item in cell:
        keys = ("start", "end", "label")
        if not isinstance(item, dict) or any(key not in item for key in keys):
            raise ValueError(f'{short(item)}; accepted: {{"start": ..., "end": ..., "label": ...}}')
        start, end, label = (item[key] for key in keys)
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
    """Returns the tags of the words that spans touch, a word's first span counting; and how many spans cut a word."""
    tags, cut, word = [OUTSIDE] * len(bounds), 0, 0
    for start, end, label in spans:
        while word < len(bounds) and bounds[word][1] <= start:
            word += 1
        first = word
        while word < len(bounds) and bounds[word][0] < end:
            tags[word] = f"{'B' if word == first else 'I'}-{label}"
            word += 1
        touched = [bounds[at] for at in (first, word - 1) if first < word]
        # A word that an earlier span has taken counts as cut by both.
        begins_within = first > 0 and bounds[first - 1][1] > start
        if not touched and not begins_within:
            raise ValueError(f"a span from {start} to {end}, which holds no word; accepted: words")
        cut += begins_within or any(left < start or right > end for left, right in touched)
    return tags, cut
