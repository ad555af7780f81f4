"""Training from a prepared run to its result."""

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import jax
import numpy as np

from adakron_jax import adapter
from adakron_jax.data import tokenizer
from adakron_jax.data.packing import Batch, Plan
from adakron_jax.forward import of_split
from adakron_jax.params import merge_params, split_params
from adakron_jax.splice import is_own
from train.engine import signals
from train.engine.prepare import Run
from train.engine.together import Crew
from train.options.config import RunConfig
from train.output import progress, screen
from train.output.journal import Journal
from train.output.result import device, scores, versions, write_result

RECORDS = 50  # of training, an epoch, at most
SAVE_SECONDS = 600.0  # between checkpoints within an epoch


class Stopped(Exception):
    """The user asked the run to stop; it can be resumed."""


class Diverged(Exception):
    """The loss of a run is no longer a number."""

    def __init__(self, run: Run, text: str):
        super().__init__(text)
        self.run = run


def train(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Trains to the end or until patience does, evaluating on the way, and writes the folders of the runs.

    Args:
      runs: one, or several that take their steps together, as a Crew does.

    Returns:
      The results, as written to each `result.json`.

    Raises:
      Stopped: SIGINT or SIGTERM came; the state is saved.
      Diverged: the loss of a run is not a number; the last checkpoint is kept.
      Damaged: the best tree cannot be read back.
    """
    crew = Crew(runs)
    lead, start = crew.lead, int(crew.lead.state.step)
    screen.show_learning(lead.state.trainable, lead.frozen, lead.budget)
    for run in runs:
        counts = " or ".join(map(str, run.plan.row_counts))
        screen.say(
            f"{len(run.train_set):,} training examples, {run.total_steps:,} steps; rows of {run.plan.row_length} "
            f"tokens, {counts} a batch, {100 * run.plan.padding_fraction:.1f} % padding"
        )
    if start:
        screen.say(f"resumed after step {start} of {lead.total_steps}")
    journals = [Journal(run.config.folder, start) for run in runs]
    try:
        line = progress.ProgressLine(lead.total_steps, start, lead.config.batch_size * len(runs), lead.overview)
        with signals.held() as stopping, line:
            for epoch, end in evaluations(lead, start):
                if out_of_patience(journals[0].of("eval"), lead.config):  # several have none
                    break
                train_epoch(crew, epoch, end, journals, line, stopping)
                line.note(f"epoch {epoch + 1}  evaluating")
                for run, journal in zip(runs, journals, strict=True):
                    evaluate(run, epoch, journal, of_several=crew.several)
                    run.checkpoints.save(run.state)
                if stopping and end < lead.total_steps:
                    stop(runs)
        lead.stopping = bool(stopping)
        return [conclude(run, journal, len(runs)) for run, journal in zip(runs, journals, strict=True)]
    finally:
        for run, journal in zip(runs, journals, strict=True):
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
    crew: Crew,
    epoch: int,
    end: int,
    journals: Sequence[Journal],
    line: progress.ProgressLine,
    stopping: list[int],
) -> None:
    """Runs an epoch on to step `end`. Metrics are read one step late, so that the device never waits for the host."""
    runs, lead, compiled = crew.runs, crew.lead, crew.lead.train_step
    begun, compiling, saved = time.monotonic(), compiled.seconds, time.monotonic()
    # So often that every evaluation has a training loss to show.
    every = min(math.ceil(lead.steps_per_epoch / RECORDS), lead.steps_per_evaluation)
    skip = int(lead.state.step) - epoch * lead.steps_per_epoch
    step, pending = int(lead.state.step), None

    def settle() -> None:
        if pending is None:
            return
        number, metrics = pending
        each = crew.of_each(metrics)
        for run, journal, its in zip(runs, journals, each, strict=True):
            if not math.isfinite(its["loss"]):
                raise Diverged(run, f"the loss at step {number} is {its['loss']}; try a lower learning rate")
            if number % every == 0:
                journal.write({"kind": "train", "step": number, "epoch": epoch + 1, **its})
        mean = {name: float(np.mean([its[name] for its in each])) for name in each[0]}
        line.update(number, epoch, mean, sum(run.seconds["eval"] for run in runs) + compiled.seconds)

    crew.gather()
    batches = zip(*(run.plan.batches(run.train_set, epoch, skip) for run in runs), strict=True)
    for parts in itertools.islice(batches, end - step):
        metrics = crew.step([batch for batch, _, _ in parts])
        for run, (_, _, ids) in zip(runs, parts, strict=True):
            run.trained += int(np.count_nonzero(ids >= 0))
        step += 1
        settle()
        pending = step, metrics
        # The last step is saved after its evaluation, which a resumed run would otherwise leave out.
        if step < end and (stopping or time.monotonic() - saved > SAVE_SECONDS):
            settle()
            pending = None
            crew.scatter()
            for run in runs:
                run.checkpoints.save(run.state)
            saved = time.monotonic()
            if stopping:
                stop(runs)
    settle()
    crew.scatter()
    for run in runs:
        run.seconds["train"] += time.monotonic() - begun - (compiled.seconds - compiling)


def stop(runs: Sequence[Run]) -> NoReturn:
    """Waits for the checkpoints of this step to be on disk, and ends the runs."""
    for run in runs:
        run.checkpoints.wait()
    raise Stopped(f"stopped after step {int(runs[0].state.step)} of {runs[0].total_steps}; the same command continues")


def evaluate(run: Run, epoch: int, journal: Journal, of_several: bool) -> None:
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
            raise Diverged(run, f"the answers after step {step} are not finite; try a lower learning rate")
        record |= {metric + suffix: score for metric, score in run.task.score(examples.labels, logits).items()}
        collapsed |= run.task.collapsed(logits)
    record["collapsed"] = collapsed
    earlier = journal.of("eval")
    journal.write(record)
    best = best_of([*earlier, record], run.config.best_by) is record
    if best:
        run.checkpoints.save_best(step, run.state.trainable)
    screen.show_evaluation(record, header=not earlier, best=best, name=run.config.folder.name if of_several else "")
    run.seconds["eval"] += time.monotonic() - begun - (run.eval_step.seconds - compiling)


def best_of(records: list[dict[str, Any]], best_by: str) -> dict[str, Any]:
    """The record with the highest score, the first of equals; or the last record."""
    return records[-1] if best_by == "last" else max(records, key=lambda record: record[best_by])


def predict(run: Run, examples: tokenizer.Examples, plan: Plan) -> np.ndarray:
    """Logits [examples, labels] of a whole split, by the run's own state."""

    def answer(batch: Batch) -> Any:
        return run.eval_step(run.state.trainable, run.frozen, jax.device_put(batch, run.shardings.batch))

    return of_split(answer, examples, plan)


def conclude(run: Run, journal: Journal, together: int) -> dict[str, Any]:
    """Writes the portable adapter of the best evaluation and `result.json`, and shows the summary.

    Args:
      together: how many runs took their steps with it, itself counted; the seconds are those of all.
    """
    config, folder = run.config, run.config.folder
    run.checkpoints.wait()
    records = journal.of("eval")
    best, last = best_of(records, config.best_by), records[-1]
    card = adapter.Card(
        method=config.method,
        task=config.task,
        problem=run.task.problem,
        base=config.model,
        fingerprint=run.fingerprint,
        encoder=run.encoder,
        scores=scores(best),
        max_length=config.max_length,
    )
    added = split_params(run.frozen, is_own)[0]
    learned = run.checkpoints.restore_best(best["step"], run.state.trainable)
    adapter.save(folder / "adapter", merge_params(learned, added), card)
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
        "together": together,
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
        "device": device(),
        "versions": versions(),
    }
    write_result(folder, result)
    screen.show_result(result, config)
    return result


def _entry(record: dict[str, Any]) -> dict[str, Any]:
    return {"epoch": record["epoch"], "step": record["step"], **scores(record)}
