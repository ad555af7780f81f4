"""Trains a run, or a group of runs: from configurations to adapters and results."""

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, NoReturn

import numpy as np

from train import signals, terminal
from train.engine import hosts
from train.engine.cache import Cache
from train.engine.conclude import conclude
from train.engine.evaluation import Diverged, evaluate, evaluations, out_of_patience, steps_between
from train.engine.folder import decided
from train.engine.run import Clock, RunGroup, open_group
from train.engine.steps.step import TrainState
from train.options.config import RunConfig
from train.output import screen
from train.output.result import Result
from train.terminal import ProgressLine

RECORDS = 50  # of training per epoch, at most
SAVE_SECONDS = 600.0  # between checkpoints within an epoch


class BadInput(ValueError):
    """Something that the user asked for is missing or incompatible."""


class Ended(NamedTuple):
    """How runs ended; `stopping` says whether the user asked to stop when nothing was left but to finish."""

    results: list[Result]
    stopping: bool


def train_and_evaluate(
    configs: Sequence[RunConfig], cache: Cache, overview: Callable[[int, float], str] = lambda step, pace: ""
) -> Ended:
    """Trains a run, or several together, to the last epoch or until patience runs out.

    Args:
      configs: equal but for seed and learning rate, if there are several.
      cache: what earlier runs have read and compiled.
      overview: returns a line on the remaining work, from the step reached and the examples a second.

    Raises:
      BadInput: something that was asked for is missing or incompatible; nothing has been written.
      Stopped: SIGINT or SIGTERM came; the state is saved.
      Diverged: the loss of a run is not finite; the last checkpoint is kept.
      Damaged: the best tree cannot be read back.
    """
    clock = Clock()
    with contextlib.ExitStack() as opened:
        with refusals():
            group, state = opened.enter_context(open_group(decided(configs, cache), cache))
        data, start, steps = group.data, group.runs[0].start, group.steps
        lead = group.runs[0].config
        show_start(group, state)
        line = ProgressLine(data.last_step, start, lead.batch_size * len(group.runs), overview)
        with signals.held() as stopping, line:
            line.note("compiling the step")
            for epoch, end in evaluations(lead, data, start):
                if out_of_patience(group.runs[0].journal.of("eval"), lead.patience, data.best_by):  # a group has none
                    break
                with clock.on("train", steps):
                    state = train_to(end, epoch, group, state, line, clock, stopping)
                due = lead.evaluate_once in (0, epoch + 1)
                if due:
                    line.note(f"epoch {epoch + 1}  evaluating")
                for run, run_state in group.states(state):
                    if due:
                        with clock.on("eval", steps):
                            evaluate(run, run_state, epoch, group)
                    run.save(run_state)
                if end < data.last_step and hosts.all_wish(hosts.STOP if stopping else hosts.GO) == hosts.STOP:
                    stop(group, end)
        results = [conclude(run, run_state, group, cache.model, clock) for run, run_state in group.states(state)]
        return Ended(results, bool(stopping))


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Turns a ValueError into BadInput: before training begins, it is about what was asked for; later, it is a bug."""
    try:
        yield
    except ValueError as error:
        raise BadInput(str(error)) from None


def train_to(
    end: int, epoch: int, group: RunGroup, state: TrainState, line: ProgressLine, clock: Clock, stopping: list[int]
) -> TrainState:
    """Trains up to the step `end`. Metrics are read one step late, so that the device never waits for the host."""
    data, runs = group.data, group.runs
    # Often enough that every evaluation has a training loss to show.
    every = min(math.ceil(data.steps_per_epoch / RECORDS), steps_between(runs[0].config, data))
    step, saved, pending = int(np.ravel(state.step)[0]), time.monotonic(), None
    votes = hosts.Votes()

    def read_pending() -> None:
        if pending is None:
            return
        number, metrics = pending
        by_run = group.metrics_by_run(metrics)
        for run, values in zip(runs, by_run, strict=True):
            if not math.isfinite(loss := values["loss"]):
                raise Diverged(run.config, f"the loss at step {number} is {loss}; try a lower learning rate")
            if number % every == 0:
                run.journal.write({"kind": "train", "step": number, "epoch": epoch + 1, **values})
        mean = {name: float(np.mean([values[name] for values in by_run])) for name in by_run[0]}
        line.update(number, epoch, mean, clock.spent["eval"] + group.steps.seconds)

    skip = step - epoch * data.steps_per_epoch
    rows = hosts.rows_here(group.shardings.batch)
    batches = zip(*(run.plan.batches(data.train, epoch, skip, rows) for run in runs), strict=True)
    for batch_by_run in itertools.islice(batches, end - step):
        state, metrics = group.step(state, batch_by_run)
        step += 1
        read_pending()
        pending = step, metrics
        late = time.monotonic() - saved > SAVE_SECONDS
        decision = votes.cast(hosts.STOP if stopping else hosts.SAVE if late else hosts.GO)
        # The last step is saved after its evaluation, which a resumed run would otherwise skip.
        if step < end and decision != hosts.GO:
            read_pending()
            pending, saved = None, time.monotonic()
            group.save(state)
            if decision == hosts.STOP:
                stop(group, step)
    read_pending()
    return state


def stop(group: RunGroup, step: int) -> NoReturn:
    """Waits until the checkpoints of this step are on disk, and ends the runs."""
    for run in group.runs:
        run.checkpoints.wait()
    raise signals.Stopped(f"stopped after step {step} of {group.data.last_step}")


def show_start(group: RunGroup, state: TrainState) -> None:
    """Prints what is trainable, the size of each run, and the step it continues from."""
    (lead, lead_state), *_ = group.states(state)
    screen.show_trainable(lead_state.trainable, lead.frozen, lead.params)
    for run in group.runs:
        screen.show_plan(run.plan, len(group.data.train), group.data.last_step)
    if lead.start:
        terminal.say(f"resumed after step {lead.start} of {group.data.last_step}")
