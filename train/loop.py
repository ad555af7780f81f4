"""A run from its configuration to its result."""

import dataclasses
import json
import math
import shutil
import signal
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from adakron_jax import adapter, pretrained
from adakron_jax.adapter import write_whole
from adakron_jax.config import EncoderConfig
from adakron_jax.encoder import SequenceClassifier
from adakron_jax.params import Tree, budget, graft, split
from adakron_jax.splice import is_trainable
from train import checkpoint, data, optim, packing, report
from train.checkpoint import Checkpoints
from train.config import RunConfig
from train.packing import Plan
from train.sharding import Shardings, make_shardings
from train.step import PerShape, TrainState, compile_steps, init_state
from train.tasks import TASKS, Task

EVAL_BATCH = 256  # examples of an evaluation batch
STEPS_A_SHAPE = 100  # a shape more is a compilation more, which fewer steps would not earn back
RECORDS = 50  # of training, an epoch, at most
LOGS = 2**20  # bytes of a run's folder besides weights, roughly
SAVE_SECONDS = 600.0  # between checkpoints within an epoch


class Stopped(Exception):
    """The user asked the run to stop; it can be resumed."""


class Diverged(Exception):
    """The loss is no longer a number."""


@dataclasses.dataclass
class Run:
    """All that a run needs, made by `prepare`."""

    config: RunConfig
    task: Task
    encoder: EncoderConfig
    train_set: data.Examples
    dev_sets: dict[str, data.Examples]
    plan: Plan
    dev_plans: dict[str, Plan]
    shardings: Shardings
    frozen: Tree
    state: TrainState
    train_step: PerShape
    eval_step: PerShape
    checkpoints: Checkpoints
    fingerprint: str
    budget: dict[str, Any]
    seconds: dict[str, float]
    trained: int = 0

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.train_set) / self.config.batch_size)

    @property
    def total_steps(self) -> int:
        return self.config.epochs * self.steps_per_epoch


def finished(config: RunConfig) -> dict[str, Any] | None:
    """Checks the run's folder against the configuration; the result, if the run has ended there.

    Raises:
      ValueError: the folder is a file, or holds a run that `--resume` or the configuration does not allow here.
    """
    folder = config.folder
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir():
        raise ValueError(f"out is {str(folder)!r}, and {there} is a file; accepted: a folder, or a path to a new one")
    saved = folder / "config.toml"
    if not saved.is_file():
        if config.resume == "must":
            raise ValueError(f"resume is 'must', and {folder} holds no run")
        return None
    if config.resume == "never":
        raise ValueError(f"resume is 'never', and {folder} holds a run; give another --out")
    try:
        earlier = tomllib.loads(saved.read_text(encoding="utf-8"))
        result = (
            json.loads(finish.read_text(encoding="utf-8")) if (finish := folder / "result.json").is_file() else None
        )
    except ValueError as error:
        raise ValueError(f"{folder}: its config.toml or result.json is damaged ({error}); give another --out") from None
    if differences := config.differences(earlier):
        raise ValueError(f"{folder} holds a run of another configuration: {'; '.join(differences)}; give another --out")
    return result


