"""Frames of several libraries as tables."""

from typing import Any

import datasets
import numpy as np
import pandas
import pyarrow
import pytest

from adakron_jax.data.frames import is_frame, of_frame

ROWS = {"text": ["a", None], "label": ["x", "y"]}


@pytest.mark.parametrize("make", [pandas.DataFrame, pyarrow.table, datasets.Dataset.from_dict])
def test_a_frame_is_read_by_its_columns(make: Any):
    frame = make(ROWS)
    assert is_frame(frame)
    assert of_frame(frame, ["text"]).columns == {"text": ["a", None]}
    with pytest.raises(ValueError, match="the frame has no column 'body'; there: 'text', 'label'"):
        of_frame(frame, ["body"])


@pytest.mark.parametrize("values", [ROWS, ["a"], "a", np.zeros(3), pandas.Series(["a"]), None])
def test_what_is_no_frame(values: Any):
    assert not is_frame(values)
