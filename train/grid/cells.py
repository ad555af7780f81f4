"""What a grid's cells are: how far each has come, what they will cost, and how they ended."""

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np
from rich.table import Table

from train import terminal
from train.engine import folder, start
from train.engine.shared import Shared
from train.options.config import RunConfig
from train.output import screen
from train.output.result import Result


@dataclasses.dataclass
class Cell:
    """A run of a grid.

    Attributes:
      config: of the run.
      steps: from its first to its last.
      reached: the step it would go on from, or has come to.
      running, worker: whether a worker has it, and the number of the last that had.
      rate: examples a second, while it runs.
      deaths: of workers that had it.
      result: once it has ended.
      error: why it failed, if it did.
    """

    config: RunConfig
    steps: int
    reached: int = 0
    running: bool = False
    worker: int = 0
    rate: float = 0.0
    deaths: int = 0
    result: Result | None = None
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


def survey(configs: Sequence[RunConfig], shared: Shared) -> list[Cell]:
    """The cells of a grid, as far as each has come in its folder.

    Raises:
      ValueError: a method, a length or the adapter to start from is not for the encoder, a split cannot be read, or a
        folder holds another run.
    """

    for config in configs:
        start.check_compatible(config, shared.model.encoder)
    cells = []
    for config in configs:
        if (result := folder.finished(config)) is not None:
            shared.loader.check_same(config, result.data)
            cells.append(Cell(config, result.last.step, result=result))
            continue
        if not folder.reached(config):
            start.read_start(config)
        steps = config.epochs * math.ceil(shared.loader.count(config) / config.batch_size)
        cells.append(Cell(config, steps, folder.reached(config)))
    return cells


def seconds_left(cells: Sequence[Cell]) -> float | None:
    """By the pace of the cells that have ended, those of the same task where there are any.

    The pace is of examples, with evaluation and compilation, and does not know that methods differ; as many go on at it
    as there are workers now. Before the first cell has ended it is that of the training of those that run; None if
    there is none.
    """
    ended = [(cell.config.task, cell.result) for cell in cells if cell.result and cell.result.seconds.train > 0]
    if not ended:
        rate = sum(cell.rate for cell in cells if cell.running)
        return sum(cell.left * cell.config.batch_size for cell in cells) / rate if rate else None
    seconds = 0.0
    for cell in cells:
        results = [result for task, result in ended if task == cell.config.task] or [result for _, result in ended]
        trained = sum(result.throughput.examples_per_second * result.seconds.train for result in results)
        spent = sum(result.seconds.total / result.together for result in results)
        seconds += cell.left * cell.config.batch_size * spent / max(trained, 1)
    return seconds / max(1, len({cell.worker for cell in cells if cell.running}))


def show_cost(cells: Sequence[Cell]) -> None:
    """Prints the cells, their steps, and how long they will take."""
    table = _table("cell", "steps", "state")
    for cell in cells:
        table.add_row(cell.name, f"{cell.steps:,}", cell.state)
    terminal.console.print(table)
    steps, left = sum(cell.steps for cell in cells), sum(cell.left for cell in cells)
    seconds = seconds_left(cells)
    lasting = "hours unknown until the first cell has ended" if seconds is None else f"about {_lasting(seconds)}"
    terminal.say(f"{len(cells)} cells, {count(cells)}; {steps:,} steps in all, {left:,} left, {lasting}")


def crews(cells: Sequence[Cell], together: bool) -> list[list[Cell]]:
    """The open cells, each by itself or with those that take their steps with it."""
    found: list[list[Cell]] = []
    for cell in cells:
        if not cell.open:
            continue
        for crew in found if together else ():
            if _go_together([*crew, cell]):
                crew.append(cell)
                break
        else:
            found.append([cell])
    return found


def _go_together(crew: Sequence[Cell]) -> bool:
    """Whether cells can take their steps as one."""
    configs = [cell.config for cell in crew]
    return len({config.alike() for config in configs}) == 1 and folder.common_step(configs) is not None


