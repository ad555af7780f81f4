"""The plan: every example is there once, in its batch; it wastes as little as it can and says how much."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adakron_jax.data.examples import Examples
from adakron_jax.data.packing import ROW_MULTIPLE
from adakron_jax.data.plan import best_shapes, pack, plan


def make_examples(lengths: list[int]) -> Examples:
    """Examples whose tokens are their own number, so that a misplaced one shows."""
    ids = np.repeat(np.arange(len(lengths)), lengths).astype(np.int32) + 1
    offsets = np.cumsum([0, *lengths])
    return Examples(ids, ids % 2, offsets, np.arange(len(lengths), dtype=np.int32), 0)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=70),
    st.integers(1, 5),
    st.sampled_from([1, 2]),
    st.sampled_from([1, 4]),
)
def test_every_example_is_in_its_batch_once_and_whole(lengths, groups, accumulate, multiple) -> None:
    examples = make_examples(lengths)
    its = plan(np.array(lengths), groups * accumulate, epochs=2, seed=1, accumulate=accumulate, multiple=multiple)
    order = np.random.default_rng([1, 1]).permutation(len(lengths))
    order = order.tolist() + [-1] * (-len(order) % its.batch_size)
    for step, (batch, layouts) in enumerate(
        zip(its.batches(examples, epoch=1), its.layouts(examples.lengths, epoch=1), strict=True)
    ):
        assert batch.inputs.tokens.shape[1:] in {(rows, its.row_length) for rows in its.row_counts}
        assert batch.inputs.tokens.shape[1] % multiple == 0
        places = [(micro, *at) for micro, of in enumerate(layouts) for at in zip(of.ids, of.row, of.slot, strict=True)]
        for micro, example, row, slot in places:
            start = batch.inputs.starts[micro, row, slot]
            place = (micro, row, slice(start, start + lengths[example]))
            assert (batch.inputs.tokens[place] == example + 1).all()
            assert (batch.inputs.token_types[place] == (example + 1) % 2).all()
            assert (batch.inputs.segments[place] == slot + 1).all()
            assert (batch.inputs.positions[place] == np.arange(lengths[example])).all()
            assert batch.labels[micro, row, slot] == example
            assert batch.weights[micro, row, slot] == 1
        assert batch.weights.sum() == len(places)
        assert np.count_nonzero(batch.inputs.segments) == sum(lengths[example] for _, example, _, _ in places)
        expected = np.reshape(order[step * its.batch_size : (step + 1) * its.batch_size], (accumulate, -1))
        for layout, ids in zip(layouts, expected, strict=True):
            np.testing.assert_array_equal(layout.ids, ids[ids >= 0])


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.sampled_from([1, 2]), st.permutations(range(4)))
def test_rows_that_are_filled_apart_are_those_of_the_whole_batch(lengths, accumulate, order) -> None:
    examples = make_examples(lengths)
    its = plan(np.array(lengths), 4 * accumulate, seed=1, accumulate=accumulate, multiple=4)
    hosts = [sorted(order[:1]), sorted(order[1:])]  # the quarters of the rows that each of two hosts has

    def rows_of(quarters):
        return lambda rows: np.concatenate([np.arange(rows).reshape(4, -1)[quarter] for quarter in quarters])

    parts = [its.batches(examples, rows_here=rows_of(quarters)) for quarters in hosts]
    for whole, *of_hosts in zip(its.batches(examples), *parts, strict=True):
        for quarters, part in zip(hosts, of_hosts, strict=True):
            here = rows_of(quarters)(whole.weights.shape[1])
            jax.tree.map(lambda x, y, here=here: np.testing.assert_array_equal(x, y[:, here]), part, whole)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=40), st.integers(1, 3), st.sampled_from([1, 2, 8]))
def test_the_shapes_are_the_cheapest_there_are(rows, shapes, multiple) -> None:
    rows = np.array(rows)
    found = best_shapes(rows, shapes, multiple)
    rounded = -(-rows // multiple) * multiple
    cost = lambda counts: sum(min(c for c in counts if c >= r) for r in rounded)  # noqa: E731
    choices = ((*few, rounded.max()) for n in range(shapes) for few in itertools.combinations(sorted(set(rounded)), n))
    assert cost(found) == min(map(cost, choices))
    assert len(found) <= shapes


def test_runs_of_other_seeds_have_the_same_shapes_but_for_a_larger_last_one() -> None:
    lengths = np.random.default_rng(0).integers(5, 60, 500)
    plans = [plan(lengths, 32, epochs=2, seed=seed) for seed in range(6)]
    for its in plans:
        assert (its.row_length, its.slots) == (plans[0].row_length, plans[0].slots)
        assert its.row_counts[:-1] == plans[0].row_counts[:-1]
        assert its.row_counts[-1] >= plans[0].row_counts[-1]
    assert len({its.row_counts for its in plans}) <= 3


def test_skipping_steps_gives_the_rest_of_the_same_epoch() -> None:
    examples = make_examples([3, 7, 2, 9, 4, 4, 1, 5])
    its = plan(examples.lengths, 2, epochs=3, seed=5)

    def tokens(epoch: int, skip: int = 0) -> list:
        return [batch.inputs.tokens.tolist() for batch in its.batches(examples, epoch, skip)]

    assert tokens(epoch=2, skip=3) == tokens(epoch=2)[3:]
    assert tokens(epoch=1) != tokens(epoch=2)


def test_the_padding_fraction_is_that_of_the_batches_themselves() -> None:
    rng = np.random.default_rng(0)
    examples = make_examples(rng.integers(5, 60, 500).tolist())
    its = plan(examples.lengths, 64, epochs=2, seed=0)
    segments = [batch.inputs.segments for epoch in range(2) for batch in its.batches(examples, epoch)]
    padding = sum((s == 0).sum() for s in segments) / sum(s.size for s in segments)
    assert its.padding_fraction == pytest.approx(padding)


# Token lengths of GLUE's training sets at BERT's vocabulary: (mean, standard deviation, longest, examples), enough to
# draw sets with their spread.
GLUE = {"rte": (66, 34, 128, 2490), "mrpc": (53, 14, 103, 3668), "stsb": (28, 15, 126, 5749), "sst2": (13, 9, 66, 8000)}


@pytest.mark.parametrize("task", GLUE)
def test_padding_at_batch_64_is_at_most_15_percent_in_at_most_3_shapes(task: str) -> None:
    mean, deviation, longest, examples = GLUE[task]
    shape = (mean / deviation) ** 2
    lengths = np.random.default_rng(0).gamma(shape, mean / shape, examples).round().clip(4, longest).astype(int)
    its = plan(lengths, 64, epochs=3, seed=0)
    assert its.padding_fraction <= 0.15
    assert len(its.row_counts) <= 3
    assert its.row_length % ROW_MULTIPLE == 0


def test_a_batch_beyond_the_planned_ones_may_need_more_rows() -> None:
    examples = make_examples([4] * 8 + [16] * 8)
    narrow = dataclasses.replace(plan(examples.lengths, 8, multiple=2), row_length=16, slots=4, row_counts=(2,))
    shapes = [batch.weights.shape for batch in narrow.batches(examples)]
    assert shapes == [(1, 2, 4), (1, 8, 4)]


def test_pack_gives_the_batches_of_all_epochs_without_an_axis_of_micro_batches() -> None:
    examples = make_examples([3, 7, 2, 9, 4, 4, 1, 5])
    its = plan(examples.lengths, 3, epochs=2, seed=4)
    packed = list(pack(examples, 3, epochs=2, seed=4))
    assert len(packed) == 6
    for one, of_program in zip(packed, (b for epoch in range(2) for b in its.batches(examples, epoch)), strict=True):
        jax.tree.map(lambda x, y: np.testing.assert_array_equal(x, y[0]), one, of_program)


def test_pack_without_a_seed_keeps_the_order_of_the_examples() -> None:
    first, second = pack(make_examples([2] * 5), 3, seed=None)
    assert sorted(first.labels[first.weights > 0]) == [0, 1, 2]
    assert sorted(second.labels[second.weights > 0]) == [3, 4]


def test_pack_names_what_it_cannot_take() -> None:
    with pytest.raises(ValueError, match="batch_size is 0; accepted: at least 1"):
        pack(make_examples([3]), 0)
    with pytest.raises(ValueError, match="examples is 0; accepted: at least 1"):
        pack(make_examples([]), 8)
