"""The nine tasks and their metrics, against numbers worked out by hand."""

import numpy as np
import pytest

from adakron_jax.evaluation.metrics import METRICS
from train.data.glue import BOUNDS, TASKS
from train.data.task import metric_of

# 10 examples: 4 true positives, 3 true negatives, 1 false positive, 2 false negatives.
LABELS = np.array([1, 1, 1, 1, 0, 0, 0, 0, 1, 1])
PREDICTIONS = np.array([1, 1, 1, 1, 0, 0, 0, 1, 0, 0])

# As the hub's `nyu-mll/glue` declares them: columns, label names in order of code, splits with labels beside train.
ON_THE_HUB = {
    "cola": (["sentence"], ["unacceptable", "acceptable"], ["validation"]),
    "sst2": (["sentence"], ["negative", "positive"], ["validation"]),
    "mrpc": (["sentence1", "sentence2"], ["not_equivalent", "equivalent"], ["validation"]),
    "qqp": (["question1", "question2"], ["not_duplicate", "duplicate"], ["validation"]),
    "stsb": (["sentence1", "sentence2"], [], ["validation"]),
    "mnli": (
        ["premise", "hypothesis"],
        ["entailment", "neutral", "contradiction"],
        ["validation_matched", "validation_mismatched"],
    ),
    "qnli": (["question", "sentence"], ["entailment", "not_entailment"], ["validation"]),
    "rte": (["sentence1", "sentence2"], ["entailment", "not_entailment"], ["validation"]),
    "wnli": (["sentence1", "sentence2"], ["not_entailment", "entailment"], ["validation"]),
}


def one_hot(codes, num_labels: int) -> np.ndarray:
    return np.eye(num_labels, dtype=np.float32)[np.asarray(codes)]


def test_the_nine_tasks_are_there_and_no_other():
    assert set(TASKS) == set(ON_THE_HUB)
    assert all(task.name == name for name, task in TASKS.items())


@pytest.mark.parametrize("name", ON_THE_HUB)
def test_columns_labels_and_dev_splits_are_those_of_the_hub(name: str):
    task = TASKS[name]
    columns, labels, dev_splits = ON_THE_HUB[name]
    assert list(task.texts) == columns
    assert list(task.labels) == labels
    assert list(task.dev_splits) == dev_splits
    assert task.problem.outputs == max(1, len(labels))
    assert (task.name in BOUNDS) == (name == "stsb")


@pytest.mark.parametrize(
    ("name", "metrics"),
    [
        ("cola", ("matthews", "accuracy")),
        ("mrpc", ("f1", "accuracy")),
        ("qqp", ("f1", "accuracy")),
        ("stsb", ("pearson", "spearman")),
        *((name, ("accuracy",)) for name in ("sst2", "mnli", "qnli", "rte", "wnli")),
    ],
)
def test_each_task_reports_its_metrics_with_the_papers_first(name: str, metrics: tuple[str, ...]):
    assert TASKS[name].metrics == metrics


def test_the_last_epoch_counts_for_cola_and_stsb_and_the_most_accurate_for_the_others():
    assert {name: task.best_by for name, task in TASKS.items()} == {
        name: "last" if name in ("cola", "stsb") else "accuracy" for name in TASKS
    }


def test_only_mnlis_second_dev_split_gives_its_metrics_a_suffix():
    suffixes = {(name, split): suffix for name, task in TASKS.items() for split, suffix in task.dev_splits.items()}
    assert {key: suffix for key, suffix in suffixes.items() if suffix} == {
        ("mnli", "validation_mismatched"): "_mismatched"
    }


def test_a_class_is_predicted_by_its_largest_logit():
    logits = np.array([[-3.0, -1.0, -2.0], [0.5, 0.4, 0.3], [1.0, 2.0, 9.0]])
    assert TASKS["mnli"].problem.predict(logits).tolist() == [1, 0, 2]


def test_a_regression_predicts_its_single_logit_unchanged():
    assert TASKS["stsb"].problem.predict(np.array([[-0.5], [2.25], [7.0]])).tolist() == [-0.5, 2.25, 7.0]


def test_score_gives_every_metric_of_the_task_as_plain_numbers():
    scores = TASKS["mrpc"].score(LABELS, one_hot(PREDICTIONS, 2))
    assert scores == pytest.approx({"f1": 8 / 11, "accuracy": 0.7})
    scores |= TASKS["stsb"].score(np.array([0.0, 1.0, 2.0]), np.array([[1.0], [2.0], [3.0]]))
    assert scores["pearson"] == pytest.approx(1)
    assert scores["spearman"] == pytest.approx(1)
    assert {type(score) for score in scores.values()} == {float}


def test_a_classifier_has_collapsed_when_every_answer_is_the_same():
    task = TASKS["mnli"]
    assert task.problem.collapsed(one_hot([1, 1, 1], 3))
    assert task.problem.collapsed(np.array([[0.1, 0.2, 0.0], [-5.0, 9.0, 3.0]]))
    assert not task.problem.collapsed(one_hot([1, 1, 2], 3))


def test_a_regression_has_collapsed_when_its_values_differ_by_rounding_only():
    task = TASKS["stsb"]
    assert task.problem.collapsed(np.array([[2.5], [2.5], [2.5000005]], np.float32))
    assert not task.problem.collapsed(np.array([[2.5], [2.5], [2.501]], np.float32))


def test_the_metric_of_a_score_is_looked_up_by_its_whole_name():
    assert metric_of("f1") is METRICS["f1"]
    assert metric_of("accuracy_mismatched") is METRICS["accuracy"]
    assert metric_of("macro_f1_mismatched") is METRICS["macro_f1"]
    with pytest.raises(KeyError):
        metric_of("accuracy_of_another_kind")
