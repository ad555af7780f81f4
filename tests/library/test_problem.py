"""What logits mean: labels, sets of labels, numbers."""

import jax.numpy as jnp
import numpy as np
import pytest

from adakron_jax.problems import Problem, from_json, make

LOGITS = np.array([[2.0, -1.0, 0.5], [-3.0, -1.0, -2.0]], np.float32)


def test_a_classification_takes_the_likeliest_label():
    problem = make("classification", ("a", "b", "c"))
    assert problem.outputs == 3
    assert problem.predict(LOGITS).tolist() == [0, 1]
    odds = np.exp(LOGITS)
    np.testing.assert_allclose(problem.probabilities(LOGITS), odds / odds.sum(1, keepdims=True), rtol=1e-6)


def test_a_multilabel_takes_every_label_that_is_likelier_than_not():
    problem = make("multilabel", ("a", "b", "c"))
    assert problem.predict(LOGITS).tolist() == [[True, False, True], [False, False, False]]
    np.testing.assert_allclose(problem.probabilities(LOGITS), 1 / (1 + np.exp(-LOGITS)), rtol=1e-6)


def test_a_regression_answers_in_its_own_unit():
    problem = make("regression", mean=150.0, scale=50.0)
    assert problem.outputs == 1
    assert problem.predict(LOGITS[:, :1]).tolist() == [250.0, 0.0]
    with pytest.raises(ValueError, match="^a regression has no probabilities"):
        problem.probabilities(LOGITS[:, :1])


def test_probabilities_of_extreme_logits_are_numbers():
    extreme = np.array([[1e4, -1e4]], np.float32)
    for kind in ("classification", "multilabel"):
        assert make(kind, ("a", "b")).probabilities(extreme).tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("problem", [make("multilabel", ("ç", "b")), make("regression", mean=1.5, scale=0.1)])
def test_it_is_read_back_from_json(problem: Problem):
    assert from_json(problem.as_json()) == problem


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"kind": "ranking", "labels": ("a",)}, "problem is 'ranking'; accepted: classification, multilabel"),
        ({"kind": "regression", "labels": ("a",)}, r"labels of a regression are \['a'\]"),
        ({"kind": "classification"}, r"labels of a classification are \[\]"),
        ({"kind": "classification", "labels": ("a", "a")}, r"labels are \['a', 'a'\]; accepted: every label once"),
        ({"kind": "regression", "scale": 0.0}, "mean and scale are 0.0 and 0.0"),
        ({"kind": "regression", "mean": float("nan")}, "mean and scale are nan and 1.0"),
    ],
)
def test_what_cannot_be_is_refused(fields: dict, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        make(**fields)


def test_a_regression_far_from_0_has_a_fine_unit():
    problem = make("regression", mean=1.7e9, scale=20.0)
    logits = np.array([[-1.0], [0.0], [0.125]], np.float32)
    assert problem.predict(logits).tolist() == [1.7e9 - 20, 1.7e9, 1.7e9 + 2.5]
    assert [score for _, score in [problem.served(each)[0] for each in problem.predictions(logits)]] == [
        1.7e9 - 20,
        1.7e9,
        1.7e9 + 2.5,
    ]


@pytest.mark.parametrize(
    ("problem", "targets", "logits"),
    [
        (make("classification", ("a", "b")), np.array([0, 0, 0, 1]), np.log([[0.75, 0.25]] * 4)),
        (make("multilabel", ("a",)), np.array([[True], [False], [False], [False]]), np.full((4, 1), -np.log(3))),
        (make("regression"), np.array([1.0, -1.0, 3.0, 1.0], np.float32), np.ones((4, 1))),
    ],
)
def test_the_loss_of_one_prediction_for_all_is_the_least_that_it_can_have(problem, targets, logits):
    losses = problem.losses(jnp.asarray(logits, jnp.float32), jnp.asarray(targets))
    assert problem.constant_loss(targets, None) == pytest.approx(float(losses.mean()), rel=1e-6)


def test_a_prediction_prints_short_and_is_a_dict_or_a_frame():
    (first, _) = make("classification", ("a", "b", "c")).predictions(LOGITS)
    assert repr(first) == "Prediction('a', 0.7856)"
    assert first.to_dict() == {"label": "a", "score": first.score, "probabilities": first.probabilities}
    assert first.to_frame()["label"].tolist() == ["a", "c", "b"]
    (number, _) = make("regression").predictions(LOGITS[:, :1], with_logits=True)
    assert (repr(number), number.to_dict()) == ("Prediction(2)", {"label": None, "score": 2.0, "logits": (2.0,)})
    assert number.to_frame()["score"].tolist() == [2.0]
