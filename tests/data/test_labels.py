"""What label columns ask for, and their cells as targets."""

from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from adakron_jax.data.table import Table
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
