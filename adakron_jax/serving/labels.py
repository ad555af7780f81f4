"""Predictions as clients get them."""

import numpy as np
from starlette.exceptions import HTTPException

from adakron_jax.problems import Prediction, Problem
from adakron_jax.serving.messages import Function, Label


def labels_of(problem: Problem, prediction: Prediction, function: Function | None, top_k: int | None) -> list[Label]:
    """Labels by falling score, or a regression's number.

    Args:
      function: applied to the logits, which the prediction then has; None for what the adapter was trained for.
      top_k: how many labels, at most; None for all.
    """
    if not problem.labels and function not in (None, "none"):
        raise HTTPException(422, f"function_to_apply is {function!r}; accepted of a {problem.name}: none")
    if function is None or not problem.labels:
        ordered = problem.served(prediction)
    else:
        scores = _applied(function, np.asarray(prediction.logits, np.float64)).tolist()
        ordered = sorted(zip(problem.labels, scores, strict=True), key=lambda pair: -pair[1])
    return [Label(label=label, score=score) for label, score in ordered[:top_k]]


def _applied(function: Function, logits: np.ndarray) -> np.ndarray:
    if function == "sigmoid":
        return np.exp(-np.logaddexp(0, -logits))
    if function == "softmax":
        odds = np.exp(logits - logits.max())
        return odds / odds.sum()
    return logits
