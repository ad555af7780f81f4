"""The shapes of mixed batches: few, for examples of any length that an encoder reads."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adakron_jax.bank.shapes import POSITIONS, shapes
from adakron_jax.data.batches import batches
from tests.data.test_batches import examples_of


@pytest.mark.parametrize("max_length", [1, 16, 50, 128, 129, 512, 8192])
def test_the_longest_row_holds_the_longest_example_and_none_is_longer_than_it_has_to_be(max_length: int) -> None:
    accepted = shapes(max_length)
    *shorter, longest = accepted.row_counts
    assert max_length <= longest
    assert all(length < max_length for length in shorter)
    for length, counts in accepted.row_counts.items():
        assert counts[0] == 1
        assert counts[-1] * length <= max(length, POSITIONS)
    assert not accepted.packed


@given(st.lists(st.integers(1, 128), min_size=1, max_size=200))
@settings(deadline=None, max_examples=20)
def test_every_example_has_a_row_to_itself(lengths: list[int]) -> None:
    examples, seen = examples_of(lengths), []
    for batch, layout in batches(examples, shapes(128)):
        assert batch.inputs.starts.shape == (len(batch.inputs.tokens), 1)
        assert len(np.unique(layout.row)) == len(layout.row)
        assert not layout.start.any()
        assert not layout.slot.any()
        np.testing.assert_array_equal((batch.inputs.segments > 0).sum(axis=1)[layout.row], examples.lengths[layout.ids])
        seen += layout.ids.tolist()
    assert sorted(seen) == list(range(len(lengths)))
