"""Every example of a batch is in one place, and meets what is its own."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from adakron_jax.bank import rows
from adakron_jax.data.tokenizer import Examples
from adakron_jax.encoders.apart import PerExample

SHAPES = rows.shapes(128)


@given(st.lists(st.integers(1, 128), min_size=1, max_size=200))
@settings(deadline=None, max_examples=8)
def test_every_example_is_in_one_place_and_every_token_meets_its_own(lengths: list[int]) -> None:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = np.arange(1, offsets[-1] + 1, dtype=np.int32)
    examples = Examples(tokens, np.zeros_like(tokens), offsets, np.zeros(len(lengths), np.int32), 0)
    seen = []
    for seq, shapes in SHAPES.items():
        queue = np.array([i for i, length in enumerate(lengths) if rows.row_length(length) == seq], int)
        for shape, taken, places in rows.batches(examples.lengths[queue], shapes):
            ids = queue[taken]
            inputs, layout = jax.tree.map(jnp.asarray, rows.fill(shape, examples, ids, places))
            numbers = rows.numbers(shape, ids + 1, places)
            assert inputs.tokens.shape == (shape.rows, seq)
            assert (layout.lengths <= seq // 2).all()
            assert [part.shape for part in numbers] == [(shape.rows,), (shape.others,)]

            owner = np.searchsorted(offsets, inputs.tokens) * np.asarray(inputs.segments > 0)  # from 1
            own = PerExample(*(jnp.asarray(part, jnp.float32) for part in numbers))
            apart = layout.apart(inputs)
            of_tokens = apart.each(jnp.multiply, own, jnp.ones((*inputs.tokens.shape, 1)))[:, :, 0]
            there = np.asarray(inputs.segments > 0)
            np.testing.assert_array_equal(np.asarray(of_tokens)[there], owner[there])
            np.testing.assert_array_equal(np.asarray(apart.by_token(own, seq))[there], owner[there])

            # Of each example's first token, and an example's own segment alone.
            of_slots = np.asarray(apart.each(jnp.multiply, own, jnp.ones((shape.rows, shape.slots, 1))))[:, :, 0]
            row, start, slot = places
            np.testing.assert_array_equal(of_slots[row, slot], ids + 1)
            np.testing.assert_array_equal(owner[row, start], ids + 1)
            segments = apart.each(
                lambda own, x, segments: x + (segments > 0).sum(), own, jnp.zeros(inputs.tokens.shape), inputs.segments
            )
            np.testing.assert_array_equal(np.asarray(segments)[row, start], examples.lengths[ids])
            seen += ids.tolist()
    assert sorted(seen) == list(range(len(lengths)))


def test_a_batch_of_short_examples_has_room_for_them_and_one_of_long_ones_for_no_others() -> None:
    assert [shape.others for shape in SHAPES[64]] == [7, 7, 26, 53]
    assert [shape.others for shape in SHAPES[128]] == [0, 0, 0]
