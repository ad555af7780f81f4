"""Frames of several libraries as tables."""

import importlib.util
from typing import Any

import datasets
import numpy as np
import pandas
import pyarrow
import pytest

from adakron_jax.data.frames import cells_of, frame_like, is_frame, of_frame, of_records
from tests.support.frames import Polars

ROWS = {"text": ["a", None], "label": ["x", "y"]}
FRAMES = [pandas.DataFrame, pyarrow.table, datasets.Dataset.from_dict, Polars]
if importlib.util.find_spec("polars"):
    FRAMES.append(importlib.import_module("polars").DataFrame)


@pytest.mark.parametrize("make", FRAMES)
def test_a_frame_is_read_by_its_columns(make: Any):
    frame = make(ROWS)
    assert is_frame(frame)
    assert of_frame(frame, ["text"]).columns == {"text": ["a", None]}
    with pytest.raises(ValueError, match="the frame has no column 'body'; available: 'text', 'label'"):
        of_frame(frame, ["body"])


@pytest.mark.parametrize("make", FRAMES)
def test_a_frame_like_another_is_of_its_library(make: Any):
    frame = frame_like(make(ROWS), {"score": [0.5, 1.0]})
    assert type(frame) is type(make(ROWS))
    assert of_frame(frame, ["score"]).columns == {"score": [0.5, 1.0]}


@pytest.mark.parametrize("make", FRAMES)
def test_a_column_is_a_list_of_plain_cells(make: Any):
    assert cells_of(make({"label": [1.5, None, 2.0]})["label"]) == [1.5, None, 2.0]


def test_columns_of_pandas_may_be_named_as_what_other_frames_have():
    frame = pandas.DataFrame(ROWS | {"column_names": ["b", "c"], "features": ["d", "e"]})
    assert of_frame(frame, ["text", "features"]).columns == {"text": ["a", None], "features": ["d", "e"]}


def test_a_frame_of_pandas_keeps_its_index_and_columns_of_data_sets_their_classes():
    frame = pandas.DataFrame(ROWS, index=[7, 3])
    assert frame_like(frame, {"score": [0.5, 1.0]}).index.tolist() == [7, 3]
    coded = datasets.Dataset.from_dict(ROWS).class_encode_column("label")
    assert of_frame(coded, ["label"]).orders == {"label": ("x", "y")}


def test_records_are_read_by_their_keys():
    table = of_records([{"text": "a"}, {"label": "y", "text": None}], ["text", "label"], "data")
    assert table.columns == {"text": ["a", None], "label": [None, "y"]}
    with pytest.raises(ValueError, match="data has no column 'body'; available: 'text', 'label'"):
        of_records([{"text": "a", "label": "b"}], ["body"], "data")


@pytest.mark.parametrize("values", [ROWS, ["a"], "a", np.zeros(3), pandas.Series(["a"]), None])
def test_what_is_no_frame(values: Any):
    assert not is_frame(values)


def test_real_frames_of_polars_have_lists_categories_and_nothing():
    polars = pytest.importorskip("polars")
    rows = {"text": ["a", None], "tags": [["x", "y"], []], "score": [float("nan"), 1.0], "kind": ["u", "v"]}
    frame = polars.DataFrame(rows, schema_overrides={"kind": polars.Categorical})
    table = of_frame(frame, list(rows))
    assert table.columns == {"text": ["a", None], "tags": [["x", "y"], []], "score": [None, 1.0], "kind": ["u", "v"]}
    assert of_frame(frame_like(frame, {"label": ["x", None]}), ["label"]).columns == {"label": ["x", None]}
    assert not is_frame(frame.lazy())
