"""The packer and the fill: the longest first, each where there is room; what an example has goes to its slot."""

import dataclasses

import numpy as np

from adakron_jax.data.packing import fill, first_fit
from tests.data.test_plan import make_examples


def test_first_fit_puts_the_longest_first_into_the_first_row_with_room() -> None:
    bins = first_fit(np.array([[3, 8, 5, 2, 0]]), 10, slots=4)
    np.testing.assert_array_equal(bins.row, [[1, 0, 1, 0, -1]])
    np.testing.assert_array_equal(bins.start, [[5, 0, 0, 8, -1]])
    np.testing.assert_array_equal(bins.slot, [[1, 0, 0, 1, -1]])
    np.testing.assert_array_equal(bins.rows, [2])


def test_a_row_takes_no_more_examples_than_it_has_slots() -> None:
    bins = first_fit(np.array([[3, 8, 2, 2, 2]]), 10, slots=2)
    np.testing.assert_array_equal(bins.row, [[1, 0, 0, 1, 2]])
    np.testing.assert_array_equal(bins.slot, [[0, 0, 1, 1, 0]])


def test_a_row_is_as_long_and_has_as_many_slots_as_the_example_that_opens_it_says() -> None:
    lengths = np.array([[3, 8, 4, 1], [4, 0, 0, 0]])
    bins = first_fit(lengths, np.array([[4, 16, 4, 4]] * 2), np.array([[1, 2, 1, 1]] * 2))
    np.testing.assert_array_equal(bins.row, [[1, 0, 0, 2], [0, -1, -1, -1]])
    np.testing.assert_array_equal(bins.row_lengths, [[16, 4, 4, 0], [4, 0, 0, 0]])
    np.testing.assert_array_equal(bins.layout(0, np.arange(10, 14)).ids, [10, 11, 12, 13])


def test_several_labels_and_a_weight_an_example_go_to_its_slot() -> None:
    labels = np.array([[True, False, True], [False, False, True]])
    weights = np.array([0.5, 2.0], np.float32)
    examples = dataclasses.replace(make_examples([3, 5]), labels=labels, weights=weights)
    layout = first_fit(examples.lengths[None], 8, 2).layout(0, np.arange(2))
    batch = fill(examples, layout, 2, 8, 2)
    assert batch.labels.shape == (*batch.weights.shape, 3) == (2, 2, 3)
    for example, row, slot in zip(layout.ids, layout.row, layout.slot, strict=True):
        assert batch.labels[row, slot].tolist() == labels[example].tolist()
        assert batch.weights[row, slot] == weights[example]
