"""Texts as they come, packed into batches of a few shapes, so that few are ever compiled."""

import collections
import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int

from adakron_jax.data.packing import Layout as Bins
from adakron_jax.data.packing import Plan
from adakron_jax.data.rows import Row, best_fit
from adakron_jax.data.tokenizer import Examples
from adakron_jax.encoders.apart import Layout, PerExample
from adakron_jax.encoders.inputs import Packed, blank

TOKENS = 2048  # of the largest batch, unless one row has more
SHORTEST = 64  # tokens of a row; the others double it
ROWS = (1, 4, 16, 32)
COPIES = (4, 8, 16, 32, 64)  # of one text, for as many adapters
TOKENS_A_SLOT = 8  # a row has room for one example in so many tokens
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
        """Most examples in a row. What goes into longer rows than the shortest is longer than half of them."""
        return self.seq // TOKENS_A_SLOT if self.seq == SHORTEST else 1

    @property
    def others(self) -> int:
        """Most examples in all, besides the first of each row."""
        return max(self.slots - 1, self.rows * self.seq // SPARSE - self.rows) if self.slots > 1 else 0

    def blank(self) -> tuple[Packed, Layout]:
        """A batch without an example."""
        nothing = self.numbers().others
        return blank(self.rows, self.seq, self.slots), Layout(nothing, nothing, nothing)

    def numbers(self) -> PerExample:
        """A number for each example, 0."""
        return PerExample(np.zeros(self.rows, np.int32), np.zeros(self.others, np.int32))


def shapes(max_length: int) -> dict[int, list[Shape]]:
    """All shapes for examples of at most `max_length` tokens, by the length of a row, both ascending."""
    lengths = [SHORTEST]
    while lengths[-1] < max_length:
        lengths.append(2 * lengths[-1])
    return {seq: [Shape(rows, seq) for rows in ROWS if rows == 1 or rows * seq <= TOKENS] for seq in lengths}


def row_length(length: int) -> int:
    """Of the rows that an example goes into."""
    return max(SHORTEST, 1 << (length - 1).bit_length())


def batches(
    lengths: Int[np.ndarray, " examples"], accepted: Sequence[Shape]
) -> Iterator[tuple[Shape, Int[np.ndarray, " taken"], Int[np.ndarray, "3 taken"]]]:
    """Batches of all examples: the shape of each, the numbers of its examples, and row, start and slot of each.

    Args:
      lengths: of the examples.
      accepted: shapes of one row length, ascending, of which no example is longer.
    """
    largest = accepted[-1]
    left = _evenly(best_fit(lengths, largest.seq, TOKENS_A_SLOT))
    while left:
        others = np.cumsum([len(row.ids) - 1 for row in left[: largest.rows]])
        taken = int(np.searchsorted(others, largest.others, "right"))
        rows, left = left[:taken], left[taken:]
        shape = next(shape for shape in accepted if shape.rows >= taken and shape.others >= others[taken - 1])
        ids = np.concatenate([row.ids for row in rows])
        number = np.repeat(np.arange(taken), [len(row.ids) for row in rows])
        slot = np.concatenate([np.arange(len(row.ids)) for row in rows])
        yield shape, ids, np.stack([number, np.concatenate([row.starts for row in rows]), slot])


def _evenly(rows: list[Row]) -> list[Row]:
    """The same rows, so that any number of the first ones have about the mean of their examples.

    A batch has room for so many rows and for so many examples, and is to run out of both at once.
    """
    ordered = collections.deque(sorted(rows, key=lambda row: len(row.ids)))
    mean, taken, examples = sum(len(row.ids) for row in rows) / max(1, len(rows)), [], 0
    while ordered:
        row = ordered.pop() if examples <= mean * len(taken) else ordered.popleft()
        taken.append(row)
        examples += len(row.ids)
    return taken


def fill(
    shape: Shape, examples: Examples, ids: np.ndarray, places: Int[np.ndarray, "3 taken"]
) -> tuple[Packed, Layout]:
    """Lays the examples `ids` into a batch."""
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
    is_other = places[2] > 0

    def padded(values: np.ndarray) -> np.ndarray:
        others = values[is_other].astype(np.int32)
        return np.pad(others, (0, shape.others - len(others)))

    inputs = Packed(*(part[0] for part in dataclasses.astuple(batch.inputs)))
    return inputs, Layout(padded(row[0]), padded(slot[0]), padded(examples.lengths[ids]))


def numbers(shape: Shape, of_ids: Int[np.ndarray, " taken"], places: Int[np.ndarray, "3 taken"]) -> PerExample:
    """The adapters' numbers of the examples that `fill` lays there."""
    (row, _, slot), (first, others) = places, shape.numbers()
    first[row[slot == 0]] = of_ids[slot == 0]
    others[: np.count_nonzero(slot)] = of_ids[slot > 0]
    return PerExample(first, others)


def copies(
    examples: Examples, adapters: Int[np.ndarray, " adapters"]
) -> tuple[PerExample, tuple[Packed, Layout, Int[np.ndarray, " copies"]]]:
    """The adapters' numbers, and a batch of one text with a row for each of them, or for more, as shapes have it."""
    length = int(examples.lengths[0])
    seq = max(16, 1 << (length - 1).bit_length())
    tokens, types, segments, positions = (np.zeros((1, seq), np.int32) for _ in range(4))
    tokens[0, :length], types[0, :length] = examples.tokens, examples.token_types
    segments[0, :length], positions[0, :length] = 1, np.arange(length)
    size, none = next(size for size in COPIES if size >= len(adapters)), np.zeros(0, np.int32)
    inputs = Packed(tokens, types, segments, positions, np.zeros((1, 1), np.int32))
    first = np.pad(adapters.astype(np.int32), (0, size - len(adapters)))
    return PerExample(first, none), (inputs, Layout(none, none, none), np.zeros(size, np.int32))
