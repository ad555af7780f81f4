"""When a run is evaluated, how it is scored, and which evaluation is the best."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from adakron_jax.data.batches import batches, shape_for_all
from adakron_jax.data.examples import Examples
from adakron_jax.data.packing import Layout
from adakron_jax.encoders.inputs import Packed
from adakron_jax.evaluation import assess
from adakron_jax.io.files import write_whole
from adakron_jax.predictor import in_order, positions
from adakron_jax.tokenizer import Tokenizer
from train.data.task import metric_of
from train.engine import hosts
from train.engine.dataset import Dataset
from train.engine.run import Run, RunGroup
from train.engine.steps.step import TrainState
from train.options.config import RunConfig
from train.output import predictions, screen
from train.output.predictions import Predicted
from train.output.result import read_evaluation


class Diverged(Exception):
    """The loss or the logits of a configuration's run are no longer finite numbers."""

    def __init__(self, config: RunConfig, text: str):
        super().__init__(text)
        self.config = config


def steps_between(config: RunConfig, data: Dataset) -> int:
    """Returns the most steps between two evaluations; every epoch also ends with one."""
    every = "epoch" if config.evaluate_once else config.eval_every
    return data.steps_per_epoch if every == "epoch" else min(every, data.steps_per_epoch)


def evaluations(config: RunConfig, data: Dataset, start: int) -> Iterator[tuple[int, int]]:
    """Yields (epoch, step) of every evaluation after the step `start`: within epochs, and at the end of each.

    With `evaluate_once`, the ends of the epochs before it are yielded too.
    """
    between = steps_between(config, data)
    for epoch in range(config.last_epoch):
        begin, end = epoch * data.steps_per_epoch, (epoch + 1) * data.steps_per_epoch
        yield from ((epoch, step) for step in (*range(begin + between, end, between), end) if step > start)


def out_of_patience(records: list[dict[str, Any]], patience: int, best_by: str) -> bool:
    """Returns whether the last `patience` evaluations were no better than one before them; never if it is 0."""
    if not patience or not records:
        return False
    return len(records) - 1 - records.index(best_of(records, best_by)) >= patience


def best_of(records: list[dict[str, Any]], best_by: str) -> dict[str, Any]:
    """Returns the record with the best score, the first of equals; the last record if `best_by` is `last`."""
    if best_by == "last":
        return records[-1]
    return max(records, key=lambda record: metric_of(best_by).merit(record[best_by]))


def evaluate(run: Run, state: TrainState, epoch: int, group: RunGroup) -> None:
    """Scores the development sets, and keeps the trainable tree if it is the best so far.

    The training loss that it records is the mean over the epoch's records so far.
    """
    task, step = group.data.task, int(state.step)
    losses = [record["loss"] for record in run.journal.of("train") if record["epoch"] == epoch + 1]
    record: dict[str, Any] = {"kind": "eval", "step": step, "epoch": epoch + 1, "train_loss": float(np.mean(losses))}
    collapsed, first = False, None
    for name, suffix in task.dev_splits.items():
        logits = predict(run, state, group.data.validation[name], group)
        targets = task.problem.targets_of(group.data.validation[name])
        first = first or (targets, logits)
        scores = task.score(targets, logits)
        record |= {metric + suffix: score for metric, score in scores.items()}
        collapsed |= task.problem.collapsed(logits)
    record["collapsed"] = collapsed
    earlier = run.journal.of("eval")
    run.journal.write(record)
    best = best_of([*earlier, record], group.data.best_by) is record
    if best:
        run.checkpoints.save_best(step, state.trainable)
        keep_predictions(run, group, predictions.BEST, first)
    screen.show_evaluation(
        read_evaluation(record, task.scored),
        record["train_loss"],
        run.config.choosing_rows if collapsed else "",
        header=not earlier,
        best=best,
        name=run.config.folder.name if group.several else "",
    )


def score_once(run: Run, state: TrainState, group: RunGroup) -> dict[str, float]:
    """Returns the scores of the splits that no epoch is chosen by."""
    data, scores = group.data, {}
    for name, suffix in data.task.test_splits.items():
        logits, targets = predict(run, state, data.test[name], group), data.task.problem.targets_of(data.test[name])
        if not scores:
            keep_predictions(run, group, predictions.TEST, (targets, logits))
        scored = data.task.score(targets, logits)
        scores |= {metric + suffix: score for metric, score in scored.items()}
    return scores


def keep_predictions(run: Run, group: RunGroup, part: str, scored: Any) -> None:
    """Writes the predictions of a part, from its targets and logits, into the run's folder."""
    targets, logits = scored
    if hosts.is_writer():
        Predicted(targets, group.data.task.problem.predict(logits)).write(run.config.folder, part)


def assess_best(run: Run, state: TrainState, group: RunGroup, tokenizer: Tokenizer) -> None:
    """Writes `evaluation.json`: where the best tree goes wrong on the test part, or else on the part that chose it."""
    data = group.data
    examples = next(iter((data.test or data.validation).values()))
    logits = predict(run, state, examples, group)

    if not hosts.is_writer():
        return
    problem = data.task.problem
    assessment = assess(problem, problem.targets_of(examples), logits, problem.texts_of(examples, tokenizer))
    write_whole(run.config.folder / "evaluation.json", json.dumps(assessment.to_dict()).encode() + b"\n")


def predict(run: Run, state: TrainState, examples: Examples, group: RunGroup) -> Any:
    """Returns the logits as the problem arranges them; `Diverged` if they are not finite."""
    rows, shards = group.shardings.rows, group.shardings.mesh.shape["data"]

    def forward(inputs: Packed, layout: Layout) -> Any:
        del layout
        return group.steps.evaluate(state.trainable, run.frozen, hosts.put_rows(inputs, rows))

    shape = shape_for_all(examples.lengths, shards * positions(), multiple=shards)
    logits = in_order(forward, batches(examples, shape, rows_here=hosts.rows_here(rows)), examples)
    if not np.isfinite(logits).all():
        raise Diverged(run.config, f"the logits after step {int(state.step)} are not finite; try a lower learning rate")
    return group.data.task.problem.arranged(examples, logits)
