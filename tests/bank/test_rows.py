"""Every example of a batch is in a row of its own, beside its adapter's number."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from adakron_jax.bank import rows
from adakron_jax.data.tokenizer import Examples

SHAPES = rows.shapes(200)


@given(st.lists(st.integers(1, 200), min_size=1, max_size=200))
@settings(deadline=None, max_examples=30)
def test_every_example_is_whole_in_one_row(lengths: list[int]) -> None:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = np.arange(1, offsets[-1] + 1, dtype=np.int32)
    examples = Examples(tokens, np.zeros_like(tokens), offsets, np.zeros(len(lengths), np.int32), 0)
    seen = []
    for seq, shapes in SHAPES.items():
        queue = np.array([i for i, length in enumerate(lengths) if rows.row_length(length) == seq], int)
        for shape, taken in rows.batches(len(queue), shapes):
            ids = queue[taken]
            inputs, numbers = rows.fill(shape, examples, ids), rows.numbers(shape.rows, ids)
            assert inputs.tokens.shape == (shape.rows, seq)
            assert numbers.shape == (shape.rows,)
            assert (numbers[: len(ids)] == ids).all()
            for i, row, segments in zip(ids, inputs.tokens, inputs.segments, strict=False):
                np.testing.assert_array_equal(row[segments > 0], tokens[offsets[i] : offsets[i + 1]])
            assert not inputs.segments[len(ids) :].any()
            seen += ids.tolist()
    assert sorted(seen) == list(range(len(lengths)))


def test_there_are_few_shapes() -> None:
    assert list(SHAPES) == [16, 32, 48, 64, 80, 96, 112, 128, 256]
    assert [shape.rows for shape in SHAPES[32]] == [1, 4, 16, 64]
    assert [shape.rows for shape in SHAPES[256]] == [1, 4]
