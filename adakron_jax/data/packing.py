"""The packer and the fill: examples laid end to end in rows of fixed length, and the arrays that hold them.

The callers that make batches decide which examples go together, how long rows are and how many a batch has: training by
a plan for the whole run (`plan`), prediction by the examples at hand (`batches`). Both place examples with `first_fit`
and fill arrays with `fill`.
"""

import dataclasses
import typing
from collections.abc import Callable, Sequence

import jax
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int, Num

from adakron_jax.data.examples import Examples
from adakron_jax.encoders.inputs import Packed

ROW_MULTIPLE = 8  # the length of a row is a multiple of this
STRETCH = 1.25  # how much longer than the longest example a row may be, if that packs tighter


@typing.no_type_check  # jax also builds it from shapes and shardings
@struct.dataclass
class Batch:
    """Packed examples with their labels and weights; in a training step the arrays begin with an axis of micro-batches.

    Attributes:
      inputs: the packed tokens.
      labels: of the example in each slot [rows, slots], for a multilabel problem [rows, slots, labels]; or of each
        token [rows, seq].
      weights: the weight in the loss of the example in each slot, 1 by default, 0 for an empty slot [rows, slots]; or
        of each token, 0 for a token without a label [rows, seq].
    """

    inputs: Packed
    labels: Num[Array | np.ndarray, "*micro rows places"]
    weights: Float[Array | np.ndarray, "*micro rows places"]


def side_by_side(batches: Sequence[Batch]) -> Batch:
    """Stacks batches of several runs along a new first axis, padded to the rows of the largest."""
    rows = max(batch.weights.shape[1] for batch in batches)

    def stack(*arrays: np.ndarray) -> np.ndarray:
        stacked = np.zeros((len(arrays), arrays[0].shape[0], rows, *arrays[0].shape[2:]), arrays[0].dtype)
        for array, into in zip(arrays, stacked, strict=True):
            into[:, : array.shape[1]] = array
        return stacked

    return jax.tree.map(stack, *batches)


