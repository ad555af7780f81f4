"""Training's batches: the whole run is packed before it starts.

A batch of 64 examples holds the same 64 examples in the same order as a padded batch, and gives the same gradients;
only the padding is gone. The number of rows that a batch takes varies, and every number of rows is another compilation.
So all batches are packed by length before the first step, and the few row counts that waste the fewest rows over the
run are chosen. They are chosen for the order of one fixed seed, so that runs of several seeds share their executables.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jaxtyping import Int

from adakron_jax.data.examples import Examples
from adakron_jax.data.packing import Batch, Layout, fill, first_fit, possible_row_lengths

SHAPES = 3  # row counts, and so compilations, of a training run
PLANNED = 20_000  # batches that a plan looks at; more would change nothing
DRAFT_SEED = 0  # seed of the order that the shapes are chosen for


def pack(
    examples: Examples,
    batch_size: int,
    *,
    epochs: int = 1,
    seed: int | None = 0,
    shapes: int = SHAPES,
    multiple: int = 1,
) -> Iterator[Batch]:
    """Yields the batches that the training program uses, for a custom training loop.

    >>> import adakron_jax as ak
    >>> tokenizer = ak.Tokenizer.from_pretrained("bert-base-uncased")
    >>> examples = tokenizer.encode(["so good", "so bad"], max_length=128, labels=[1, 0])
    >>> for batch in ak.pack(examples, 64, epochs=2, seed=0):
    ...     print(int(batch.weights.sum()), "examples")
    2 examples
    2 examples

    Args:
      examples: examples with their labels, from `Tokenizer.encode`.
      batch_size: examples of a batch; the last batch of an epoch may have fewer.
      seed: seed of the order, which changes with each epoch; None keeps the examples' own order.
      shapes: most row counts of batches, each of which is a compilation of what reads them.
      multiple: every row count is a multiple of this, so that rows can be sharded over devices.

    Raises:
      ValueError: there is no example, or a number is less than 1.
    """
    numbers = {"batch_size": batch_size, "epochs": epochs, "shapes": shapes, "multiple": multiple}
    for name, value in {"examples": len(examples), **numbers}.items():
        if value < 1:
            raise ValueError(f"{name} is {value}; accepted: at least 1")
    planned = plan(examples.lengths, batch_size, epochs=epochs, seed=seed, shapes=shapes, multiple=multiple)
    steps = (step for epoch in range(epochs) for step in planned.batches(examples, epoch))
    return (jax.tree.map(lambda array: array[0], step) for step in steps)


def best_shapes(rows: Int[np.ndarray, " batches"], shapes: int, multiple: int) -> tuple[int, ...]:
    """Returns at most `shapes` multiples of `multiple`, the row counts that serve all batches with the fewest rows."""
    sizes, times = np.unique(-(-rows // multiple) * multiple, return_counts=True)
    # cost[j]: the fewest rows that serve the batches of the sizes before j with the counts chosen so far, the last of
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
    """How a training set is packed, over all epochs.

    Attributes:
      row_length: tokens of a row.
      slots: most examples in a row.
      row_counts: the row counts that batches have, ascending.
      batch_size: examples of an optimiser step; `accumulate` divides it.
      accumulate: micro-batches of a step.
      seed: seed of the examples' order; None keeps their own.
      multiple: every row count is a multiple of this.
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
        """Returns an epoch's examples by micro-batch [bins, examples], -1 for none, and their lengths, 0 for none."""
        order = np.arange(len(lengths))
        if self.seed is not None:
            order = np.random.default_rng([self.seed, epoch]).permutation(order)
        batches = -(-len(order) // self.batch_size)
        order = np.concatenate([order, np.full(batches * self.batch_size - len(order), -1)])
        order = order.reshape(batches * self.accumulate, -1)
        return order, np.where(order < 0, 0, lengths[order])

    def layouts(self, lengths: np.ndarray, epoch: int = 0) -> Iterator[tuple[Layout, ...]]:
        """Yields the layouts of every step of an epoch, by micro-batch."""
        order, of_bins = self.bins(lengths, epoch)
        bins = first_fit(of_bins, self.row_length, self.slots)
        for step in range(len(order) // self.accumulate):
            micro = range(step * self.accumulate, (step + 1) * self.accumulate)
            yield tuple(bins.layout(number, order[number]) for number in micro)

    def batches(
        self, examples: Examples, epoch: int = 0, skip: int = 0, rows_here: Callable[[int], np.ndarray] = np.arange
    ) -> Iterator[Batch]:
        """Yields the batches [micro, rows, ...] of an epoch after the first `skip`.

        Args:
          rows_here: as in `fill`.
        """
        for layouts in itertools.islice(self.layouts(examples.lengths, epoch), skip, None):
            needed = max(int(layout.row.max(initial=-1)) + 1 for layout in layouts)
            # A batch beyond the planned ones may need a row more than any of those.
            more = -(-needed // self.multiple) * self.multiple
            rows = next((count for count in self.row_counts if count >= needed), more)
            shape = rows, self.row_length, self.slots
            micro = [fill(examples, layout, *shape, rows_here) for layout in layouts]
            yield jax.tree.map(lambda first, *rest: np.stack((first, *rest)) if rest else first[None], *micro)


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
    """Packs the batches of all epochs, or of the first PLANNED // (batches of one epoch), and chooses the shapes.

    Args:
      lengths: tokens of each example.
      multiple: every row count is a multiple of this, so that rows can be sharded over devices.
    """
    order = None if seed is None else DRAFT_SEED
    epochs = min(epochs, max(1, PLANNED * batch_size // len(lengths)))

    def draft(row_length: int) -> Plan:
        draft = Plan(row_length, batch_size, (), batch_size, accumulate, order, multiple, 0.0)
        bins = first_fit(draft.bins(lengths, 0)[1], row_length, draft.slots)
        return shaped(dataclasses.replace(draft, slots=int(bins.slot.max()) + 1), 1)

    def shaped(draft: Plan, epochs: int) -> Plan:
        rows = _rows(draft, lengths, epochs)
        return _with_counts(draft, best_shapes(rows, shapes, multiple), rows, lengths)

    best = shaped(min(map(draft, possible_row_lengths(lengths)), key=lambda draft: draft.padding_fraction), epochs)
    if seed == order:
        return best
    rows = _rows(dataclasses.replace(best, seed=seed), lengths, epochs)
    *smaller, largest = best.row_counts
    largest = max(largest, -(-int(rows.max()) // multiple) * multiple)
    return _with_counts(dataclasses.replace(best, seed=seed), (*smaller, largest), rows, lengths)


def _rows(draft: Plan, lengths: np.ndarray, epochs: int) -> Int[np.ndarray, " batches"]:
    """Returns the rows that each step's largest micro-batch needs, over the epochs."""
    bins = (first_fit(draft.bins(lengths, epoch)[1], draft.row_length, draft.slots) for epoch in range(epochs))
    return np.concatenate([of_epoch.rows.reshape(-1, draft.accumulate).max(axis=1) for of_epoch in bins])


def _with_counts(draft: Plan, counts: tuple[int, ...], rows: np.ndarray, lengths: np.ndarray) -> Plan:
    """Returns the plan with these row counts, for steps that need `rows`."""
    given = np.asarray(counts)[np.searchsorted(counts, rows)].sum() * draft.accumulate * draft.row_length
    epochs = len(rows) // -(-len(lengths) // draft.batch_size)
    return dataclasses.replace(draft, row_counts=counts, padding_fraction=1 - float(epochs * lengths.sum() / given))
