"""The whole story of a run, from its configuration to its adapter and its result."""

import contextlib
import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, NoReturn

import jax
import numpy as np

from adakron_jax import adapter
from adakron_jax.params import Tree, budget, merge_params, split_params
from adakron_jax.splice import is_own, is_trainable
from train import signals, terminal
from train.engine import hosts
from train.engine.data import read_data
from train.engine.evaluation import (
    Diverged,
    assess_best,
    best_of,
    evaluate,
    evaluations,
    out_of_patience,
    score_once,
    steps_between,
)
from train.engine.folder import decided
from train.engine.run import Clock, Crew, Run, open_runs, unstack
from train.engine.sharding import make_shardings
from train.engine.shared import Shared, configure_jax
from train.engine.start import advise_pooling, check_compatible, initial_params, make_model, place_frozen
from train.engine.step import TrainState
from train.options.config import RunConfig
from train.output import screen
from train.output.result import (
    Compilations,
    Parameters,
    Result,
    Throughput,
    device,
    read_evaluation,
    versions,
)
from train.terminal import ProgressLine

RECORDS = 50  # of training, an epoch, at most
SAVE_SECONDS = 600.0  # between checkpoints within an epoch


class Stopped(Exception):
    """The user asked the run to stop; it can be resumed."""


class BadInput(ValueError):
    """Something that was asked for is not there or does not fit."""


class Ended(NamedTuple):
    """How runs ended; `stopping` says that the user asked to stop when there was nothing left but to finish."""

    results: list[Result]
    stopping: bool


