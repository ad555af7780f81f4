"""Predictions in the form that clients get."""

from typing import Any

import numpy as np
from starlette.exceptions import HTTPException

from adakron_jax.problems import Prediction, Problem
from adakron_jax.serving.messages import EntityGroup, Function, Label, Parameters, Reply

_OF_LABELS, _OF_ENTITIES = ("top_k", "function_to_apply"), ("aggregation_strategy", "ignore_labels")


def check_parameters(problem: Problem, parameters: Parameters) -> None:
    """Raises a fault of 422 if a parameter does not apply to what the adapter predicts."""
    others, accepted = (_OF_LABELS, _OF_ENTITIES) if problem.reads == "token" else (_OF_ENTITIES, _OF_LABELS)
    for name in others:
        if (value := getattr(parameters, name)) is not None:
            kinds = f"{', '.join(accepted)}, truncate"
            raise HTTPException(422, f"{name} is {value!r:.60}; accepted for a {problem.name} adapter: {kinds}")


def reply_of(problem: Problem, prediction: Any, parameters: Parameters) -> Reply:
    """Converts a prediction to the form that clients get."""
    if problem.reads == "token":
        entities = [EntityGroup(**entity) for entity in problem.served(prediction)]
        return [entity for entity in entities if entity.entity_group not in (parameters.ignore_labels or ())]
    return labels_of(problem, prediction, parameters.function_to_apply, parameters.top_k)


def labels_of(problem: Problem, prediction: Prediction, function: Function | None, top_k: int | None) -> list[Label]:
    """Returns labels by falling score, or a regression's number.

    Args:
      function: applied to the logits, which the prediction then has; None for the one that the adapter was trained for.
      top_k: most labels to return; None for all.
    """
    if not problem.labels and function not in (None, "none"):
        raise HTTPException(422, f"function_to_apply is {function!r}; accepted for a {problem.name}: none")
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
