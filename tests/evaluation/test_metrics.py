"""The metrics, on small cases by hand and against scikit-learn's on drawn ones."""

import math

import numpy as np
import pytest
from sklearn import metrics as sklearn

from adakron_jax.evaluation.metrics import METRICS
from adakron_jax.problems import KINDS

# 10 examples: 4 true positives, 3 true negatives, 1 false positive, 2 false negatives.
LABELS = np.array([1, 1, 1, 1, 0, 0, 0, 0, 1, 1])
PREDICTIONS = np.array([1, 1, 1, 1, 0, 0, 0, 1, 0, 0])


def test_f1_without_any_positive_answer_is_0(recwarn: pytest.WarningsRecorder):
    assert METRICS["f1"](LABELS, np.zeros_like(LABELS)) == 0
    assert METRICS["f1"](np.zeros_like(LABELS), np.zeros_like(LABELS)) == 0
    assert not recwarn.list


def test_pearson_correlation_of_four_points():
    # Deviations from the means: (-2, -1, 1, 2) and (-1, -2, 0, 3); 10 / sqrt(10 * 14).
    labels, predictions = np.array([1, 2, 4, 5], np.float32), np.array([2, 1, 3, 6], np.float32)
    assert METRICS["pearson"](labels, predictions) == pytest.approx(10 / math.sqrt(140), abs=1e-6)
    assert METRICS["pearson"](labels, -2 * labels + 7) == pytest.approx(-1)


def test_spearman_correlation_sees_ranks_only():
    labels, predictions = np.array([1.0, 2.0, 3.0, 4.0]), np.array([10.0, 1000.0, 20.0, 5000.0])
    # Ranks 1 2 3 4 and 1 3 2 4: 1 - 6 * (1 + 1) / (4 * 15).
    assert METRICS["spearman"](labels, predictions) == pytest.approx(0.8)
    assert METRICS["spearman"](labels, np.exp(labels)) == pytest.approx(1)


def test_spearman_gives_equal_values_their_mean_rank():
    # Ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4: deviations give 4.5 / sqrt(4.5 * 5).
    labels, predictions = np.array([0.0, 2.0, 2.0, 5.0]), np.array([1.0, 2.0, 3.0, 4.0])
    assert METRICS["spearman"](labels, predictions) == pytest.approx(4.5 / math.sqrt(22.5))


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_a_correlation_with_a_constant_is_0(name: str, recwarn: pytest.WarningsRecorder):
    moving, still = np.array([0.0, 1.0, 5.0]), np.full(3, 2.5)
    assert METRICS[name](moving, still) == 0
    assert METRICS[name](still, moving) == 0
    assert METRICS[name](still, still) == 0
    assert not recwarn.list


def test_matthews_correlation_with_a_constant_is_0(recwarn: pytest.WarningsRecorder):
    assert METRICS["matthews"](LABELS, np.ones_like(LABELS)) == 0
    assert METRICS["matthews"](np.zeros_like(LABELS), PREDICTIONS) == 0
    assert not recwarn.list


def drawn(seed: int, labels: int, examples: int = 200) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    targets = random.integers(labels, size=examples).astype(np.int32)
    return targets, np.where(random.random(examples) < 0.6, targets, random.integers(labels, size=examples))


@pytest.mark.parametrize("labels", [2, 5, 77])
@pytest.mark.parametrize("seed", range(3))
def test_scores_of_codes_are_scikit_learns(labels: int, seed: int):
    targets, predictions = drawn(seed, labels)
    given = {
        "accuracy": sklearn.accuracy_score(targets, predictions),
        "macro_f1": sklearn.f1_score(targets, predictions, average="macro", zero_division=0.0),  # pyright: ignore
        "weighted_f1": sklearn.f1_score(targets, predictions, average="weighted", zero_division=0.0),  # pyright: ignore
        "matthews": sklearn.matthews_corrcoef(targets, predictions),
    }
    assert {name: METRICS[name](targets, predictions) for name in KINDS["classification"].metrics} == pytest.approx(
        given, abs=1e-12
    )


@pytest.mark.parametrize("seed", range(5))
def test_glues_two_of_counts_are_scikit_learns_to_the_last_bit(seed: int):
    targets, predictions = drawn(seed, 2)
    assert METRICS["f1"](targets, predictions) == sklearn.f1_score(targets, predictions)
    assert METRICS["matthews"](targets, predictions) == sklearn.matthews_corrcoef(targets, predictions)


@pytest.mark.parametrize("seed", range(3))
def test_scores_of_several_labels_are_scikit_learns(seed: int, recwarn: pytest.WarningsRecorder):
    random = np.random.default_rng(seed)
    targets = random.random((100, 6)) < 0.3
    predictions = targets ^ (random.random((100, 6)) < 0.1)
    targets[:, 5] = predictions[:, 5] = False  # a label that stands nowhere counts as 0
    given = {
        f"{average}_f1": sklearn.f1_score(targets, predictions, average=average, zero_division=0.0)  # pyright: ignore
        for average in ("micro", "macro")
    }
    given["subset_accuracy"] = sklearn.accuracy_score(targets, predictions)
    found = {name: METRICS[name](targets, predictions) for name in KINDS["multilabel"].metrics}
    assert found == pytest.approx(given, abs=1e-12)
    assert not recwarn.list


def test_errors_are_in_the_unit_of_the_targets():
    targets, predictions = np.array([-100.0, 0.0, 400.0]), np.array([-97.0, 0.0, 396.0])
    assert METRICS["rmse"](targets, predictions) == pytest.approx(5 / math.sqrt(3))
    assert METRICS["mae"](targets, predictions) == pytest.approx(7 / 3)
    assert METRICS["rmse"].show(28.8675) == "28.87"
    assert METRICS["accuracy"].show(0.28867) == "28.87"


def test_more_merit_is_better_whatever_the_metric():
    assert METRICS["accuracy"].merit(0.9) > METRICS["accuracy"].merit(0.8)
    assert METRICS["rmse"].merit(3.0) > METRICS["rmse"].merit(4.0)


def test_every_metric_knows_the_values_it_can_have():
    assert METRICS["matthews"].holds(-1.0)
    assert not METRICS["accuracy"].holds(-0.1)
    assert not METRICS["accuracy"].holds(math.nan)
    assert METRICS["rmse"].holds(400.0)
    assert not METRICS["rmse"].holds(-1.0)
    assert not METRICS["mae"].holds(math.inf)


def test_every_kind_of_problem_has_metrics():
    assert all(name in METRICS for kind in KINDS.values() for name in kind.metrics)
