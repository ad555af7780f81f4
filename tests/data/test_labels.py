"""What label columns ask for, and their cells as targets."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from adakron_jax.data.labels import decoded
from adakron_jax.data.table import Table, read
from adakron_jax.problems import Problem, infer, make


def table(**columns: list[Any]) -> Table:
    return Table("a.csv", range(2, 2 + len(next(iter(columns.values())))), columns)


def both(cells: list[Any], kind: str = "auto") -> tuple[Problem, list[Any]]:
    problem = infer(table(label=cells), ["label"], kind)
    return problem, problem.targets(table(label=cells), ["label"]).tolist()


@pytest.mark.parametrize(
    ("cells", "labels", "codes"),
    [
        (["good", "bad", "good"], ("bad", "good"), [1, 0, 1]),
        (["Good ", "good", " bad"], (" bad", "Good ", "good"), [1, 2, 0]),
        (["10", "9", "-1"], ("-1", "9", "10"), [2, 1, 0]),
        ([10, 9, 10], ("9", "10"), [1, 0, 1]),
        (["2", "x", "10"], ("10", "2", "x"), [1, 2, 0]),
        ([True, False], ("false", "true"), [1, 0]),
        (["0.0", "1.0"], ("0.0", "1.0"), [0, 1]),
        (["nan", "inf", "1_0"], ("1_0", "inf", "nan"), [2, 1, 0]),
    ],
)
def test_texts_and_whole_numbers_are_classes_in_their_own_spelling(cells, labels, codes):
    assert both(cells) == (make("classification", labels), codes)


@pytest.mark.parametrize("cells", [["1", "2.5", "-1e2"], [1, 2.5, -100], [Decimal(1), Decimal("2.5"), Decimal(-100)]])
def test_numbers_with_a_fraction_are_a_regression_in_their_own_unit(cells):
    assert both(cells) == (make("regression"), [1.0, 2.5, -100.0])


@pytest.mark.parametrize("cells", [[["b", "a"], [], ["a"]], ['["b", "a"]', "[]", ' ["a"]']])
def test_lists_are_multilabel(cells):
    assert both(cells) == (make("multilabel", ("a", "b")), [[True, True], [False, False], [True, False]])


def test_several_columns_are_multilabel_in_the_order_they_are_given():
    rows = table(late=["0", "1", "False"], rude=[1, True, 0])
    problem = infer(rows, ["rude", "late"])
    assert problem == make("multilabel", ("rude", "late"))
    expected = [[True, False], [True, True], [False, False]]
    assert problem.targets(rows, ["rude", "late"]).tolist() == expected
    assert problem.targets(rows, ["late", "rude"]).tolist() == expected


def test_the_problem_can_be_forced():
    assert both([1, 2, 3], "regression")[0].name == "regression"
    assert both([1.5, 2.5], "classification")[0].labels == ("1.5", "2.5")
    assert infer(table(a=[0, 1]), ["a"], "classification").labels == ("0", "1")


def test_targets_have_the_types_that_training_and_metrics_take():
    assert make("classification", ("y", "x")).targets(table(a=["x", "y"]), ["a"]).dtype == np.int32
    assert make("regression").targets(table(a=["1"]), ["a"]).dtype == np.float64
    assert make("multilabel", ("x",)).targets(table(a=[["x"]]), ["a"]).dtype == np.bool_


@pytest.mark.parametrize(
    ("cells", "kind", "message"),
    [
        (["a", "", "b"], "auto", r"^a\.csv, row 3: label is empty; accepted: a label in every row"),
        (["a", None], "auto", "row 3: label is empty"),
        ([" ", "a"], "regression", "row 2: label is empty"),
        (["a", "a"], "auto", r"label has only 'a'; accepted: at least two labels"),
        ([[], []], "auto", "label has no label at all"),
        ([["a"], "b"], "auto", "row 3: label is 'b'; accepted: a list of labels"),
        ([["a"], ["b", ""]], "auto", "row 3: label is ''; accepted: a text or a number"),
        (["1.5", "n/a"], "auto", "row 3: label is 'n/a'; accepted: a number as in other rows"),
        ([0.5, float("nan")], "auto", "row 3: label is nan; accepted: a number"),
        (["a", "\ud83d"], "auto", r"row 3: label is '\\ud83d'; accepted: a text or a number"),
        ([{"a": 1}, "b"], "auto", "row 2: label is {'a': 1}; accepted: a text or a number"),
        ([], "auto", "no rows; accepted: at least one"),
        (["a", "b"], "ranking", "problem is 'ranking'; accepted: auto, classification, multilabel, regression"),
    ],
)
def test_cells_that_pose_no_problem_are_refused(cells, kind, message):
    with pytest.raises(ValueError, match=message):
        infer(table(label=cells), ["label"], kind)


@pytest.mark.parametrize(
    ("cell", "problem", "message"),
    [
        ("c", make("classification", ("a", "b\x1b")), r"^a\.csv, row 2: label is 'c'; accepted: a, 'b\\x1b'$"),
        ("x" * 999, make("classification", ("a", "b")), r"label is 'xxx.*\.\.\.; accepted"),
        (["a", "c"], make("multilabel", ("a",)), "row 2: label is 'c'; accepted: a"),
        ("a", make("multilabel", ("a",)), "row 2: label is 'a'; accepted: a list of labels"),
        ("high", make("regression"), "row 2: label is 'high'; accepted: a number"),
        (True, make("regression"), "row 2: label is True; accepted: a number"),
        ("1e300", make("regression"), r"row 2: label is '1e300'; accepted: a number from -3.403e\+38"),
        (10**400, make("regression"), r"row 2: label is 1000.*\.\.\.; accepted: a number"),
        ("z", make("classification", tuple(map(str, range(30)))), "accepted: 0, 1, .* and 10 more"),
    ],
)
def test_a_cell_that_is_no_target_of_the_problem_is_refused(cell, problem, message):
    with pytest.raises(ValueError, match=message):
        problem.targets(table(label=[cell]), ["label"])


def test_several_columns_have_to_be_the_problems_and_hold_or_not():
    with pytest.raises(ValueError, match="label is a b, and problem .classification.; accepted: one column"):
        infer(table(a=[0], b=[1]), ["a", "b"], "classification")
    with pytest.raises(ValueError, match="row 2: b is 2; accepted: 0, 1, false, true"):
        make("multilabel", ("a", "b")).targets(table(a=[0], b=[2]), ["a", "b"])
    with pytest.raises(ValueError, match="label is a c; accepted: a, b"):
        make("multilabel", ("a", "b")).targets(table(a=[0], c=[1]), ["a", "c"])


@pytest.mark.parametrize(
    ("cells", "labels"),
    [
        (["1.0", "1", "2", "1"], ("1", "2")),
        (["1.0", "2.0", "10.0"], ("1.0", "2.0", "10.0")),
        (["-0", "0", "+1"], ("0", "+1")),
        (["007", "7"], ("007", "7")),
        (["TRUE", "true", "False", "true"], ("False", "true")),
        (["1e3", "1000"], ("1000", "1e3")),
    ],
)
def test_spellings_of_one_number_or_boolean_are_one_label_in_the_spelling_most_rows_have(cells, labels):
    assert both(cells)[0].labels == labels


@pytest.mark.parametrize(
    ("trained", "given", "codes"),
    [
        ([True, False], ["True", "false"], [1, 0]),
        (["True", "False"], [True, False], [1, 0]),
        (["1.0", "2.0", "3.0"], ["1", 2, 3.0], [0, 1, 2]),
        ([1, 2], [np.int64(1), np.float32(2)], [0, 1]),
        (["a", "b"], [np.str_("b"), "a"], [1, 0]),
        ([True, False], [np.True_, np.False_], [1, 0]),
    ],
)
def test_equal_values_are_equal_labels_whatever_wrote_them(trained, given, codes):
    assert infer(table(label=trained), ["label"]).targets(table(label=given), ["label"]).tolist() == codes


@pytest.mark.parametrize(
    ("labels", "given", "names"),
    [
        (("bad", "good"), ["0", 1], ["bad", "good"]),
        (("bad", "good"), [1.0, "0"], ["good", "bad"]),
        (("1.0", "2.0", "3.0"), ["1", "2"], ["1", "2"]),
        (("bad", "good"), ["good", "bad"], ["good", "bad"]),
    ],
)
def test_codes_are_names_only_where_no_label_begins_with_a_digit(labels, given, names):
    assert make("classification", labels).named(table(label=given), ["label"])["label"] == names


@pytest.mark.parametrize(
    ("labels", "given", "message"),
    [
        (("1 star", "2 stars"), ["0", "1"], "row 2: label is '0'; accepted: 1 star, 2 stars"),
        (("bad", "good"), ["good", "1"], r"row 3: label is '1'; accepted: 0 \(bad\), 1 \(good\)"),
        (("bad", "good"), ["2", "1"], r"row 2: label is '2'; accepted: 0 \(bad\), 1 \(good\)"),
    ],
)
def test_what_is_neither_a_name_nor_a_code_is_refused(labels, given, message):
    with pytest.raises(ValueError, match=message):
        make("classification", labels).named(table(label=given), ["label"])


HOT = [[1, 0, 1], [0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize("cells", [HOT, [str(row) for row in HOT], [[bool(bit) for bit in row] for row in HOT]])
def test_lists_of_0_and_1_of_one_length_have_a_place_for_each_label(cells):
    problem, targets = both(cells)
    assert problem == make("multilabel", ("0", "1", "2"))
    assert targets == np.array(HOT, bool).tolist()
    assert make("multilabel", ("a", "b", "c")).targets(table(x=cells), ["x"]).tolist() == targets


def test_lists_of_0_and_1_of_several_lengths_are_refused():
    with pytest.raises(ValueError, match=r"row 2: label is \[1, 0, 1\]; accepted: every label once, or 0 and 1"):
        both([[1, 0, 1], [0, 1]])
    assert both([["0"], ["0", "1"]])[0].labels == ("0", "1")


@pytest.mark.parametrize(
    "cells",
    [
        ["['late', 'cold']", "['rude']", "[]"],
        ["['late' 'cold']", "['rude']", "[]"],
        ["[\"late\", 'cold']", "['rude',]", "[ ]"],
    ],
)
def test_lists_as_python_and_numpy_print_them_are_lists(cells):
    assert both(cells) == (
        make("multilabel", ("cold", "late", "rude")),
        [[True, True, False], [False, False, True], [False, False, False]],
    )


def test_texts_with_a_mark_between_labels_are_parted_where_the_problem_is_said():
    cells = ["late;cold", "rude", "cold ; rude;"]
    with pytest.raises(ValueError, match="row 2: label is 'late;cold'; accepted: the problem said to be multilabel"):
        both(cells)
    assert both(cells, "multilabel")[0].labels == ("cold", "late", "rude")
    assert both(cells, "classification")[0].labels == ("cold ; rude;", "late;cold", "rude")
    assert both(["R&amp;D", "law"])[0].labels == ("R&amp;D", "law")


def test_one_broken_list_among_others_is_named():
    with pytest.raises(ValueError, match=r"row 4: label is '\[\"mid'; accepted: a list of labels"):
        both(['["neg"]', '["pos"]', '["mid', '["neg"]'])


def lines(cells: list[Any], **others: list[Any]) -> list[str]:
    rows = table(label=cells)
    problem = infer(rows, ["label"])
    parts = {"train": rows, **{name: table(label=cells) for name, cells in others.items()}}
    notes = problem.notes({name: problem.targets(part, ["label"]) for name, part in parts.items()})
    return [*problem.respelled(rows, ["label"]), *notes]


def test_labels_that_look_alike_are_noted_with_their_counts():
    alike = "note: labels that differ by space, case or Unicode form alone: "
    assert lines(["pos", "pos ", "neg", "pos"]) == [f"{alike}'pos' (2 rows), 'pos ' (1 rows)"]
    assert lines(["Pos", "pos", "neg"]) == [f"{alike}'Pos' (1 rows), 'pos' (1 rows)"]
    assert lines(["cafe\u0301", "caf\u00e9", "th\u00e9"]) == [f"{alike}'cafe\\u0301' (1 rows), 'caf\\xe9' (1 rows)"]
    assert lines(["1.0", "1", "2", "1"]) == ["note: '1.0' (1 times) is the label '1', whose value is the same"]


def test_a_part_without_a_label_and_labels_without_training_rows_are_noted():
    assert lines(["a", "b", "c"], validation=["a", "c"]) == ["note: validation has no row of b"]
    problem = make("multilabel", ("a", "b"))
    assert list(problem.notes({"train": np.array([[True, False]])})) == ["note: no training row has b"]


def test_many_whole_numbers_are_noted():
    assert lines(list(range(21))) == ["note: 21 whole numbers are taken for classes, not amounts (a regression)"]
    assert lines(list(range(20))) == []


def test_classes_that_a_parquet_file_of_datasets_names_are_read_by_their_names(tmp_path: Path):
    label = {"names": ["neg", "pos"], "_type": "ClassLabel"}
    features = {"label": label, "tags": {"feature": label, "_type": "Sequence"}, "n": {"dtype": "int64"}}
    rows = pyarrow.table({"label": [1, 0], "tags": [[0, 1], []], "n": [0, 1]})
    noted = rows.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(noted, tmp_path / "a.parquet")
    known = decoded(read(tmp_path / "a.parquet"))
    assert known.columns == {"label": ["pos", "neg"], "tags": [["neg", "pos"], []], "n": [0, 1]}
    assert infer(known, ["label"]).labels == ("neg", "pos")
    parquet.write_table(rows.replace_schema_metadata({"huggingface": "[1]"}), tmp_path / "b.parquet")
    assert decoded(read(tmp_path / "b.parquet"))["label"] == [1, 0]
