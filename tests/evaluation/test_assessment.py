"""What is said of predictions, on cases whose answer is plain."""

import json

import numpy as np
import pytest

from adakron_jax.evaluation.assessment import MISTAKES, Assessment, assess
from adakron_jax.evaluation.metrics import RESAMPLES
from adakron_jax.problems import make
from adakron_jax.problems.regression import POINTS

THREE = make("classification", ("a", "b", "c"))
SEVERAL = make("multilabel", ("a", "b"))
NUMBER = make("regression", mean=10.0, scale=2.0)


def logits(*probabilities: tuple[float, ...]) -> np.ndarray:
    return np.log(np.asarray(probabilities, np.float32))


def classified() -> Assessment:
    """Targets a, a, b, c; predictions a, b, b, a with probabilities 0.8, 0.6, 0.7, 0.9."""
    told = logits((0.8, 0.1, 0.1), (0.3, 0.6, 0.1), (0.2, 0.7, 0.1), (0.9, 0.05, 0.05))
    return assess(THREE, np.array([0, 0, 1, 2], np.int32), told, ["w", ("x", "y"), "z", ["v"]])


def several() -> Assessment:
    targets = np.array([[True, False], [True, True], [False, False]])
    return assess(SEVERAL, targets, np.array([[3.0, -1.0], [-2.0, 1.0], [-4.0, 0.5]], np.float32), ["x", "y", "z"])


def numbers() -> Assessment:
    return assess(NUMBER, np.array([10.0, 12.0, 8.0]), np.array([[0.0], [1.5], [-1.0]], np.float32), ["x", "y", "z"])


def test_labels_have_precision_recall_f1_and_support():
    a, b, c = classified().labels
    assert (a.label, a.precision, a.recall, a.f1, a.support) == ("a", 0.5, 0.5, 0.5, 2)
    assert (b.precision, b.recall, b.support) == (0.5, 1.0, 1)
    assert b.f1 == pytest.approx(2 / 3)
    assert (c.precision, c.recall, c.f1, c.support) == (0, 0, 0, 1)


def test_the_confusion_matrix_has_targets_in_rows():
    assert classified().confusion == ((1, 1, 0), (0, 1, 0), (1, 0, 0))
    assert classified().confused == [("a", "b", 1), ("c", "a", 1)]


def test_mistakes_come_surest_first_with_their_texts():
    first, second = classified().mistakes
    assert (first.texts, first.target, first.predicted) == (("v",), "c", "a")
    assert (second.texts, second.target, second.predicted) == (("x", "y"), "a", "b")
    assert (first.weight, second.weight) == pytest.approx((0.9, 0.6))


def test_twenty_mistakes_are_shown_and_no_right_prediction():
    codes = np.zeros(50, np.int32)
    assert len(assess(THREE, codes + 1, np.tile(logits((0.8, 0.1, 0.1)), (50, 1)), ["x"] * 50).mistakes) == MISTAKES
    assert not assess(THREE, codes, np.tile(logits((0.8, 0.1, 0.1)), (50, 1)), ["x"] * 50).mistakes


def test_calibration_is_the_distance_of_probability_and_share_by_bins():
    assessed = classified()
    assert assessed.calibration_error == pytest.approx((0.2 + 0.6 + 0.3 + 0.9) / 4)
    assert [(each.count, each.right) for each in assessed.bins] == [(1, 0.0), (1, 1.0), (1, 1.0), (1, 0.0)]
    assert all(each.low <= each.probability < each.high for each in assessed.bins)
    sure = assess(THREE, np.array([0, 0]), np.array([[90.0, 0, 0], [90.0, 0, 0]], np.float32), ["x", "y"])
    assert sure.calibration_error == 0
    assert sure.bins[0].high == 1


def test_of_several_labels_every_one_is_calibrated_and_a_mistake_is_as_sure_as_its_surest_label():
    assessed = several()
    assert sum(each.count for each in assessed.bins) == 6
    assert [(each.texts, each.target, each.predicted) for each in assessed.mistakes] == [
        (("y",), ["a", "b"], ["b"]),
        (("z",), [], ["b"]),
    ]
    assert assessed.mistakes[0].weight == pytest.approx(1 / (1 + np.exp(-2)))
    assert [each.support for each in assessed.labels] == [2, 1]
    assert not assessed.confusion


def test_of_numbers_the_largest_errors_are_the_mistakes_in_their_unit():
    (mistake,) = numbers().mistakes
    assert (mistake.texts, mistake.target, mistake.predicted, mistake.weight) == (("y",), 12.0, 13.0, 1.0)
    assert numbers().points == ((10.0, 10.0), (12.0, 13.0), (8.0, 8.0))
    assert numbers().scores["mae"] == pytest.approx(1 / 3)


def test_of_many_numbers_some_points_are_kept_evenly():
    many = np.arange(2 * POINTS, dtype=np.float64)
    kept = assess(make("regression"), many, many[:, None].astype(np.float32), [""] * len(many)).points
    assert len(kept) == POINTS
    assert (kept[0][0], kept[-1][0]) == (0, len(many) - 1)


def test_an_interval_is_that_of_a_share_and_the_same_every_time():
    random = np.random.default_rng(0)
    right = random.random(400) < 0.8
    told = np.where(right[:, None], logits((0.8, 0.1, 0.1)), logits((0.1, 0.8, 0.1)))
    assessed = assess(THREE, np.zeros(400, np.int32), told, [""] * 400)
    low, high = assessed.intervals["accuracy"]
    width = 1.96 * np.sqrt(right.mean() * (1 - right.mean()) / 400)
    assert (low, high) == pytest.approx((right.mean() - width, right.mean() + width), abs=0.01)
    assert assessed == assess(THREE, np.zeros(400, np.int32), told, [""] * 400)
    assert RESAMPLES == 1000


@pytest.mark.parametrize("made", [classified, several, numbers])
def test_as_json_it_has_metrics_at_the_top_and_comes_back_whole(made):
    values = json.loads(json.dumps(made().to_dict()))
    assert {name: values[name] for name in made().scores} == made().scores
    assert Assessment.from_json(values, made().problem) == made()


def test_no_examples_are_refused():
    with pytest.raises(ValueError, match="no examples to evaluate"):
        assess(THREE, np.zeros(0, np.int32), np.zeros((0, 3), np.float32), [])


def test_of_thousands_of_labels_the_most_frequent_confusions_are_kept():
    problem = make("classification", tuple(f"label {code}" for code in range(3000)))
    targets = np.arange(3000).repeat(2)
    told = np.where(targets % 2 == 1, targets, 0)
    assessed = assess(problem, targets, np.eye(3000, dtype=np.float32)[told], [""] * 6000)
    text = json.dumps(assessed.to_dict())
    assert len(text) < 2**20
    assert assessed.confusion == ()
    assert assessed.confused[0] == ("label 2", "label 0", 2)
    assert Assessment.from_json(json.loads(text), problem) == assessed


def test_it_prints_short_and_is_a_dict_or_frames():
    assessed = classified()
    assert repr(assessed).startswith("Assessment(4 examples, 3 labels: accuracy 50.00 [")
    assert assessed.to_frame()["value"].to_dict() == assessed.scores
    assert assessed.to_frame("labels")["support"].tolist() == [2, 1, 1]
    assert assessed.to_frame("confused").values.tolist() == [["a", "b", 1], ["c", "a", 1]]
    assert assessed.to_frame("mistakes")["predicted"].tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="part is 'pages'; accepted: scores, confused, labels, bins, mistakes"):
        assessed.to_frame("pages")
