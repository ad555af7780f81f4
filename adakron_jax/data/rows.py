"""Examples of any lengths in rows of few static shapes, for predicting what is not known beforehand.

A training run plans all of its batches before it starts (`packing`). Here the shapes are given: a row has a power of
two of tokens, and a batch one of three numbers of rows. Shorter rows waste less on attention to other examples, longer
ones less on padding; each set of examples takes the shortest rows that cost least.
"""

import bisect
import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int

from adakron_jax.data.tokenizer import Examples
from adakron_jax.encoders.inputs import Packed

SHORTEST = 32  # tokens of the shortest row
TOKENS_A_SLOT = 6  # a row has room for one example in so many tokens
DRAFT = 512  # examples that the length of rows is chosen by


@dataclasses.dataclass
class Row:
    """One row, and where its examples are."""

    length: int
    ids: list[int] = dataclasses.field(default_factory=list)
    starts: list[int] = dataclasses.field(default_factory=list)


def best_fit(lengths: Int[np.ndarray, " examples"], shortest: int, tokens_a_slot: int = TOKENS_A_SLOT) -> list[Row]:
    """Lays examples into rows, the longest first, each where the least room remains.

    Args:
      shortest: the least length of a row; a longer example opens a row of the next power of two.
      tokens_a_slot: a row has room for one example in so many tokens, and for one at least.
    """
    rows: list[Row] = []
    rooms: list[tuple[int, int]] = []  # what is free in a row, and its number, in order
    for example in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[example])
        at = bisect.bisect_left(rooms, (length, -1))
        if at == len(rooms):
            rows.append(Row(max(shortest, 1 << (length - 1).bit_length())))
            room, number = rows[-1].length, len(rows) - 1
        else:
            room, number = rooms.pop(at)
        row = rows[number]
        row.ids.append(example)
        row.starts.append(row.length - room)
        if len(row.ids) < row.length // tokens_a_slot:
            bisect.insort(rooms, (room - length, number))
    return rows


def cost(rows: Sequence[Row]) -> float:
    """What rows cost to compute, in tokens: attention doubles it at 1,024."""
    return sum(row.length * (1 + row.length / 1024) for row in rows)


def best_rows(lengths: Int[np.ndarray, " examples"]) -> list[Row]:
    """The cheapest rows for some examples, by the look of a part of them."""
    draft = lengths[:: -(-len(lengths) // DRAFT)]
    longest = 2 * max(SHORTEST, int(lengths.max()))
    accepted = [SHORTEST << i for i in range(longest.bit_length()) if SHORTEST << i <= longest]
    return best_fit(lengths, min(accepted, key=lambda shortest: cost(best_fit(draft, shortest))))


def batches(examples: Examples, positions: int) -> Iterator[tuple[Packed, list[Row]]]:
    """All examples in batches, those of the longest rows first.

    Args:
      positions: tokens and padding of a full batch; what does not fill one comes in eighths of it, or in single rows.
    """
    rows = best_rows(examples.lengths)
    for length in sorted({row.length for row in rows}, reverse=True):
        left = [row for row in rows if row.length == length]
        most = max(1, positions // length)
        while left:
            part = max(1, most // 8)
            count = most if len(left) >= most else part if 2 * len(left) > part else 1
            yield fill(examples, left[:count], count), left[:count]
            left = left[count:]


def fill(examples: Examples, rows: Sequence[Row], count: int) -> Packed:
    """The tokens of rows of one length, in a batch of `count` rows."""
    length = rows[0].length
    tokens, token_types, segments, positions = (np.zeros((count, length), np.int32) for _ in range(4))
    starts = np.zeros((count, length // TOKENS_A_SLOT), np.int32)
    for number, row in enumerate(rows):
        ids = np.asarray(row.ids)
        lengths = examples.lengths[ids]
        end = lengths.sum()
        within = np.arange(end) - np.repeat(row.starts, lengths)
        source = np.repeat(examples.offsets[ids], lengths) + within
        tokens[number, :end] = examples.tokens[source]
        token_types[number, :end] = examples.token_types[source]
        segments[number, :end] = np.repeat(np.arange(1, len(ids) + 1), lengths)
        positions[number, :end] = within
        starts[number, : len(ids)] = row.starts
    return Packed(tokens, token_types, segments, positions, starts)