def prepare(config: RunConfig) -> Run:
    """Loads data and model and resumes from the run's folder, if it holds a checkpoint.

    Raises:
      ValueError: something that was asked for is not there or does not fit.
    """
    begun = time.monotonic()
    task = TASKS[config.task]
    folder = pretrained.locate(config.model)
    encoder = EncoderConfig.from_folder(folder)
    if config.max_length > encoder.max_length:
        raise ValueError(f"max_length is {config.max_length}; accepted: at most {encoder.max_length}, the encoder's")
    config.method.splices(encoder)
    shardings = make_shardings(config.mesh, encoder)

    tokenizer = data.load_tokenizer(folder, encoder.vocab_size)
    load = lambda name, limit: data.load(config.data, task, name, tokenizer, config.max_length).first(limit)  # noqa: E731
    train_set = load(config.train_split, config.limit_train)
    dev_sets = {name: load(name, config.limit_eval) for name in task.dev_splits}
    for examples, name in ((train_set, config.train_split), *((dev_sets[name], name) for name in dev_sets)):
        if examples.empty_texts:
            report.say(f"warning: {examples.empty_texts} empty texts in {task.name} {name}, kept")
    multiple = shardings.mesh.shape["data"]
    steps = config.epochs * math.ceil(len(train_set) / config.batch_size)
    plan = packing.plan(
        train_set.lengths,
        config.batch_size,
        epochs=config.epochs,
        seed=config.seed,
        accumulate=config.accumulate,
        shapes=min(packing.SHAPES, math.ceil(steps / STEPS_A_SHAPE)),
        multiple=multiple,
    )
    dev_plans = {
        name: packing.plan(examples.lengths, EVAL_BATCH, shapes=1, multiple=multiple)
        for name, examples in dev_sets.items()
    }

    dtype = jnp.bfloat16 if config.precision == "bf16" else None
    # A loop over layers compiles fast and is what accelerators want; on a CPU it costs a third of a step in copies.
    unroll = encoder.num_layers if jax.default_backend() == "cpu" else 1
    model = SequenceClassifier(encoder, config.method, dtype, num_labels=task.num_labels, unroll=unroll)
    base = pretrained.read(folder, encoder)
    fingerprint = pretrained.fingerprint(base)
    fresh = model.fresh(jax.random.key(config.seed), lambda path: path not in pretrained.TABLE)
    params = graft(model.shapes(), base | fresh)
    trainable, frozen = split(params, is_trainable(config.method))
    spent = budget(params, is_trainable(config.method))
    frozen = jax.device_put(jax.tree.map(lambda x: jnp.asarray(x, dtype), frozen), shardings.of(frozen))

    schedule = optim.linear_schedule(config.learning_rate, steps, config.warmup_ratio)
    optimizer = optim.adamw(schedule, config.weight_decay)
    state = init_state(jax.tree.map(jnp.asarray, trainable), optimizer, config.seed)
    state = jax.device_put(state, shardings.of(state))
    train_step, eval_step = compile_steps(model, optimizer, schedule, shardings, state, frozen)

    out = config.folder
    out.mkdir(parents=True, exist_ok=True)
    needed, free = checkpoint.space(state) + LOGS, shutil.disk_usage(out).free
    if free < needed and not any(out.iterdir()):
        out.rmdir()
        raise ValueError(f"out is {str(out)!r}: no room on disk, {free:,} bytes are free; accepted: {needed:,} or more")
    checkpoints = Checkpoints(out)
    resumed, damaged = checkpoints.restore(state)
    for line in damaged:
        report.say(f"{line}; the one before is used")
    write_whole(out / "config.toml", config.dumps())
    return Run(
        config=config,
        task=task,
        encoder=encoder,
        train_set=train_set,
        dev_sets=dev_sets,
        plan=plan,
        dev_plans=dev_plans,
        shardings=shardings,
        frozen=frozen,
        state=state if resumed is None else resumed,
        train_step=train_step,
        eval_step=eval_step,
        checkpoints=checkpoints,
        fingerprint=fingerprint,
        budget=spent,
        seconds={"train": 0.0, "eval": 0.0, "total": begun},
    )


