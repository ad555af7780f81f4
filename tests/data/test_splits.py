"""Drawing parts: stratified, by a seed of their own, none with a label that training never saw."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adakron_jax.data.examples import Examples
from adakron_jax.problems import Problem, make
from train.data.glue import TASKS
from train.data.splits import Drawing, draw_splits, hold_fold, hold_out
from train.data.task import Task


def examples(labels: Any, lengths: int = 3) -> Examples:
    """Examples of which each has tokens of its own."""
    labels = np.asarray(labels)
    tokens = np.repeat(np.arange(len(labels), dtype=np.int32), lengths)
    return Examples(tokens, np.zeros(len(tokens), np.int8), np.arange(len(labels) + 1) * lengths, labels, 0)


def task(problem: Problem, **fields: Any) -> Task:
    return Task.of(problem, name="own", texts=("text",), fingerprint="0", **fields)


FOUR, TAGS = make("classification", tuple("abcd")), make("multilabel", ("a", "b"))
LETTERS = task(make("classification", ("a", "b", "c")))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 3), min_size=8, max_size=200), st.floats(0.05, 0.5), st.integers(0, 5))
def test_a_part_takes_its_share_of_every_class_and_leaves_one_of_each(labels, share, seed):
    codes = np.array(labels, np.int32)
    held = hold_out(FOUR, codes, share, seed)
    assert (held == hold_out(FOUR, codes, share, seed)).all()
    for code in set(labels):
        of_class = codes == code
        assert abs(held[of_class].sum() - share * of_class.sum()) <= 1.5
        assert not held[of_class].all()


def test_another_seed_draws_other_rows():
    codes = np.zeros(100, np.int32)
    assert (hold_out(FOUR, codes, 0.2, 0) != hold_out(FOUR, codes, 0.2, 1)).any()
    assert hold_out(FOUR, codes, 0.2, 0).sum() == 20


def test_numbers_are_drawn_from_their_whole_range():
    values = np.random.default_rng(0).normal(size=1000)
    held = values[hold_out(make("regression"), values, 0.1, 0)]
    assert len(held) == 100
    np.testing.assert_allclose(np.quantile(held, [0.1, 0.5, 0.9]), np.quantile(values, [0.1, 0.5, 0.9]), atol=0.05)


def test_multilabel_rows_are_drawn_by_their_rarest_label():
    rare = np.arange(200) % 20 == 0
    targets = np.stack([np.ones(200, bool), rare], axis=1)
    held = hold_out(TAGS, targets, 0.2, 0)
    assert held.sum() == 40
    assert rare[held].sum() == 2
    alone = np.stack([np.ones(200, bool), np.arange(200) == 7], axis=1)
    assert not any(hold_out(TAGS, alone, 0.5, seed)[7] for seed in range(10))


def test_every_row_is_in_one_fold_and_the_folds_are_alike():
    codes = np.repeat([0, 1, 2], [50, 30, 20]).astype(np.int32)
    folds = np.stack([hold_fold(FOUR, codes, 5, fold, seed=3) for fold in range(1, 6)])
    assert (folds.sum(axis=0) == 1).all()
    assert [[(codes[held] == code).sum() for code in range(3)] for held in folds] == [[10, 6, 4]] * 5


def test_the_training_rows_are_parted_into_three():
    drawing = Drawing(validation=0.1, test=0.2, seed=4)
    own = dataclasses.replace(LETTERS, test_splits={"test": ""})
    parts = draw_splits(own, {"train": examples([0, 1, 2] * 100)}, drawing)
    assert [len(part) for part in (parts.train, parts.validation["validation"], parts.test["test"])] == [210, 30, 60]
    assert sorted(row for rows in parts.rows.values() for row in rows) == list(range(1, 301))
    assert parts.rows["train"] == (parts.train.tokens[::3] + 1).tolist()
    assert parts.repeated == {"validation": 0, "test": 0}


def test_limits_cut_the_parts_and_never_move_a_row_from_one_to_another():
    whole = draw_splits(LETTERS, {"train": examples([0, 1, 2] * 100)}, Drawing(validation=0.1))
    limited = Drawing(validation=0.1, limit_train=30, limit_eval=9)
    few = draw_splits(LETTERS, {"train": examples([0, 1, 2] * 100)}, limited)
    assert set(few.rows["train"]) < set(whole.rows["train"])
    assert set(few.rows["validation"]) < set(whole.rows["validation"])
    assert (len(few.rows["train"]), len(few.rows["validation"]), len(few.validation["validation"])) == (30, 9, 9)


def test_limits_are_drawn_like_the_parts_from_a_sorted_table():
    labels = [0] * 270 + [1] * 27 + [2] * 3
    drawn = draw_splits(LETTERS, {"train": examples(labels)}, Drawing(validation=0.1, limit_train=100))
    counts = np.bincount(drawn.train.labels).tolist()
    assert counts[2] >= 1
    assert abs(counts[1] - 9) <= 2
    assert sum(counts) == 100
    assert drawn.rows["train"] == sorted(set(drawn.rows["train"]))
    again = draw_splits(LETTERS, {"train": examples(labels)}, Drawing(validation=0.1, limit_train=100))
    assert again.rows == drawn.rows
    assert draw_splits(LETTERS, {"train": examples(labels)}, Drawing(0.1, limit_train=100, seed=1)).rows != drawn.rows


def test_of_glue_a_limit_takes_the_first_rows():
    labels = np.array([0, 0, 1, 1])
    sets = {"train": examples(labels), "validation": examples(labels)}
    parts = draw_splits(TASKS["rte"], sets, Drawing(limit_train=3))
    assert parts.train.labels.tolist() == [0, 0, 1]


def test_rows_that_the_training_part_has_too_are_counted():
    train = examples([0, 1, 2] * 10)
    parts = draw_splits(LETTERS, {"train": train, "validation": train.take(np.array([3, 4, 4]))}, Drawing())
    assert parts.repeated == {"validation": 3}
    assert parts.rows == {"train": list(range(1, 31))}


def test_what_glue_chooses_by_is_scored_at_the_end_where_a_part_of_training_chooses():
    dev = {"validation_matched": examples([0, 1, 2]), "validation_mismatched": examples([2, 1])}
    held = TASKS["mnli"].holding_out()
    parts = draw_splits(held, {"train": examples([0, 1, 2] * 100), **dev}, Drawing(validation=0.1))
    assert list(parts.validation) == ["held_out"]
    assert list(parts.test) == list(dev)
    assert held.scored == ["accuracy"]


def test_a_regression_learns_standardised_targets_and_is_scored_in_its_unit():
    values = np.linspace(-100, 400, 50)
    sets = {"train": examples(values), "validation": examples(values)}
    parts = draw_splits(task(make("regression")), sets, Drawing())
    problem = parts.task.problem
    assert problem.unit == pytest.approx((150, np.std(values)))
    assert parts.train.labels.dtype == np.float32
    assert parts.train.labels.std() == pytest.approx(1)
    assert parts.validation["validation"].labels.tolist() == values.tolist()
    scores = parts.task.score(values, parts.train.labels[:, None])
    assert scores["rmse"] == pytest.approx(0, abs=1e-4)


def test_balanced_weights_make_classes_count_the_same():
    codes = np.array([0, 0, 0, 1, 3, 3], np.int32)
    weights = FOUR.balanced(codes)
    assert weights.sum() == pytest.approx(6)
    assert [weights[codes == code].sum() for code in (0, 1, 3)] == pytest.approx([2, 2, 2])


@pytest.mark.parametrize(
    ("problem", "labels", "drawing", "message"),
    [
        (LETTERS.problem, [0, 1, 2], Drawing(validation=0.5, test=0.5), "validation is 0.5 and test 0.5 of the rows"),
        (LETTERS.problem, [0, 1], Drawing(), "2 training rows for 3 classes; accepted: a row per class"),
        (LETTERS.problem, [0, 1, 2], Drawing(validation=0.1), "validation: no row of 3 falls to it; accepted: a share"),
        (LETTERS.problem, [0, 1, 2], Drawing(validation=0.1), "and labels that repeat: there are 3 in 3 rows$"),
        (make("classification", ("0,5", "1,5")), [0, 1], Drawing(folds=2), "rows, and numbers with a point for the"),
        (make("regression"), [1, 2], Drawing(folds=3, fold=3), "no row of 2 falls to it; accepted: fewer folds$"),
        (make("regression"), [2.5, 2.5], Drawing(), "every training target is 2.5; accepted: at least two"),
    ],
)
def test_parts_that_cannot_be_are_refused(problem: Problem, labels: list[float], drawing: Drawing, message: str):
    sets = {"train": examples(labels)} | ({} if drawing.draws else {"validation": examples(labels)})
    with pytest.raises(ValueError, match=message):
        draw_splits(task(problem), sets, drawing)


def test_documents_fall_to_one_part_as_a_whole():
    problem, codes = make("classification", ("a", "b")), np.arange(60) % 2
    documents = np.repeat(np.arange(12), 5)
    held = hold_out(problem, codes, 0.25, 0, documents)
    assert held.sum() == 15
    folds = [hold_fold(problem, codes, 3, fold, 0, documents) for fold in (1, 2, 3)]
    assert np.sum(folds, axis=0).tolist() == [1] * 60
    assert all(fold.sum() == 20 for fold in folds)
    for part in (held, *folds):
        assert all(len(set(part[documents == number])) == 1 for number in range(12))