def overview(cells: Sequence[Cell], crew: Sequence[Cell]) -> str:
    """Such as `cell 3 of 18: rte-adakron-seed0; 2 done, 1 running, 15 left, about 1.2 h to go`."""
    seconds = seconds_left(cells)
    to_go = "" if seconds is None else f", about {_lasting(seconds)} to go"
    others = f", {len(crew)} cells together" if len(crew) > 1 else ""
    return f"cell {number_of(cells, crew)}: {name_of(crew)}{others}; {count(cells)}{to_go}"


def name_of(crew: Sequence[Cell]) -> str:
    """Such as `rte-adakron-seed0`, or `rte-adakron-seed0 and 2 more`."""
    return f"{crew[0].name} and {len(crew) - 1} more" if len(crew) > 1 else crew[0].name


def progress(cells: Sequence[Cell]) -> str:
    """Such as `2 done, 2 running, 4 left, about 3 min to go: rte-adakron-seed2 12/24, rte-adakron-seed3 8/24`."""
    seconds = seconds_left(cells)
    to_go = "" if seconds is None else f", about {_lasting(seconds)} to go"
    running = ", ".join(f"{cell.name} {cell.reached:,}/{cell.steps:,}" for cell in cells if cell.running)
    return f"{count(cells)}{to_go}{running and f': {running}'}"


def number_of(cells: Sequence[Cell], crew: Sequence[Cell]) -> str:
    """Of a crew's first cell, such as `3 of 18`."""
    return f"{cells.index(crew[0]) + 1} of {len(cells)}"


def show_scores(cells: Sequence[Cell]) -> None:
    """Prints the headline score of every cell, of its best and its last epoch, and why there is none."""
    table = _table("cell", "metric", "best", "last", "state")
    for cell in cells:
        if cell.result is None:
            metric = "-" if cell.config.own else cell.config.metrics[0]
            table.add_row(cell.name, metric, "-", "-", "failed" if cell.error else cell.state)
            continue
        metric = next(iter(cell.result.best.scores))
        scores = [screen.shown(metric, part.scores[metric]) for part in (cell.result.best, cell.result.last)]
        table.add_row(cell.name, metric, *scores, "collapsed" if cell.result.collapsed else "done")
    terminal.say("")
    terminal.console.print(table)
    for line in over_folds(cells):
        terminal.say(line)
    for cell in cells:
        if cell.error:
            terminal.say(f"{cell.name} failed: {cell.error}")


def over_folds(cells: Sequence[Cell]) -> Iterator[str]:
    """Mean and standard deviation of the best epochs, of runs that differ in nothing but the fold that chose."""
    groups: dict[RunConfig, list[Result]] = {}
    for cell in cells:
        if cell.result is not None and cell.config.folds > 1:
            groups.setdefault(dataclasses.replace(cell.config, fold=1, out=""), []).append(cell.result)
    for config, results in groups.items():
        scores = {name: [result.best.scores[name] for result in results] for name in results[0].best.scores}
        spread = (
            f"{name} {screen.shown(name, float(np.mean(values)))} ± {screen.shown(name, float(np.std(values, ddof=1)))}"
            for name, values in scores.items()
            if len(values) > 1
        )
        of = "" if len(results) == config.folds else f" of {config.folds}"
        screen_name = f"{config.task}, {config.method.name}, seed {config.seed}"
        yield f"{screen_name}: {', '.join(spread)} over {len(results)}{of} folds, mean and standard deviation"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in ("steps", "best", "last") else "left", no_wrap=True)
    return table


def count(cells: Sequence[Cell]) -> str:
    """Such as `2 done, 1 failed, 1 running, 15 left`; the middle ones where there are any."""
    done, failed = sum(cell.result is not None for cell in cells), sum(bool(cell.error) for cell in cells)
    running = sum(cell.running for cell in cells)
    left = sum(cell.open for cell in cells) - running
    counts = {"done": done, "failed": failed, "running": running, "left": left}
    return ", ".join(f"{n} {what}" for what, n in counts.items() if n or what in ("done", "left"))


def _lasting(seconds: float) -> str:
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes / 60:.1f} h"