def train_and_evaluate(
    configs: Sequence[RunConfig], shared: Shared, overview: Callable[[int, float], str] = lambda step, pace: ""
) -> Ended:
    """Trains a run, or several that take their steps as one, to the end or until patience does.

    Args:
      configs: equal but for seed and learning rate, if there are several.
      shared: what earlier runs have read and compiled.
      overview: a line on what else there is to do, from the step reached and the examples a second.

    Raises:
      BadInput: what was asked for is not there or does not fit; nothing has been written.
      Stopped: SIGINT or SIGTERM came; the state is saved.
      Diverged: the loss of a run is not a number; the last checkpoint is kept.
      Damaged: the best tree cannot be read back.
    """
    clock, encoder = Clock(), shared.model.encoder
    with contextlib.ExitStack() as opened:
        with _refusals():
            configs = decided(configs)
            lead = configs[0]
            configure_jax(lead.dtype)
            check_compatible(lead, encoder)
            advise_pooling(lead, shared.model)
            shardings = make_shardings(lead.mesh_shape, encoder)
            data = read_data(lead, shared)
            hosts.check_same("the data", lambda: data.digest)
            hosts.check_same("the encoder", lambda: shared.model.fingerprint)
            problem = data.task.problem
            model = make_model(lead, problem, shared.model)
            targets = data.train.labels
            params = [initial_params(config, model, problem, shared.model, targets) for config in configs]
            frozen = place_frozen(params, model, shardings)
            runs, state = opened.enter_context(open_runs(configs, params, frozen, data, shardings))
            one = jax.eval_shape(lambda state: unstack(state, len(runs))[0], state)
            steps = shared.steps(lead, model, problem.losses, shardings, one, frozen[0])
        crew, start, total = Crew.of(runs, data, shardings, steps), runs[0].start, data.total_steps
        counts = Parameters(**budget(params[0], is_trainable(lead.method)))
        show_start(crew, counts, *split_params(params[0], is_trainable(lead.method)))
        line = ProgressLine(total, start, lead.batch_size * len(runs), overview)
        with signals.held() as stopping, line:
            for epoch, end in evaluations(lead, data, start):
                if out_of_patience(runs[0].journal.of("eval"), lead.patience, data.best_by):  # several have none
                    break
                with clock.on("train", steps):
                    state = train_to(end, epoch, crew, state, line, clock, stopping)
                line.note(f"epoch {epoch + 1}  evaluating")
                for run, own in zip(runs, unstack(state, len(runs)), strict=True):
                    with clock.on("eval", steps):
                        evaluate(run, own, epoch, crew)
                    run.save(own)
                if end < total and hosts.all_wish(hosts.STOP if stopping else hosts.GO) == hosts.STOP:
                    stop(crew, end)
        last = zip(runs, unstack(state, len(runs)), strict=True)
        return Ended([conclude(run, own, crew, counts, shared, clock) for run, own in last], bool(stopping))


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Until a run has begun, a ValueError is about what was asked for; later it would be a mistake of ours."""
    try:
        yield
    except ValueError as error:
        raise BadInput(str(error)) from None


def train_to(
    end: int, epoch: int, crew: Crew, state: TrainState, line: ProgressLine, clock: Clock, stopping: list[int]
) -> TrainState:
    """Trains on to the step `end`. Metrics are read one step late, so that the device never waits for the host."""
    data, runs = crew.data, crew.runs
    # So often that every evaluation has a training loss to show.
    every = min(math.ceil(data.steps_per_epoch / RECORDS), steps_between(runs[0].config, data))
    step, saved, pending = int(np.ravel(state.step)[0]), time.monotonic(), None
    votes = hosts.Votes()

    def settle() -> None:
        if pending is None:
            return
        number, metrics = pending
        each = crew.metrics_of_each(metrics)
        for run, own in zip(runs, each, strict=True):
            if not math.isfinite(own["loss"]):
                raise Diverged(run.config, f"the loss at step {number} is {own['loss']}; try a lower learning rate")
            if number % every == 0:
                run.journal.write({"kind": "train", "step": number, "epoch": epoch + 1, **own})
        mean = {name: float(np.mean([own[name] for own in each])) for name in each[0]}
        line.update(number, epoch, mean, clock.spent["eval"] + crew.steps.seconds)

    skip = step - epoch * data.steps_per_epoch
    here = hosts.rows_here(crew.shardings.batch)
    batches = zip(*(run.plan.batches(data.train, epoch, skip, here) for run in runs), strict=True)
    for parts in itertools.islice(batches, end - step):
        state, metrics = crew.step(state, parts)
        step += 1
        settle()
        pending = step, metrics
        late = time.monotonic() - saved > SAVE_SECONDS
        will = votes.cast(hosts.STOP if stopping else hosts.SAVE if late else hosts.GO)
        # The last step is saved after its evaluation, which a resumed run would otherwise leave out.
        if step < end and will != hosts.GO:
            settle()
            pending, saved = None, time.monotonic()
            crew.save(state)
            if will == hosts.STOP:
                stop(crew, step)
    settle()
    return state


def stop(crew: Crew, step: int) -> NoReturn:
    """Waits for the checkpoints of this step to be on disk, and ends the runs."""
    for run in crew.runs:
        run.checkpoints.wait()
    raise Stopped(f"stopped after step {step} of {crew.data.total_steps}; the same command continues")


def show_start(crew: Crew, counts: Parameters, trainable: Tree, frozen: Tree) -> None:
    """Prints what is trainable, the size of each run, and where it goes on."""
    lead, total = crew.runs[0], crew.data.total_steps
    screen.show_trainable(trainable, frozen, counts)
    for run in crew.runs:
        rows = " or ".join(map(str, run.plan.row_counts))
        terminal.say(
            f"{len(crew.data.train):,} training examples, {total:,} steps; rows of {run.plan.row_length} tokens, "
            f"{rows} a batch, {100 * run.plan.padding_fraction:.1f} % padding"
        )
    if lead.start:
        terminal.say(f"resumed after step {lead.start} of {total}")


def conclude(run: Run, state: TrainState, crew: Crew, counts: Parameters, shared: Shared, clock: Clock) -> Result:
    """Writes the portable adapter of the best evaluation and `result.json`, and shows the summary."""
    config, data, steps = run.config, crew.data, crew.steps
    run.checkpoints.wait()
    records = run.journal.of("eval")
    best = read_evaluation(best_of(records, data.best_by), data.task.scored)
    last = read_evaluation(records[-1], data.task.scored)
    trainable = run.checkpoints.restore_best(best.step, state.trainable)
    pooling, head = shared.model.reads(config.pooling)
    card = adapter.Card(
        method=config.method,
        task=config.task,
        problem=data.task.problem,
        base=config.model,
        fingerprint=shared.model.fingerprint,
        encoder=shared.model.encoder,
        scores=best.scores,
        max_length=config.max_length,
        pooling=pooling,
        head=head,
        texts=data.task.texts,
        label=data.task.label,
    )
    learned = hosts.fetch(merge_params(trainable, split_params(run.frozen, is_own)[0]))
    if hosts.is_writer():
        adapter.save(config.folder / "adapter", learned, card)
    with clock.on("eval", steps):
        chosen = dataclasses.replace(state, trainable=trainable)
        test = score_once(run, chosen, crew)
        if config.own:
            assess_best(run, chosen, crew, shared.model.tokenizer)
    seconds = clock.seconds(steps)
    trained = data.examples_before(last.step) - data.examples_before(run.start)
    speed = trained / max(seconds.train, 1e-9)
    result = Result(
        task=config.task,
        model=config.model,
        method=config.method,
        seed=config.seed,
        params=counts,
        best_by=data.best_by,
        best=best,
        last=last,
        collapsed=records[-1]["collapsed"],
        stopped_early=last.step < data.total_steps,
        train_examples=len(data.train),
        together=len(crew.runs),
        problem=data.task.problem.name if config.own else "",
        data=data.task.fingerprint,
        test=test,
        journal=run.journal.digest,
        throughput=Throughput(
            examples_per_second=speed,
            tokens_per_second=speed * float(np.mean(data.train.lengths)),
            padding_fraction=run.plan.padding_fraction,
        ),
        seconds=seconds,
        compilations=Compilations(
            train=(steps.together if crew.several else steps.train).compilations, eval=steps.evaluate.compilations
        ),
        device=device(),
        versions=versions(),
    )
    if hosts.is_writer():
        result.write(config.folder)
    weights = data.train.weights if len(data.train.weights) else None
    constant = data.task.problem.constant_loss(data.train.labels, weights)
    screen.show_result(result, config, shared.model.encoder, screen.advice(records[-1]["train_loss"], constant))
    return result
