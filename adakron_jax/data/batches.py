"""Batches for prediction: examples as they are at hand, in few static shapes.

Any examples may share a batch. Short rows waste less on attention to other examples, long ones less on padding, so each
set of examples takes the row lengths that cost least. The rows, the longest first, are then cut into the batches that
cost least in all.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from adakron_jax.data.examples import Examples
from adakron_jax.data.packing import Batch, Layout, fill, first_fit, possible_row_lengths

SHORTEST = 32  # tokens of the shortest row that may hold several examples
TOKENS_PER_SLOT = 6  # a row has room for one example in so many tokens
BATCH_COST = 12  # of a batch besides its tokens, in tokens
DRAFT = 128  # examples that row lengths are chosen by
BIN = 512  # examples that share rows


@dataclasses.dataclass(frozen=True)
class Shapes:
    """The shapes that batches may have.

    Attributes:
      row_counts: numbers of rows that a batch may have, by the length of its rows, which ascends.
      packed: whether a row holds several examples.
    """

    row_counts: Mapping[int, Sequence[int]]
    packed: bool = True

    def slots(self, row_length: int) -> int:
        """Most examples in a row."""
        return max(1, row_length // TOKENS_PER_SLOT) if self.packed else 1


def batches(
    examples: Examples,
    shapes: Shapes,
    ids: Int[np.ndarray, " ids"] | None = None,
    rows_here: Callable[[int], np.ndarray] = np.arange,
) -> Iterator[tuple[Batch, Layout]]:
    """All examples in batches, those of the longest rows first, and where the examples of each batch lie.

    Args:
      ids: numbers of the examples; None: of all.
      rows_here: as `fill` takes it.
    """
    ids = np.arange(len(examples)) if ids is None else ids
    layout, row_lengths = lay(examples.lengths[ids], shapes)
    for begin, count in cut(row_lengths, shapes.row_counts):
        part = layout[slice(*np.searchsorted(layout.row, (begin, begin + count)))]
        part = dataclasses.replace(part, ids=ids[part.ids], row=part.row - begin)
        length = int(row_lengths[begin])
        yield fill(examples, part, count, length, shapes.slots(length), rows_here), part


def lay(lengths: Int[np.ndarray, " examples"], shapes: Shapes) -> tuple[Layout, Int[np.ndarray, " rows"]]:
    """Examples in rows, by row, and the length of each row, the longest first.

    An example opens a row of the shortest length that has room for it.
    """
    bins = -(-len(lengths) // BIN)
    by_bin = np.pad(lengths, (0, bins * BIN - len(lengths))).reshape(bins, BIN)[:, : len(lengths)]
    packed = first_fit(by_bin, *opened_rows(by_bin, shapes))
    row_lengths = packed.row_lengths[packed.row_lengths > 0]
    longest_first = np.argsort(-row_lengths, kind="stable")
    place = np.argsort(longest_first)  # of each row among all
    row = place[(packed.row + (np.cumsum(packed.rows) - packed.rows)[:, None])[packed.row >= 0]]
    start, slot = (part[packed.row >= 0] for part in (packed.start, packed.slot))
    by_row = np.argsort(row, kind="stable")
    return Layout(np.arange(len(lengths)), row, start, slot)[by_row], row_lengths[longest_first]


def opened_rows(
    lengths: Int[np.ndarray, "*examples"], shapes: Shapes
) -> tuple[Int[np.ndarray, "*examples"], Int[np.ndarray, "*examples"]]:
    """Length and slots of the shortest row that has room for an example."""
    accepted, slots = np.array([(length, shapes.slots(length)) for length in shapes.row_counts]).T
    opened = np.searchsorted(accepted, lengths)
    return accepted[opened], slots[opened]


def costs(row_lengths: Int[np.ndarray, "*rows"]) -> Float[np.ndarray, "*rows"]:
    """What each row costs to compute, in tokens: attention doubles it at 1,024."""
    return row_lengths * (1 + row_lengths / 1024)


def cut(row_lengths: Int[np.ndarray, " rows"], row_counts: Mapping[int, Sequence[int]]) -> Iterator[tuple[int, int]]:
    """The cheapest batches of all rows: the first row of each, and how many it has room for."""
    rows, of_rows = row_lengths.tolist(), costs(row_lengths).tolist()
    least, chosen = [0.0] * (len(rows) + 1), [0] * len(rows)  # for the rows from each one on
    for begin in reversed(range(len(rows))):
        cost, counts = of_rows[begin], row_counts[rows[begin]]
        choices = ((n * cost + BATCH_COST + least[min(begin + n, len(rows))], n) for n in counts)
        least[begin], chosen[begin] = min(choices)
    begin = 0
    while begin < len(rows):
        yield begin, chosen[begin]
        begin += chosen[begin]


def shapes_for_any(lengths: Int[np.ndarray, " examples"], positions: int) -> Shapes:
    """Shapes that recur whatever the examples: row lengths are powers of two, and three row counts go with each.

    Args:
      positions: tokens and padding of a full batch; what does not fill one comes in eighths of it, or in single rows.
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
    """The one shape for examples that are predicted again and again.

    Args:
      positions: tokens and padding of a batch at most.
      multiple: of which the row count is one, so that rows divide among devices.
    """

    def shape(length: int) -> tuple[float, Shapes]:
        rows = len(lay(lengths, Shapes({length: (1,)}))[1])
        batches = -(-rows * length // positions)
        count = -(-rows // (batches * multiple)) * multiple
        return float(costs(np.full(batches * count, length)).sum()), Shapes({length: (count,)})

    return min(map(shape, possible_row_lengths(lengths)), key=lambda choice: choice[0])[1]
