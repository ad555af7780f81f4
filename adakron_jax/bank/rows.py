"""Texts as they come, one a row, in batches of a few shapes, so that few are ever compiled."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int

from adakron_jax.data.tokenizer import Examples
from adakron_jax.encoders.inputs import Packed, blank

TOKENS = 2048  # of the largest batch, unless one row has more
STEP = 16  # lengths of rows are multiples of it up to 128, and double beyond
ROWS = (1, 4, 16, 64)
COPIES = (4, 8, 16, 32, 64)  # of one text, for as many adapters


@dataclasses.dataclass(frozen=True)
class Shape:
    """A batch's.

    Attributes:
      rows, seq: rows of tokens, and tokens of a row.
    """

    rows: int
    seq: int

    def blank(self) -> Packed:
        """A batch without an example."""
        return blank(self.rows, self.seq, 1)


def shapes(max_length: int) -> dict[int, list[Shape]]:
    """All shapes for examples of at most `max_length` tokens, by the length of a row, both ascending."""
    lengths = sorted({row_length(length) for length in range(1, max_length + 1)})
    return {seq: [Shape(rows, seq) for rows in ROWS if rows == 1 or rows * seq <= TOKENS] for seq in lengths}


def row_length(length: int) -> int:
    """Of the rows that an example goes into."""
    return -(-length // STEP) * STEP if length <= 128 else 1 << (length - 1).bit_length()


def batches(examples: int, accepted: Sequence[Shape]) -> Iterator[tuple[Shape, slice]]:
    """Batches of so many examples: the shape of each, and which of the examples it takes.

    Args:
      accepted: shapes of one row length, ascending, of which no example is longer.
    """
    done = 0
    while done < examples:
        taken = min(examples - done, accepted[-1].rows)
        yield next(shape for shape in accepted if shape.rows >= taken), slice(done, done + taken)
        done += taken


def fill(shape: Shape, examples: Examples, ids: Int[np.ndarray, " taken"]) -> Packed:
    """Lays the examples `ids` into the rows of a batch."""
    tokens, types, segments, positions = np.zeros((4, shape.rows, shape.seq), np.int32)
    for row, (begin, length) in enumerate(zip(examples.offsets[ids], examples.lengths[ids], strict=True)):
        tokens[row, :length] = examples.tokens[begin : begin + length]
        types[row, :length] = examples.token_types[begin : begin + length]
        segments[row, :length], positions[row, :length] = 1, np.arange(length)
    return Packed(tokens, types, segments, positions, np.zeros((shape.rows, 1), np.int32))


def numbers(rows: int, of_ids: Int[np.ndarray, " taken"]) -> Int[np.ndarray, " rows"]:
    """The adapters' numbers of the examples in a batch; any in rows without one."""
    return np.pad(of_ids.astype(np.int32), (0, rows - len(of_ids)))
