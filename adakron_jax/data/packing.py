"""Packed batches: the examples of each batch laid end to end in rows of fixed length.

A batch of 64 examples holds the same 64 examples in the same order as a padded one, and gives the same gradients; only
the padding is gone. How many rows a batch takes varies, and every number of rows is another compilation. So the whole
run is planned before it starts: all its batches are packed by length, and the few row counts that waste the fewest
rows over the run are chosen. They are chosen for the order of one seed, whatever the run's own, so that the runs of
several seeds share their programs.
"""

import dataclasses
import typing
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int, Num

from adakron_jax.data.tokenizer import Examples
from adakron_jax.encoders.inputs import Packed

ROW_MULTIPLE = 8  # a row's length is a multiple of this
STRETCH = 1.25  # how much longer than the longest example a row may be, where that packs tighter
SHAPES = 3  # row counts, and so compilations, of a training run
PLANNED = 20_000  # batches that a plan looks at; beyond, they say nothing new
DRAFT_SEED = 0  # of the order that the shapes are chosen for


@typing.no_type_check  # jax builds it of shapes and shardings too
@struct.dataclass
class Batch:
    """One optimiser step's examples, as `accumulate` packed micro-batches along the first axis.

    Attributes:
      inputs: the packed tokens.
      labels: of the example in each slot [micro, rows, slots], of a multilabel problem [micro, rows, slots, labels].
      weights: of the example in each slot in the loss, 1 unless told otherwise; 0 for a slot without one
        [micro, rows, slots].
    """

    inputs: Packed
    labels: Num[Array | np.ndarray, "*micro rows slots"]
    weights: Float[Array | np.ndarray, "*micro rows slots"]


