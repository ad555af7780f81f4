"""Training from a prepared run to its result."""

import itertools
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import jax
import numpy as np

from adakron_jax import adapter
from adakron_jax.params import merge, split
from adakron_jax.splice import is_own
from train import console, data
from train.config import RunConfig
from train.packing import Batch, Plan
from train.predict import of_split
from train.run import Run

RECORDS = 50  # of training, an epoch, at most
SAVE_SECONDS = 600.0  # between checkpoints within an epoch


class Stopped(Exception):
    """The user asked the run to stop; it can be resumed."""


class Diverged(Exception):
    """The loss is no longer a number."""


def train(run: Run) -> dict[str, Any]:
    """Trains to the end or until patience does, evaluating on the way, and writes the run's folder.

    Returns:
      The result, as written to `result.json`.

    Raises:
      Stopped: SIGINT or SIGTERM came; the state is saved.
      Diverged: the loss is not a number; the last checkpoint is kept.
      Damaged: the best tree cannot be read back.
    """
    config, start = run.config, int(run.state.step)
    console.show_learning(run.state.trainable, run.frozen, run.budget)
    console.say(
        f"{len(run.train_set):,} training examples, {run.total_steps:,} steps; rows of {run.plan.row_length} tokens, "
        f"{' or '.join(map(str, run.plan.row_counts))} a batch, {100 * run.plan.padding_fraction:.1f} % padding"
    )
    if start:
        console.say(f"resumed after step {start} of {run.total_steps}")
    journal = console.Journal(config.folder, start)
    try:
        line = console.ProgressLine(run.total_steps, start, config.batch_size, run.overview)
        with stop_signals() as stopping, line:
            for epoch, end in evaluations(run, start):
                if out_of_patience(journal.of("eval"), config):
                    break
                train_epoch(run, epoch, end, journal, line, stopping)
                evaluate(run, epoch, journal)
                run.checkpoints.save(run.state)
                if stopping and end < run.total_steps:
                    stop(run)
        run.stopping = bool(stopping)
        return conclude(run, journal)
    finally:
        run.checkpoints.close()
        journal.close()


def evaluations(run: Run, start: int) -> Iterator[tuple[int, int]]:
    """(epoch, step) of every evaluation after a step: within epochs, and at the end of each."""
    for epoch in range(run.config.epochs):
        begin, end = epoch * run.steps_per_epoch, (epoch + 1) * run.steps_per_epoch
        within = range(begin + run.steps_per_evaluation, end, run.steps_per_evaluation)
        yield from ((epoch, step) for step in (*within, end) if step > start)


def out_of_patience(records: list[dict[str, Any]], config: RunConfig) -> bool:
    """Whether the last `patience` evaluations brought nothing better than one before them."""
    if not config.patience or not records:
        return False
    return len(records) - 1 - records.index(best_of(records, config.best_by)) >= config.patience


def train_epoch(
    run: Run, epoch: int, end: int, journal: console.Journal, line: console.ProgressLine, stopping: list[int]
) -> None:
    """Runs an epoch on to step `end`. Metrics are read one step late, so that the device never waits for the host."""
    begun, compiling, saved = time.monotonic(), run.train_step.seconds, time.monotonic()
    before = run.seconds["train"]
    # So often that every evaluation has a training loss to show.
    every = min(math.ceil(run.steps_per_epoch / RECORDS), run.steps_per_evaluation)
    skip = int(run.state.step) - epoch * run.steps_per_epoch
    step, pending = int(run.state.step), None

    def settle() -> None:
        if pending is None:
            return
        number, metrics = pending
        metrics = {name: float(value) for name, value in jax.device_get(metrics).items()}
        if not math.isfinite(metrics["loss"]):
            raise Diverged(f"the loss at step {number} is {metrics['loss']}; try a lower learning rate")
        if number % every == 0:
            journal.write({"kind": "train", "step": number, "epoch": epoch + 1, **metrics})
        paused = run.seconds["eval"] + run.train_step.seconds
        line.update(number, epoch, metrics, paused)

    for batch, _, ids in itertools.islice(run.plan.batches(run.train_set, epoch, skip), end - step):
        run.state, metrics = run.train_step(run.state, run.frozen, jax.device_put(batch, run.shardings.batch))
        run.trained += int(np.count_nonzero(ids >= 0))
        step += 1
        settle()
        pending = step, metrics
        # The last step is saved after its evaluation, which a resumed run would otherwise leave out.
        if step < end and (stopping or time.monotonic() - saved > SAVE_SECONDS):
            settle()
            pending = None
            run.checkpoints.save(run.state)
            saved = time.monotonic()
            if stopping:
                stop(run)
    settle()
    run.seconds["train"] = before + time.monotonic() - begun - (run.train_step.seconds - compiling)


