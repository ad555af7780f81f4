"""Rows of few static shapes hold every example once, whatever the lengths."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adakron_jax.data import rows
from adakron_jax.data.tokenizer import Examples

POSITIONS = 512


def examples_of(lengths: list[int]) -> Examples:
    total = sum(lengths)
    tokens = np.arange(1, total + 1, dtype=np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Examples(tokens, tokens % 2, offsets, np.zeros(len(lengths), np.int32), 0)


@given(st.lists(st.integers(1, 100), min_size=1, max_size=200))
@settings(deadline=None, max_examples=50)
def test_every_example_is_in_one_place_and_whole(lengths: list[int]):
    examples, seen = examples_of(lengths), []
    for inputs, held in rows.batches(examples, POSITIONS):
        assert inputs.tokens.size <= POSITIONS
        assert len(held) <= len(inputs.tokens)
        for number, row in enumerate(held):
            for slot, (example, start) in enumerate(zip(row.ids, row.starts, strict=True)):
                where = slice(start, start + lengths[example])
                source = slice(*examples.offsets[example : example + 2])
                np.testing.assert_array_equal(inputs.tokens[number, where], examples.tokens[source])
                np.testing.assert_array_equal(inputs.token_types[number, where], examples.token_types[source])
                np.testing.assert_array_equal(inputs.positions[number, where], np.arange(lengths[example]))
                assert (inputs.segments[number, where] == slot + 1).all()
                assert inputs.starts[number, slot] == start
                seen.append(example)
        filled = sum(lengths[example] for row in held for example in row.ids)
        assert np.count_nonzero(inputs.segments) == filled
    assert sorted(seen) == list(range(len(lengths)))


def test_texts_of_a_usual_spread_leave_little_padding_in_few_shapes():
    lengths = np.random.default_rng(0).gamma(3, 8, 8192).astype(int).clip(3, 128)
    batches = [inputs for inputs, _ in rows.batches(examples_of(lengths.tolist()), 4096)]
    assert 1 - lengths.sum() / sum(inputs.tokens.size for inputs in batches) < 0.03
    assert len({inputs.tokens.shape for inputs in batches}) <= 6


@pytest.mark.parametrize(("length", "shape"), [(5, (1, 32)), (32, (1, 32)), (33, (1, 64)), (100, (1, 128))])
def test_one_text_is_one_short_row(length: int, shape: tuple[int, int]):
    ((inputs, _),) = rows.batches(examples_of([length]), 4096)
    assert inputs.tokens.shape == shape


def test_a_long_text_does_not_lengthen_the_rows_of_the_others():
    lengths = [20] * 1000 + [500]
    shapes = [inputs.tokens.shape for inputs, _ in rows.batches(examples_of(lengths), 4096)]
    assert shapes[0] == (1, 512)
    assert max(shape[1] for shape in shapes[1:]) <= 128