def train(run: Run) -> dict[str, Any]:
    """Trains to the end, evaluating after every epoch, and writes the run's folder.

    Returns:
      The result, as written to `result.json`.

    Raises:
      Stopped: SIGINT or SIGTERM came; the state is saved.
      Diverged: the loss is not a number; the last checkpoint is kept.
    """
    config, start = run.config, int(run.state.step)
    report.show_learning(run.state.trainable, run.frozen, run.budget)
    report.say(
        f"{len(run.train_set):,} training examples, {run.total_steps:,} steps; rows of {run.plan.row_length} tokens, "
        f"{' or '.join(map(str, run.plan.row_counts))} a batch, {100 * run.plan.padding_fraction:.1f} % padding"
    )
    if start:
        report.say(f"resumed after step {start} of {run.total_steps}")
    journal = report.Journal(config.folder, start)
    try:
        with stop_signals() as stopping, report.ProgressLine(run.total_steps, start, config.batch_size) as line:
            for epoch in range(start // run.steps_per_epoch, config.epochs):
                train_epoch(run, epoch, journal, line, stopping)
                evaluate_epoch(run, epoch, journal)
                run.checkpoints.save(run.state)
                if stopping and epoch + 1 < config.epochs:
                    stop(run)
        return conclude(run, journal)
    finally:
        run.checkpoints.close()
        journal.close()


def train_epoch(run: Run, epoch: int, journal: report.Journal, line: report.ProgressLine, stopping: list[int]) -> None:
    """Runs the rest of an epoch. Metrics are read one step late, so that the device never waits for the host."""
    begun, compiling, saved = time.monotonic(), run.train_step.seconds, time.monotonic()
    before = run.seconds["train"]
    every = math.ceil(run.steps_per_epoch / RECORDS)
    skip = int(run.state.step) - epoch * run.steps_per_epoch
    step, end, pending = int(run.state.step), (epoch + 1) * run.steps_per_epoch, None

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

    for batch, _, ids in run.plan.batches(run.train_set, epoch, skip):
        run.state, metrics = run.train_step(run.state, run.frozen, jax.device_put(batch, run.shardings.batch))
        run.trained += int(np.count_nonzero(ids >= 0))
        step += 1
        settle()
        pending = step, metrics
        # The last step of an epoch is saved after its evaluation, which a resumed run would otherwise leave out.
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


def evaluate_epoch(run: Run, epoch: int, journal: report.Journal) -> None:
    """Scores the development sets, and keeps the trainable tree if it is the best so far."""
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
    report.show_evaluation(record, header=not earlier, best=best)
    run.seconds["eval"] += time.monotonic() - begun - (run.eval_step.seconds - compiling)


def best_of(records: list[dict[str, Any]], best_by: str) -> dict[str, Any]:
    """The record with the highest score, the first of equals; or the last record."""
    return records[-1] if best_by == "last" else max(records, key=lambda record: record[best_by])


def predict(run: Run, examples: data.Examples, plan: Plan) -> np.ndarray:
    """Logits [examples, labels] of a whole split."""
    logits = np.zeros((len(examples), run.task.num_labels), np.float32)
    for batch, layout, ids in plan.batches(examples):
        placed = jax.device_put(batch, run.shardings.batch)
        found = np.asarray(run.eval_step(run.state.trainable, run.frozen, placed))
        there = ids >= 0
        micro = np.nonzero(there)[0]
        logits[ids[there]] = found[micro, layout.row[there], layout.slot[there]]
    return logits


def conclude(run: Run, journal: report.Journal) -> dict[str, Any]:
    """Writes the portable adapter of the best epoch and `result.json`, and shows the summary."""
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
        scores=report.scores(best),
    )
    adapter.save(folder / "adapter", run.checkpoints.restore_best(run.state.trainable), card)
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
        "throughput": {
            "examples_per_second": speed,
            "tokens_per_second": speed * float(np.mean(run.train_set.lengths)),
            "padding_fraction": run.plan.padding_fraction,
        },
        "seconds": seconds,
        "compilations": {"train": len(run.train_step.executables), "eval": len(run.eval_step.executables)},
        "device": report.device(),
        "versions": report.versions(),
    }
    report.write_result(folder, result)
    report.show_result(result, config)
    return result


def _entry(record: dict[str, Any]) -> dict[str, Any]:
    return {"epoch": record["epoch"], "step": record["step"], **report.scores(record)}


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