def stop(run: Run) -> NoReturn:
    """Waits for the checkpoint of this step to be on disk, and ends the run."""
    run.checkpoints.wait()
    raise Stopped(f"stopped after step {int(run.state.step)} of {run.total_steps}; the same command continues")


def evaluate(run: Run, epoch: int, journal: console.Journal) -> None:
    """Scores the development sets, and keeps the trainable tree if it is the best so far.

    The record's training loss is the mean of the epoch's records up to here.
    """
    begun, compiling = time.monotonic(), run.eval_step.seconds
    step = int(run.state.step)
    losses = [record["loss"] for record in journal.of("train") if record["epoch"] == epoch + 1]
    record: dict[str, Any] = {"kind": "eval", "step": step, "epoch": epoch + 1, "train_loss": float(np.mean(losses))}
    collapsed = False
    for name, suffix in run.task.dev_splits.items():
        examples = run.dev_sets[name]
        logits = predict(run, examples, run.dev_plans[name])
        if not np.isfinite(logits).all():
            raise Diverged(f"the answers after step {step} are not finite; try a lower learning rate")
        record |= {metric + suffix: score for metric, score in run.task.score(examples.labels, logits).items()}
        collapsed |= run.task.collapsed(logits)
    record["collapsed"] = collapsed
    earlier = journal.of("eval")
    journal.write(record)
    best = best_of([*earlier, record], run.config.best_by) is record
    if best:
        run.checkpoints.save_best(step, run.state.trainable)
    console.show_evaluation(record, header=not earlier, best=best)
    run.seconds["eval"] += time.monotonic() - begun - (run.eval_step.seconds - compiling)


def best_of(records: list[dict[str, Any]], best_by: str) -> dict[str, Any]:
    """The record with the highest score, the first of equals; or the last record."""
    return records[-1] if best_by == "last" else max(records, key=lambda record: record[best_by])


def predict(run: Run, examples: data.Examples, plan: Plan) -> np.ndarray:
    """Logits [examples, labels] of a whole split, by the run's own state."""

    def answer(batch: Batch) -> Any:
        return run.eval_step(run.state.trainable, run.frozen, jax.device_put(batch, run.shardings.batch))

    return of_split(answer, examples, plan)


def conclude(run: Run, journal: console.Journal) -> dict[str, Any]:
    """Writes the portable adapter of the best evaluation and `result.json`, and shows the summary."""
    config, folder = run.config, run.config.folder
    run.checkpoints.wait()
    records = journal.of("eval")
    best, last = best_of(records, config.best_by), records[-1]
    card = adapter.Card(
        method=config.method,
        task=config.task,
        labels=run.task.labels,
        base=config.model,
        fingerprint=run.fingerprint,
        encoder=run.encoder,
        scores=console.scores(best),
    )
    added = split(run.frozen, is_own)[0]
    learned = run.checkpoints.restore_best(best["step"], run.state.trainable)
    adapter.save(folder / "adapter", merge(learned, added), card)
    seconds = run.seconds | {
        "compile": run.train_step.seconds + run.eval_step.seconds,
        "total": time.monotonic() - run.seconds["total"],
    }
    speed = run.trained / max(seconds["train"], 1e-9)
    result = {
        "task": config.task,
        "model": config.model,
        "method": config.as_toml()["method"],
        "seed": config.seed,
        "params": run.budget,
        "best_by": config.best_by,
        "best": _entry(best),
        "last": _entry(last),
        "collapsed": last["collapsed"],
        "stopped_early": last["step"] < run.total_steps,
        "train_examples": len(run.train_set),
        "throughput": {
            "examples_per_second": speed,
            "tokens_per_second": speed * float(np.mean(run.train_set.lengths)),
            "padding_fraction": run.plan.padding_fraction,
        },
        "seconds": seconds,
        "compilations": {
            "train": len(run.train_step.executables) - run.compiled_before["train"],
            "eval": len(run.eval_step.executables) - run.compiled_before["eval"],
        },
        "device": console.device(),
        "versions": console.versions(),
    }
    console.write_result(folder, result)
    console.show_result(result, config)
    return result


def _entry(record: dict[str, Any]) -> dict[str, Any]:
    return {"epoch": record["epoch"], "step": record["step"], **console.scores(record)}


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM in a list, so that a step is never cut in two; a second one acts at once."""
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def receive(number: int, frame: Any) -> None:
        received.append(number)
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in before:
        signal.signal(number, receive)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
