"""Texts as they come, packed into batches of a few shapes, so that few are ever compiled."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from adakron_jax.data.packing import Layout as Bins
from adakron_jax.data.packing import Plan, first_fit
from adakron_jax.data.tokenizer import Examples
from adakron_jax.encoders.apart import Layout
from adakron_jax.encoders.inputs import Packed, blank

TOKENS = 2048  # of the largest batch, unless one row has more
SHORTEST = 64  # tokens of a row; the others double it
ROWS = (1, 4, 16, 32)
COPIES = (4, 8, 16, 32, 64)  # of one text, for as many adapters
SPARSE = 24  # tokens of an example; a batch of shorter ones is full before its rows are


@dataclasses.dataclass(frozen=True)
class Shape:
    """A batch's.

    Attributes:
      rows, seq: rows of tokens, and tokens of a row.
    """

    rows: int
    seq: int

    @property
    def slots(self) -> int:
        """Most examples in a row."""
        return max(1, self.seq // 8)

    @property
    def examples(self) -> int:
        """Most examples in all."""
        return max(self.slots, self.rows * self.seq // SPARSE)

    def blank(self) -> tuple[Packed, Layout]:
        """A batch without an example."""
        nothing = np.zeros(self.examples, np.int32)
        return blank(self.rows, self.seq, self.slots), Layout(nothing, nothing, nothing)


def shapes(max_length: int) -> dict[int, list[Shape]]:
    """All shapes for examples of at most `max_length` tokens, by the length of a row, both ascending."""
    lengths = [SHORTEST]
    while lengths[-1] < max_length:
        lengths.append(2 * lengths[-1])
    return {seq: [Shape(rows, seq) for rows in ROWS if rows == 1 or rows * seq <= TOKENS] for seq in lengths}


def row_length(length: int) -> int:
    """Of the rows that an example goes into."""
    return max(SHORTEST, 1 << (length - 1).bit_length())


def first_batch(
    lengths: Int[np.ndarray, " examples"], accepted: Sequence[Shape]
) -> tuple[Shape, Int[np.ndarray, "3 taken"]]:
    """The shape for as many of the first examples as a batch can take, and row, start and slot of each taken.

    Args:
      lengths: of examples in the order in which they came.
      accepted: shapes of one row length, ascending, of which no example is longer.
    """
    largest = accepted[-1]
    taken = min(int(np.searchsorted(np.cumsum(lengths), largest.rows * largest.seq, "right")), largest.examples)
    while True:
        layout = first_fit(lengths[None, :taken], largest.seq, largest.slots)
        rows = int(layout.rows[0])
        if rows <= largest.rows:
            break
        taken -= max(1, taken // 16)
    shape = next(shape for shape in accepted if shape.rows >= rows and shape.examples >= taken)
    return shape, np.stack([layout.row[0], layout.start[0], layout.slot[0]])


def fill(
    shape: Shape, examples: Examples, ids: np.ndarray, places: Int[np.ndarray, "3 taken"]
) -> tuple[tuple[Packed, Layout], np.ndarray]:
    """Lays the examples `ids` into a batch; the batch, and the order in which its layout has them."""
    plan = Plan(
        row_length=shape.seq,
        slots=shape.slots,
        row_counts=(shape.rows,),
        batch_size=len(ids),
        accumulate=1,
        seed=None,
        multiple=1,
        padding_fraction=0.0,
    )
    row, start, slot = (part[None] for part in places)
    batch = plan.fill(examples, ids[None], Bins(row, start, slot, np.array([row.max() + 1])))
    order = np.argsort(-examples.lengths[ids], kind="stable")

    def padded(values: np.ndarray) -> np.ndarray:
        return np.pad(values[order].astype(np.int32), (0, shape.examples - len(order)))

    inputs = Packed(*(part[0] for part in dataclasses.astuple(batch.inputs)))
    return (inputs, Layout(padded(row[0]), padded(slot[0]), padded(examples.lengths[ids]))), order


def copies(examples: Examples, adapters: int) -> tuple[Packed, Layout, Int[np.ndarray, " copies"]]:
    """A batch of one text, and its rows for `adapters` of them, or as many more as there is a shape for."""
    length = int(examples.lengths[0])
    seq = max(16, 1 << (length - 1).bit_length())
    tokens, types, segments, positions = (np.zeros((1, seq), np.int32) for _ in range(4))
    tokens[0, :length], types[0, :length] = examples.tokens, examples.token_types
    segments[0, :length], positions[0, :length] = 1, np.arange(length)
    size = next(size for size in COPIES if size >= adapters)
    number = np.arange(size, dtype=np.int32)
    layout = Layout(number, np.zeros_like(number), np.where(number < adapters, length, 0).astype(np.int32))
    return Packed(tokens, types, segments, positions, np.zeros((1, 1), np.int32)), layout, np.zeros_like(number)
