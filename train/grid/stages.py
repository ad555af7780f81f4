"""The configurations of a run in the two stages of a selection: choosing a value, and scoring the chosen one."""

import dataclasses
from typing import Any

from train.data.glue import TASKS
from train.data.sources import split_named
from train.data.splits import SHARE, share
from train.options.config import RunConfig
from train.options.launch import EPOCHS, OF_METHOD

Values = dict[str, Any]  # by field, under the name that `--select` has for it


def value_of(run: RunConfig, field: str) -> Any:
    """Returns a run's value of a selected field; ValueError if its method has no such field."""
    name = field.removeprefix(OF_METHOD)
    if name == field:
        return getattr(run, name)
    if not hasattr(run.method, name):
        raise ValueError(f"select is {field!r}, and method {run.method.name} has no field {name}")
    return getattr(run.method, name)


def with_values(run: RunConfig, values: Values) -> RunConfig:
    """Returns the run with these values; ValueError if one is out of its range."""
    method = {name.removeprefix(OF_METHOD): value for name, value in values.items() if name.startswith(OF_METHOD)}
    others = {name: value for name, value in values.items() if not name.startswith(OF_METHOD) and name != EPOCHS}
    return dataclasses.replace(run, **others, method=dataclasses.replace(run.method, **method))


def choosing(run: RunConfig) -> RunConfig:
    """Returns the run that scores a value on held-out rows, after every epoch, and sees no other rows.

    Raises:
      ValueError: the same rows would both choose and be scored.
    """
    held_out = "auto" if run.folds > 1 else run.validation if run.validation != "auto" else str(SHARE)
    test = "none"
    if run.custom_data:
        scored = _scored(run)
        test = scored if share(scored) else "none"  # a share is taken out of the training rows, though not scored
        if run.folds == 1 and run.validation == "auto" and run.test != "none":
            held_out = split_named(run.data, "validation") or held_out
        if held_out == scored and not share(scored):
            raise ValueError(
                f"validation is {held_out!r}, the rows that are scored at the end; accepted: others, or a share"
            )
    return dataclasses.replace(run, validation=held_out, test=test, best_by=_metric_of_choice(run), score_test=False)


def _metric_of_choice(run: RunConfig) -> str:
    """Returns the metric of `--best-by`; the headline if that is `last`, the default of two of GLUE's tasks."""
    if run.custom_data:
        return "auto" if run.best_by == "last" else run.best_by
    best_by = TASKS[run.task].best_by if run.best_by == "auto" else run.best_by
    return run.metrics[0] if best_by == "last" else best_by


def scoring(run: RunConfig) -> RunConfig:
    """Returns the run on all training rows, which is scored once, after its last epoch."""
    scored = _scored(run) if run.custom_data else "auto"
    once = {"best_by": "last", "evaluate_once": run.epochs, "score_test": True}
    return dataclasses.replace(run, validation=scored, test="none", folds=1, fold=1, **once)


def _scored(run: RunConfig) -> str:
    """Returns the rows of custom data that score what was chosen: `--test`, the validation split, or else a share."""
    if run.test != "none":
        return run.test
    if run.validation != "auto" and not share(run.validation):
        raise ValueError(
            f"validation is {run.validation!r}, which would both choose and score; accepted: a share, or --test with "
            "other rows"
        )
    return split_named(run.data, "validation") or str(SHARE)
