"""Batches of few static shapes hold every example once, whatever the lengths."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adakron_jax.data.batches import Shapes, batches, cut, shape_for_all, shapes_for_any
from adakron_jax.data.examples import Examples

POSITIONS = 512


def examples_of(lengths: list[int]) -> Examples:
    total = sum(lengths)
    tokens = np.arange(1, total + 1, dtype=np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Examples(tokens, tokens % 2, offsets, np.zeros(len(lengths), np.int32), 0)


def padding(examples: Examples, shapes: Shapes) -> float:
    """Share of all positions that is padding."""
    return 1 - examples.lengths.sum() / sum(batch.inputs.tokens.size for batch, _ in batches(examples, shapes))


KINDS = {
    "any": lambda lengths: shapes_for_any(lengths, POSITIONS),
    "all": lambda lengths: shape_for_all(lengths, POSITIONS, multiple=2),
    "one a row": lambda lengths: Shapes(dict.fromkeys((8, 32, 128), (1, 4)), packed=False),
}


@pytest.mark.parametrize("kind", KINDS)
@given(st.lists(st.integers(1, 100), min_size=1, max_size=400))
@settings(deadline=None, max_examples=20)
def test_every_example_is_in_one_place_and_whole(kind: str, lengths: list[int]):
    examples, seen = examples_of(lengths), []
    shapes = KINDS[kind](examples.lengths)
    ids = np.arange(len(lengths))[::-1]
    for batch, layout in batches(examples, shapes, ids):
        inputs = batch.inputs
        rows, row_length = inputs.tokens.shape
        assert rows in shapes.row_counts[row_length]
        assert inputs.starts.shape == (rows, shapes.slots(row_length))
        for example, row, start, slot in zip(layout.ids, layout.row, layout.start, layout.slot, strict=True):
            where = row, slice(start, start + lengths[example])
            source = slice(*examples.offsets[example : example + 2])
            np.testing.assert_array_equal(inputs.tokens[where], examples.tokens[source])
            np.testing.assert_array_equal(inputs.token_types[where], examples.token_types[source])
            np.testing.assert_array_equal(inputs.positions[where], np.arange(lengths[example]))
            assert (inputs.segments[where] == slot + 1).all()
            assert inputs.starts[row, slot] == start
        assert np.count_nonzero(inputs.segments) == examples.lengths[layout.ids].sum()
        seen += layout.ids.tolist()
    assert sorted(seen) == list(range(len(lengths)))


def test_texts_of_a_usual_spread_leave_little_padding_in_few_shapes():
    examples = examples_of(np.random.default_rng(0).gamma(3, 8, 8192).astype(int).clip(3, 128).tolist())
    shapes = shapes_for_any(examples.lengths, 4096)
    assert padding(examples, shapes) < 0.03
    assert len({batch.inputs.tokens.shape for batch, _ in batches(examples, shapes)}) <= 6


@pytest.mark.parametrize("count", [64, 300, 1024])
def test_what_is_predicted_again_and_again_takes_one_shape_with_little_padding(count: int):
    examples = examples_of(np.random.default_rng(0).gamma(3, 8, count).astype(int).clip(3, 128).tolist())
    shapes = shape_for_all(examples.lengths, 4096)
    assert len({batch.inputs.tokens.shape for batch, _ in batches(examples, shapes)}) == 1
    assert padding(examples, shapes) < 0.08


@pytest.mark.parametrize(("length", "shape"), [(5, (1, 32)), (32, (1, 32)), (33, (1, 64)), (100, (1, 128))])
def test_one_text_is_one_short_row(length: int, shape: tuple[int, int]):
    examples = examples_of([length])
    ((batch, _),) = batches(examples, shapes_for_any(examples.lengths, 4096))
    assert batch.inputs.tokens.shape == shape


def test_a_long_text_does_not_lengthen_the_rows_of_the_others():
    examples = examples_of([20] * 1000 + [500])
    shapes = [b.inputs.tokens.shape for b, _ in batches(examples, shapes_for_any(examples.lengths, 4096))]
    assert shapes[0] == (1, 512)
    assert max(shape[1] for shape in shapes[1:]) <= 128


def test_the_rows_of_a_batch_are_those_that_cost_least():
    counts = {64: (1, 8), 32: (1, 16)}
    assert list(cut(np.array([64] * 8 + [32] * 3), counts)) == [(0, 8), (8, 1), (9, 1), (10, 1)]
    assert list(cut(np.array([64] * 7 + [32] * 15), counts)) == [(0, 8), (8, 16)]


def test_rows_that_are_filled_apart_are_those_of_the_whole_batch():
    examples = examples_of([5, 9, 3, 12, 7, 7, 2, 11])
    shapes = shape_for_all(examples.lengths, 32, multiple=2)
    halves = [batches(examples, shapes, rows_here=lambda rows, i=i: np.split(np.arange(rows), 2)[i]) for i in (0, 1)]
    for (whole, layout), *parts in zip(batches(examples, shapes), *halves, strict=True):
        joined = jax.tree.map(lambda *arrays: np.concatenate(arrays), *(part for part, _ in parts))
        jax.tree.map(np.testing.assert_array_equal, joined, whole)
        assert all((here.ids == layout.ids).all() for _, here in parts)
