"""Many runs in one process: what a grid will cost, its cells one after another, and how they ended."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
from rich.table import Table

from train import console, data, loop, run
from train.config import RunConfig
from train.sharding import make_shardings
from train.tasks import TASKS


@dataclasses.dataclass
class Cell:
    """A run of a grid.

    Attributes:
      config: of the run.
      steps: from its first to its last.
      reached: the step it would go on from.
      result: as in `result.json`, once it has ended.
      error: why it failed, if it did.
    """

    config: RunConfig
    steps: int
    reached: int = 0
    result: dict[str, Any] | None = None
    error: str = ""

    @property
    def name(self) -> str:
        return self.config.folder.name

    @property
    def open(self) -> bool:
        return self.result is None and not self.error

    @property
    def left(self) -> int:
        """Steps still to be taken."""
        return self.steps - self.reached if self.open else 0

    @property
    def state(self) -> str:
        if self.result is not None:
            return "done"
        return self.error or (f"stopped after step {self.reached:,}" if self.reached else "to do")


def survey(configs: Sequence[RunConfig]) -> list[Cell]:
    """The cells of a grid, as far as each has come in its folder.

    Raises:
      ValueError: a method, a length or the adapter to start from is not for the encoder, a split cannot be read, or a
        folder holds another run.
    """
    shared = run.Shared()

    @functools.cache
    def rows(source: str, task: str, split: str) -> int:
        return len(data.read(source, TASKS[task], split).labels)

    for config in configs:
        run.fit(config, shared)
    cells = []
    for config in configs:
        if (result := run.finished(config)) is not None:
            cells.append(Cell(config, result["last"]["step"], result=result))
            continue
        if not run.reached(config):
            run.check_start(config, shared)
        for split in TASKS[config.task].dev_splits:
            rows(config.data, config.task, split)
        examples = rows(config.data, config.task, config.train_split)
        examples = examples if config.limit_train == "all" else min(examples, config.limit_train)
        steps = config.epochs * math.ceil(examples / config.batch_size)
        cells.append(Cell(config, steps, run.reached(config)))
    return cells


def seconds_left(cells: Sequence[Cell]) -> float | None:
    """By the pace of the cells that have ended, those of the same task where there are any; None before the first.

    The pace is of examples, with evaluation and compilation, and does not know that methods differ.
    """
    ended = [cell for cell in cells if cell.result is not None and cell.result["seconds"]["train"] > 0]
    if not ended:
        return None
    seconds = 0.0
    for cell in cells:
        alike = [other for other in ended if other.config.task == cell.config.task] or ended
        trained = sum(_trained(other.result) for other in alike)
        spent = sum(other.result["seconds"]["total"] for other in alike if other.result)
        seconds += cell.left * cell.config.batch_size * spent / max(trained, 1)
    return seconds


def _trained(result: Any) -> float:
    """Examples trained on in the `seconds` of a result, which are those since the run was last resumed."""
    return result["throughput"]["examples_per_second"] * result["seconds"]["train"]


def show_cost(cells: Sequence[Cell]) -> None:
    """Prints the cells, their steps, and how long they will take."""
    table = _table("cell", "steps", "state")
    for cell in cells:
        table.add_row(cell.name, f"{cell.steps:,}", cell.state)
    console.console.print(table)
    steps, left = sum(cell.steps for cell in cells), sum(cell.left for cell in cells)
    seconds = seconds_left(cells)
    lasting = "hours unknown until the first cell has ended" if seconds is None else f"about {_lasting(seconds)}"
    console.say(f"{len(cells)} cells, {_count(cells)}; {steps:,} steps in all, {left:,} left, {lasting}")


def train(cells: Sequence[Cell]) -> None:
    """Runs every open cell. One that fails says why, and the next one begins.

    Raises:
      ValueError: what all cells need, the model and the devices, is not there.
      Stopped: SIGINT or SIGTERM came; the same grid goes on from there.
    """
    shared = run.Shared()
    if to_do := [cell.config for cell in cells if cell.open]:
        folder, encoder = run.fit(to_do[0], shared)
        make_shardings(to_do[0].mesh, encoder)
        _ = shared.tokenizer(folder, encoder.vocab_size).fast
        shared.weights(folder, encoder)
    for number, cell in enumerate(cells, start=1):
        if not cell.open:
            continue
        seconds = seconds_left(cells)
        to_go = "" if seconds is None else f", about {_lasting(seconds)} to go"
        console.say(f"\ncell {number} of {len(cells)}: {cell.name}; {_count(cells)}{to_go}")
        try:
            stopping = _train_cell(cell, shared)
        except (ValueError, loop.Diverged, jax.errors.JaxRuntimeError) as error:
            cell.error = " ".join(str(error).split())
            console.say(f"failed: {cell.error}")
            continue
        if stopping:
            raise loop.Stopped(f"stopped after cell {number} of {len(cells)}; the same command continues")


def _train_cell(cell: Cell, shared: run.Shared) -> bool:
    """Runs one cell, and lets go of its arrays; whether the user has asked to stop while it ended."""
    prepared = run.prepare(cell.config, shared)
    try:
        cell.result = loop.train(prepared)
    finally:
        cell.reached = run.reached(cell.config)
    return prepared.stopping


def show_scores(cells: Sequence[Cell]) -> None:
    """Prints the headline score of every cell, of its best and its last epoch, and why there is none."""
    table = _table("cell", "metric", "best", "last", "state")
    for cell in cells:
        metric = TASKS[cell.config.task].metrics[0]
        if cell.result is None:
            table.add_row(cell.name, metric, "-", "-", "failed" if cell.error else cell.state)
            continue
        found = [f"{100 * cell.result[which][metric]:.2f}" for which in ("best", "last")]
        table.add_row(cell.name, metric, *found, "collapsed" if cell.result["collapsed"] else "done")
    console.say("")
    console.console.print(table)
    for cell in cells:
        if cell.error:
            console.say(f"{cell.name} failed: {cell.error}")


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in ("steps", "best", "last") else "left", no_wrap=True)
    return table


def _count(cells: Sequence[Cell]) -> str:
    """Such as `2 done, 1 failed, 15 left`."""
    done, failed = sum(cell.result is not None for cell in cells), sum(bool(cell.error) for cell in cells)
    return f"{done} done, {f'{failed} failed, ' if failed else ''}{sum(cell.open for cell in cells)} left"


def _lasting(seconds: float) -> str:
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes / 60:.1f} h"