def possible_row_lengths(lengths: Int[np.ndarray, " examples"]) -> range:
    """Returns row lengths for these examples: from the longest example's to STRETCH times that."""
    shortest = -(-int(lengths.max()) // ROW_MULTIPLE) * ROW_MULTIPLE
    return range(shortest, int(shortest * STRETCH) + 1, ROW_MULTIPLE)


@dataclasses.dataclass(frozen=True)
class Layout:
    """The places of examples in rows.

    Attributes:
      ids: the examples' numbers.
      row, start, slot: row of each example, its first position in the row, and its number within the row.
    """

    ids: Int[np.ndarray, " examples"]
    row: Int[np.ndarray, " examples"]
    start: Int[np.ndarray, " examples"]
    slot: Int[np.ndarray, " examples"]

    def __getitem__(self, chosen: np.ndarray | slice) -> "Layout":
        """Returns the layout of some of the examples."""
        return Layout(self.ids[chosen], self.row[chosen], self.start[chosen], self.slot[chosen])

    def tokens(self, offsets: Int[np.ndarray, " ends"]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Returns, for every token of the examples, its index among all, its row, and its positions in row and example.

        Args:
          offsets: where each example begins among all tokens, and where the last one ends.
        """
        lengths = offsets[self.ids + 1] - offsets[self.ids]
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        source = np.repeat(offsets[self.ids], lengths) + within
        return source, np.repeat(self.row, lengths), np.repeat(self.start, lengths) + within, within


@dataclasses.dataclass(frozen=True)
class Bins:
    """The places of the examples of many bins, each bin in separate rows; arrays [bins, examples of a bin].

    Attributes:
      row, start, slot: as in `Layout`; -1 for no example.
      rows: number of rows used by each bin [bins].
      row_lengths: lengths of the used rows, followed by 0 [bins, rows].
    """

    row: Int[np.ndarray, "bins examples"]
    start: Int[np.ndarray, "bins examples"]
    slot: Int[np.ndarray, "bins examples"]
    rows: Int[np.ndarray, " bins"]
    row_lengths: Int[np.ndarray, "bins rows"]

    def layout(self, number: int, ids: Int[np.ndarray, " examples"]) -> Layout:
        """Returns the layout of one bin, whose examples have these numbers."""
        present = self.row[number] >= 0
        return Layout(ids[present], self.row[number, present], self.start[number, present], self.slot[number, present])


def first_fit(
    lengths: Int[np.ndarray, "bins examples"],
    row_lengths: Int[np.ndarray, "bins examples"] | int,
    slots: Int[np.ndarray, "bins examples"] | int,
) -> Bins:
    """Places the examples of every bin into rows, the longest first, each into the first row that has room.

    Args:
      lengths: tokens of each example; 0 where a bin has fewer.
      row_lengths: length of the row that an example opens if no other has room for it; not less than its tokens.
      slots: most examples in that row.
    """
    bins, examples = lengths.shape
    every, order = np.arange(bins), np.argsort(-lengths, axis=1, kind="stable")
    opens, limits = np.broadcast_to(row_lengths, lengths.shape), np.broadcast_to(slots, lengths.shape)
    # Sorted by rank, so that a step reads and writes whole rows of memory.
    length, opens, limits = (np.take_along_axis(x, order, axis=1).T.astype(np.int32) for x in (lengths, opens, limits))
    row, start, slot = (np.full((examples, bins), -1, np.int32) for _ in range(3))
    size, room, free, held = (np.zeros((bins, examples), np.int32) for _ in range(4))
    rows = np.zeros(bins, np.int64)
    for rank in range(examples):
        new = every, rows
        size[new] = room[new] = opens[rank]
        free[new] = limits[rank]
        opened = slice(int(rows.max()) + 1)
        first = np.argmax((room[:, opened] >= length[rank][:, None]) & (free[:, opened] > 0), axis=1)
        present, into = length[rank] > 0, (every, first)
        row[rank], start[rank], slot[rank] = first, size[into] - room[into], held[into]
        room[into] -= length[rank]
        free[into] -= present
        held[into] += present
        rows += present & (first == rows)

    def by_example(ranked: np.ndarray) -> np.ndarray:
        values = np.empty_like(lengths, np.int32)
        np.put_along_axis(values, order, np.where(length > 0, ranked, -1).T, axis=1)
        return values

    used = np.arange(examples) < rows[:, None]
    return Bins(by_example(row), by_example(start), by_example(slot), rows, np.where(used, size, 0))


def fill(
    examples: Examples,
    layout: Layout,
    rows: int,
    row_length: int,
    slots: int,
    rows_here: Callable[[int], np.ndarray] = np.arange,
) -> Batch:
    """Fills arrays of a given shape with examples.

    Args:
      rows, row_length, slots: the shape: rows, tokens of a row, and most examples in a row.
      rows_here: maps the number of rows to the rows, ascending, that are filled and returned.
    """
    filled = rows_here(rows)
    tokens, token_types, segments, positions = (np.zeros((len(filled), row_length), np.int32) for _ in range(4))
    starts = np.zeros((len(filled), slots), np.int32)
    if len(filled) < rows:
        layout = layout[np.isin(layout.row, filled)]
    layout = dataclasses.replace(layout, row=np.searchsorted(filled, layout.row))
    starts[layout.row, layout.slot] = layout.start
    source, *target, within = layout.tokens(examples.offsets)
    target = tuple(target)
    tokens[target] = examples.tokens[source]
    token_types[target] = examples.token_types[source]
    segments[target] = np.repeat(layout.slot + 1, examples.lengths[layout.ids])
    positions[target] = within

    of_tokens = examples.of_tokens
    labelled, place = (source, target) if of_tokens else (layout.ids, (layout.row, layout.slot))
    shape = (tokens if of_tokens else starts).shape
    labels, weights = np.zeros((*shape, *examples.labels.shape[1:]), examples.labels.dtype), np.zeros(shape, np.float32)
    labels[place] = examples.labels[labelled].clip(0) if of_tokens else examples.labels[labelled]
    if of_tokens:
        weights[place] = examples.labels[labelled] >= 0
    else:
        weights[place] = examples.weights[labelled] if len(examples.weights) else 1
    return Batch(Packed(tokens, token_types, segments, positions, starts), labels, weights)
