"""Batches for prediction, packed from the examples at hand into few static shapes.

Any examples may share a batch. Short rows waste less on attention to other examples, long rows less on padding, so each
set of examples gets the row lengths that cost least. The rows, longest first, are then cut into the batches that cost
least in total.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from adakron_jax.data.examples import Examples
from adakron_jax.data.packing import Batch, Layout, fill, first_fit, possible_row_lengths

SHORTEST = 32  # tokens of the shortest row that may hold several examples
TOKENS_PER_SLOT = 6  # a row has one slot per this many tokens
BATCH_COST = 12  # fixed cost of a batch, in tokens
DRAFT = 128  # examples on which row lengths are chosen
BIN = 512  # examples that share rows


@dataclasses.dataclass(frozen=True)
class Shapes:
    """The shapes that batches may have.

    Attributes:
      row_counts: row length -> numbers of rows that a batch may have; the lengths ascend.
      packed: whether a row holds several examples.
    """

    row_counts: Mapping[int, Sequence[int]]
    packed: bool = True

    def slots(self, row_length: int) -> int:
        """Returns the most examples that a row may hold."""
        return max(1, row_length // TOKENS_PER_SLOT) if self.packed else 1


def batches(
    examples: Examples,
    shapes: Shapes,
    ids: Int[np.ndarray, " ids"] | None = None,
    rows_here: Callable[[int], np.ndarray] = np.arange,
) -> Iterator[tuple[Batch, Layout]]:
    """Packs all examples into batches, those of the longest rows first, and yields each with its examples' layout.

    Args:
      ids: numbers of the examples to pack; None for all.
      rows_here: as in `fill`.
    """
    ids = np.arange(len(examples)) if ids is None else ids
    layout, row_lengths = lay(examples.lengths[ids], shapes)
    for begin, count in cut(row_lengths, shapes.row_counts):
        part = layout[slice(*np.searchsorted(layout.row, (begin, begin + count)))]
        part = dataclasses.replace(part, ids=ids[part.ids], row=part.row - begin)
        length = int(row_lengths[begin])
        yield fill(examples, part, count, length, shapes.slots(length), rows_here), part


def lay(lengths: Int[np.ndarray, " examples"], shapes: Shapes) -> tuple[Layout, Int[np.ndarray, " rows"]]:
    """Lays examples into rows; returns their layout, sorted by row, and the rows' lengths, longest first.

    An example that opens a row opens one of the shortest length that has room for it.
    """
    bins = -(-len(lengths) // BIN)
    by_bin = np.pad(lengths, (0, bins * BIN - len(lengths))).reshape(bins, BIN)[:, : len(lengths)]
    packed = first_fit(by_bin, *opened_rows(by_bin, shapes))
    row_lengths = packed.row_lengths[packed.row_lengths > 0]
    longest_first = np.argsort(-row_lengths, kind="stable")
    place = np.argsort(longest_first)  # index of each row among all
    row = place[(packed.row + (np.cumsum(packed.rows) - packed.rows)[:, None])[packed.row >= 0]]
    start, slot = (part[packed.row >= 0] for part in (packed.start, packed.slot))
    by_row = np.argsort(row, kind="stable")
    return Layout(np.arange(len(lengths)), row, start, slot)[by_row], row_lengths[longest_first]


def opened_rows(
    lengths: Int[np.ndarray, "*examples"], shapes: Shapes
) -> tuple[Int[np.ndarray, "*examples"], Int[np.ndarray, "*examples"]]:
    """Returns the length and the slots of the shortest row that has room for each example."""
    accepted, slots = np.array([(length, shapes.slots(length)) for length in shapes.row_counts]).T
    opened = np.searchsorted(accepted, lengths)
    return accepted[opened], slots[opened]


def costs(row_lengths: Int[np.ndarray, "*rows"]) -> Float[np.ndarray, "*rows"]:
    """Returns the cost of computing each row, in tokens: attention doubles it at 1,024 tokens."""
    return row_lengths * (1 + row_lengths / 1024)


def cut(row_lengths: Int[np.ndarray, " rows"], row_counts: Mapping[int, Sequence[int]]) -> Iterator[tuple[int, int]]:
    """Yields the cheapest batches for all rows: the first row of each, and the number of rows it has room for."""
    rows, of_rows = row_lengths.tolist(), costs(row_lengths).tolist()
    least, chosen = [0.0] * (len(rows) + 1), [0] * len(rows)  # for the rows from each index on
    for begin in reversed(range(len(rows))):
        cost, counts = of_rows[begin], row_counts[rows[begin]]
        choices = ((n * cost + BATCH_COST + least[min(begin + n, len(rows))], n) for n in counts)
        least[begin], chosen[begin] = min(choices)
    begin = 0
    while begin < len(rows):
        yield begin, chosen[begin]
        begin += chosen[begin]


def shapes_for_any(lengths: Int[np.ndarray, " examples"], positions: int) -> Shapes:
    """Returns shapes that recur whatever the examples: row lengths are powers of two, each with three row counts.

    Args:
      positions: tokens and padding of a full batch; the rest comes in batches an eighth of it, or in single rows.
    """
    draft = lengths[:: -(-len(lengths) // DRAFT)]
    powers = [SHORTEST]
    while powers[-1] < 2 * lengths.max():
        powers.append(2 * powers[-1])
    of_length = {length: max(1, positions // length) for length in powers}
    counts = {length: sorted({1, max(1, most // 8), most}) for length, most in of_length.items()}
    choices = [Shapes({length: counts[length] for length in powers[shortest:]}) for shortest in range(len(powers))]
    row_lengths, slots = map(np.stack, zip(*(opened_rows(draft, shapes) for shapes in choices), strict=True))
    drafts = first_fit(np.tile(draft, (len(choices), 1)), row_lengths, slots)
    return choices[costs(drafts.row_lengths).sum(axis=1).argmin()]


def shape_for_all(lengths: Int[np.ndarray, " examples"], positions: int, multiple: int = 1) -> Shapes:
    """Returns the one shape for examples that are predicted repeatedly.

    Args:
      positions: the most tokens and padding of a batch.
      multiple: the row count is a multiple of this, so that rows can be sharded over devices.
    """

    def shape(length: int) -> tuple[float, Shapes]:
        rows = len(lay(lengths, Shapes({length: (1,)}))[1])
        batches = -(-rows * length // positions)
        count = -(-rows // (batches * multiple)) * multiple
        return float(costs(np.full(batches * count, length)).sum()), Shapes({length: (count,)})

    return min(map(shape, possible_row_lengths(lengths)), key=lambda choice: choice[0])[1]