def side_by_side(batches: Sequence[Batch]) -> Batch:
    """Batches of several runs along a new first axis, all with as many rows as the largest has."""
    rows = max(batch.weights.shape[1] for batch in batches)

    def stack(*arrays: np.ndarray) -> np.ndarray:
        stacked = np.zeros((len(arrays), arrays[0].shape[0], rows, *arrays[0].shape[2:]), arrays[0].dtype)
        for array, into in zip(arrays, stacked, strict=True):
            into[:, : array.shape[1]] = array
        return stacked

    return jax.tree.map(stack, *batches)


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the examples of many packed bins went; the three arrays are [bins, examples of a bin].

    Attributes:
      row, start, slot: row of the bin, first position in the row, and number within the row; -1 for no example.
      rows: rows used by each bin [bins].
    """

    row: Int[np.ndarray, "bins examples"]
    start: Int[np.ndarray, "bins examples"]
    slot: Int[np.ndarray, "bins examples"]
    rows: Int[np.ndarray, " bins"]


def first_fit(lengths: Int[np.ndarray, "bins examples"], row_length: int, slots: int) -> Layout:
    """Packs every bin's examples into rows, the longest first, each into the first row that has room.

    Args:
      lengths: tokens of each example; 0 where a bin has fewer.
      row_length: at least the longest example.
      slots: most examples in a row.
    """
    bins, examples = lengths.shape
    every = np.arange(bins)
    order = np.argsort(-lengths, axis=1, kind="stable")
    room = np.full((bins, examples), row_length, np.int32)
    held = np.zeros((bins, examples), np.int32)
    row, start, slot = (np.full((bins, examples), -1, np.int32) for _ in range(3))
    for rank in range(examples):
        example = order[:, rank]
        length = lengths[every, example]
        there = length > 0
        into = np.argmax((room[:, : rank + 1] >= length[:, None]) & (held[:, : rank + 1] < slots), axis=1)
        row[every, example] = np.where(there, into, -1)
        start[every, example] = np.where(there, row_length - room[every, into], -1)
        slot[every, example] = np.where(there, held[every, into], -1)
        room[every, into] -= length
        held[every, into] += there
    return Layout(row, start, slot, np.count_nonzero(held, axis=1))


def best_shapes(rows: Int[np.ndarray, " batches"], shapes: int, multiple: int) -> tuple[int, ...]:
    """The at most `shapes` row counts, multiples of `multiple`, that serve all batches with the fewest rows in all."""
    sizes, times = np.unique(-(-rows // multiple) * multiple, return_counts=True)
    # cost[j]: fewest rows that serve the batches of the sizes before j with the counts chosen so far, the last of
    # which is sizes[j - 1].
    below = np.concatenate([[0], np.cumsum(times)])
    cost = np.where(np.arange(len(below)) == 0, 0.0, np.inf)
    chosen: list[tuple[int, ...]] = [()] * len(below)
    for _ in range(min(shapes, len(sizes))):
        totals = cost[:, None] + np.where(
            np.tri(len(below), k=-1, dtype=bool).T, (below[None] - below[:, None]) * np.r_[0, sizes][None], np.inf
        )
        totals[0, 0] = 0.0
        best = totals.argmin(axis=0)
        chosen = [(*chosen[i], int(sizes[j - 1])) if i != j else chosen[i] for j, i in enumerate(best)]
        cost = totals.min(axis=0)
    return chosen[-1]


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a split is packed, over all epochs.

    Attributes:
      row_length: tokens of a row.
      slots: most examples in a row.
      row_counts: the shapes, ascending.
      batch_size: examples of an optimiser step; `accumulate` divides it.
      accumulate: micro-batches of a step.
      seed: of the order of the examples; no number keeps theirs.
      multiple: of which every row count is one.
      padding_fraction: share of all tokens, over the planned epochs, that is padding.
    """

    row_length: int
    slots: int
    row_counts: tuple[int, ...]
    batch_size: int
    accumulate: int
    seed: int | None
    multiple: int
    padding_fraction: float

    def bins(self, lengths: np.ndarray, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The examples of each micro-batch [bins, examples] in an epoch, -1 for none, and their lengths, 0 for none."""
        order = np.arange(len(lengths))
        if self.seed is not None:
            order = np.random.default_rng([self.seed, epoch]).permutation(order)
        batches = -(-len(order) // self.batch_size)
        order = np.concatenate([order, np.full(batches * self.batch_size - len(order), -1)])
        order = order.reshape(batches * self.accumulate, -1)
        return order, np.where(order < 0, 0, lengths[order])

    def batches(
        self, examples: Examples, epoch: int = 0, skip: int = 0, rows_here: Callable[[int], np.ndarray] = np.arange
    ) -> Iterator[tuple[Batch, Layout, np.ndarray]]:
        """The batches of an epoch after the first `skip`, each with its layout and the numbers of its examples.

        Args:
          rows_here: from the rows of a batch to the numbers, ascending, of those that are filled and given out.
        """
        order, lengths = self.bins(examples.lengths, epoch)
        layout = first_fit(lengths, self.row_length, self.slots)
        for step in range(skip, len(order) // self.accumulate):
            part = slice(step * self.accumulate, (step + 1) * self.accumulate)
            one = Layout(layout.row[part], layout.start[part], layout.slot[part], layout.rows[part])
            yield self.fill(examples, order[part], one, rows_here), one, order[part]

    def fill(
        self,
        examples: Examples,
        ids: np.ndarray,
        layout: Layout,
        rows_here: Callable[[int], np.ndarray] = np.arange,
    ) -> Batch:
        """Lays the examples `ids` [micro, examples] into arrays, those alone that stand in `rows_here`."""
        needed = int(layout.rows.max())
        # A batch beyond the planned ones may need a row more than any of them.
        rows = next(
            (count for count in self.row_counts if count >= needed), -(-needed // self.multiple) * self.multiple
        )
        here = rows_here(rows)
        tokens, token_types, segments, positions = (
            np.zeros((self.accumulate, len(here), self.row_length), np.int32) for _ in range(4)
        )
        starts = np.zeros((self.accumulate, len(here), self.slots), np.int32)
        labels = np.zeros((*starts.shape, *examples.labels.shape[1:]), examples.labels.dtype)
        weights = np.zeros(starts.shape, np.float32)

        micro, column = np.nonzero((ids >= 0) & np.isin(layout.row, here))
        ids, row = ids[micro, column], np.searchsorted(here, layout.row[micro, column])
        start, slot = layout.start[micro, column], layout.slot[micro, column]
        starts[micro, row, slot] = start
        labels[micro, row, slot] = examples.labels[ids]
        weights[micro, row, slot] = examples.weights[ids] if len(examples.weights) else 1

        lengths = examples.lengths[ids]
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        source = np.repeat(examples.offsets[ids], lengths) + within
        target = (np.repeat(micro, lengths), np.repeat(row, lengths), np.repeat(start, lengths) + within)
        tokens[target] = examples.tokens[source]
        token_types[target] = examples.token_types[source]
        segments[target] = np.repeat(slot + 1, lengths)
        positions[target] = within
        return Batch(Packed(tokens, token_types, segments, positions, starts), labels, weights)


def plan(
    lengths: np.ndarray,
    batch_size: int,
    *,
    epochs: int = 1,
    seed: int | None = None,
    accumulate: int = 1,
    shapes: int = SHAPES,
    multiple: int = 1,
) -> Plan:
    """Packs the batches of all epochs, or of the first PLANNED // (batches of one), and chooses the shapes.

    Args:
      lengths: tokens of each example.
      multiple: of which every row count is one, so that rows divide among devices.
    """
    order = None if seed is None else DRAFT_SEED
    epochs = min(epochs, max(1, PLANNED * batch_size // len(lengths)))

    def draft(row_length: int) -> Plan:
        its = Plan(row_length, batch_size, (), batch_size, accumulate, order, multiple, 0.0)
        layout = first_fit(its.bins(lengths, 0)[1], row_length, its.slots)
        return shaped(dataclasses.replace(its, slots=int(layout.slot.max()) + 1), 1)

    def shaped(its: Plan, epochs: int) -> Plan:
        rows = _rows(its, lengths, epochs)
        return _given(its, best_shapes(rows, shapes, multiple), rows, lengths)

    shortest = -(-int(lengths.max()) // ROW_MULTIPLE) * ROW_MULTIPLE
    row_lengths = range(shortest, int(shortest * STRETCH) + 1, ROW_MULTIPLE)
    its = shaped(min(map(draft, row_lengths), key=lambda its: its.padding_fraction), epochs)
    if seed == order:
        return its
    rows = _rows(dataclasses.replace(its, seed=seed), lengths, epochs)
    *smaller, largest = its.row_counts
    largest = max(largest, -(-int(rows.max()) // multiple) * multiple)
    return _given(dataclasses.replace(its, seed=seed), (*smaller, largest), rows, lengths)


def _rows(its: Plan, lengths: np.ndarray, epochs: int) -> Int[np.ndarray, " batches"]:
    """The rows that every micro-batch of each step needs, over the epochs."""
    layouts = (first_fit(its.bins(lengths, epoch)[1], its.row_length, its.slots) for epoch in range(epochs))
    return np.concatenate([layout.rows.reshape(-1, its.accumulate).max(axis=1) for layout in layouts])


def _given(its: Plan, counts: tuple[int, ...], rows: np.ndarray, lengths: np.ndarray) -> Plan:
    """The plan with these row counts, for steps that need `rows`."""
    given = np.asarray(counts)[np.searchsorted(counts, rows)].sum() * its.accumulate * its.row_length
    epochs = len(rows) // -(-len(lengths) // its.batch_size)
    return dataclasses.replace(its, row_counts=counts, padding_fraction=1 - float(epochs * lengths.sum() / given))
