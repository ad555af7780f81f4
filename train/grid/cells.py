"""The cells of a grid: the step that each has reached, how long they will take, and how they ended."""

import dataclasses
import math
import statistics
from collections.abc import Iterator, Sequence

from train import terminal
from train.data.task import metric_of
from train.engine import folder, initial
from train.engine.cache import Cache
from train.options.config import RunConfig
from train.output.result import Result


@dataclasses.dataclass
class Cell:
    """A run of a grid.

    Attributes:
      config: the run's configuration.
      steps: the number of steps of the whole run.
      reached: the step that it has reached, or would continue from.
      running, worker: whether a worker has it, and the number of the last worker that had it.
      pace: examples per second, while it runs.
      deaths: how many workers died while they had it.
      result: the run's result, once it has ended.
      error: why it failed, if it did.
    """

    config: RunConfig
    steps: int
    reached: int = 0
    running: bool = False
    worker: int = 0
    pace: float = 0.0
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
        """The steps still to be taken."""
        return self.steps - self.reached if self.open else 0

    @property
    def state(self) -> str:
        if self.result is not None:
            return "done"
        return self.error or (f"stopped after step {self.reached:,}" if self.reached else "to do")


def survey(configs: Sequence[RunConfig], cache: Cache) -> list[Cell]:
    """Returns the cells of a grid, with what each has reached in its folder.

    Raises:
      ValueError: a method, a length or the adapter to start from does not suit the encoder, a split cannot be read, or
        a folder holds another run.
    """
    for config in configs:
        initial.check_compatible(config, cache.model.encoder)
    cells, counts = [], {}
    for config in configs:
        if (result := folder.finished(config)) is not None:
            cache.loader.check_same(config, result.data)
            cells.append(Cell(config, result.last.step, result=result))
            continue
        if not folder.reached(config):
            initial.read_start(config)
        data = dataclasses.replace(config.alike(), method=RunConfig.method, epochs=1, evaluate_once=0)
        if data not in counts:
            counts[data] = cache.loader.count(config)
        steps = config.last_epoch * math.ceil(counts[data] / config.batch_size)
        cells.append(Cell(config, steps, folder.reached(config)))
    return cells


def seconds_left(cells: Sequence[Cell]) -> float | None:
    """Returns the seconds left at the pace of the cells that have ended, those of the same task if there are any.

    The pace counts examples, evaluation and compilation included, for any method; as many cells run at once as there
    are workers now. Before the first cell has ended, it is the pace at which running cells train; None if none runs.
    """
    ended = [(cell.config.task, cell.result) for cell in cells if cell.result and cell.result.seconds.train > 0]
    if not ended:
        pace = sum(cell.pace for cell in cells if cell.running)
        return sum(cell.left * cell.config.batch_size for cell in cells) / pace if pace else None
    seconds = 0.0
    for cell in cells:
        results = [result for task, result in ended if task == cell.config.task] or [result for _, result in ended]
        trained = sum(result.throughput.examples_per_second * result.seconds.train for result in results)
        spent = sum(result.seconds.total / result.together for result in results)
        seconds += cell.left * cell.config.batch_size * spent / max(trained, 1)
    return seconds / max(1, len({cell.worker for cell in cells if cell.running}))


def show_cost(cells: Sequence[Cell]) -> None:
    """Prints the cells, how each trains, and how long they will take."""
    numbers = ("learning rate", "batch", "epochs", "steps")
    table = terminal.table("cell", *numbers, "state", right=numbers)
    for cell in cells:
        config = cell.config
        sizes = (f"{config.learning_rate:g}", *map(str, (config.batch_size, config.epochs)), f"{cell.steps:,}")
        table.add_row(cell.name, *sizes, cell.state)
    terminal.show(table)
    steps, left = sum(cell.steps for cell in cells), sum(cell.left for cell in cells)
    seconds = seconds_left(cells)
    duration = "time unknown until a cell has run" if seconds is None else f"about {_duration(seconds)}"
    terminal.say(f"{len(cells)} cells, {counts(cells)}; {steps:,} steps in all, {left:,} left, {duration}")


def group_open(cells: Sequence[Cell], together: bool) -> list[list[Cell]]:
    """Returns the open cells in groups: each cell by itself, or with all that can be trained together with it."""
    groups: list[list[Cell]] = []
    for cell in (cell for cell in cells if cell.open):
        if group := next((group for group in groups if together and _can_join(cell, group)), None):
            group.append(cell)
        else:
            groups.append([cell])
    return groups


def _can_join(cell: Cell, group: Sequence[Cell]) -> bool:
    configs = [other.config for other in (*group, cell)]
    return len({config.alike() for config in configs}) == 1 and folder.common_step(configs) is not None


def overview(cells: Sequence[Cell], group: Sequence[Cell]) -> str:
    """Returns, say, `cell 3 of 18: rte-adakron-seed0; 2 done, 1 running, 15 left, about 1.2 h to go`."""
    together = f", {len(group)} cells together" if len(group) > 1 else ""
    return f"cell {cells.index(group[0]) + 1} of {len(cells)}: {name_of(group)}{together}; {_ahead(cells)}"


def name_of(group: Sequence[Cell]) -> str:
    """Returns a group's name, such as `rte-adakron-seed0` or `rte-adakron-seed0 and 2 more`."""
    return f"{group[0].name} and {len(group) - 1} more" if len(group) > 1 else group[0].name


def progress(cells: Sequence[Cell]) -> str:
    """Returns, say, `2 done, 2 running, 4 left, about 3 min to go: rte-adakron-seed2 12/24, rte-adakron-seed3 8/24`."""
    running = ", ".join(f"{cell.name} {cell.reached:,}/{cell.steps:,}" for cell in cells if cell.running)
    return f"{_ahead(cells)}{running and f': {running}'}"


def _ahead(cells: Sequence[Cell]) -> str:
    """Returns, say, `2 done, 1 running, 15 left, about 1.2 h to go`, without the time while that is unknown."""
    seconds = seconds_left(cells)
    return counts(cells) + ("" if seconds is None else f", about {_duration(seconds)} to go")


def show_scores(cells: Sequence[Cell]) -> None:
    """Prints the headline score of every cell at its best and its last epoch, or why it has none."""
    table = terminal.table("cell", "metric", "best", "last", "state", right=("best", "last"))
    for cell in cells:
        if cell.result is None:
            metric = "-" if cell.config.custom_data else cell.config.metrics[0]
            table.add_row(cell.name, metric, "-", "-", "failed" if cell.error else cell.state)
            continue
        metric = next(iter(cell.result.best.scores))
        scores = [metric_of(metric).show(part.scores[metric]) for part in (cell.result.best, cell.result.last)]
        table.add_row(cell.name, metric, *scores, "collapsed" if cell.result.collapsed else "done")
    terminal.say("")
    terminal.show(table)
    for line in over_folds(cells):
        terminal.say(line)
    for cell in cells:
        if cell.error:
            terminal.say(f"{cell.name} failed: {cell.error}")


def over_folds(cells: Sequence[Cell]) -> Iterator[str]:
    """Yields the mean and standard deviation of the best epochs of runs that differ only in the fold that chose."""
    groups: dict[RunConfig, list[Result]] = {}
    for cell in cells:
        if cell.result is not None and cell.config.folds > 1:
            groups.setdefault(dataclasses.replace(cell.config, fold=1, out=""), []).append(cell.result)
    for config, results in groups.items():
        spread = []
        for name in results[0].best.scores if len(results) > 1 else ():
            values, show = [result.best.scores[name] for result in results], metric_of(name).show
            spread.append(f"{name} {show(statistics.fmean(values))} ± {show(statistics.stdev(values))}")
        of = "" if len(results) == config.folds else f" of {config.folds}"
        runs = f"{config.task}, {config.method.name}, seed {config.seed}"
        yield f"{runs}: {', '.join(spread)} over {len(results)}{of} folds, mean and standard deviation"


def counts(cells: Sequence[Cell]) -> str:
    """Returns, say, `2 done, 1 failed, 1 running, 15 left`; the middle two only if there are any."""
    numbers = {
        "done": sum(cell.result is not None for cell in cells),
        "failed": sum(bool(cell.error) for cell in cells),
    }
    numbers["running"] = sum(cell.running for cell in cells)
    numbers["left"] = sum(cell.open for cell in cells) - numbers["running"]
    return ", ".join(f"{n} {what}" for what, n in numbers.items() if n or what in ("done", "left"))


def _duration(seconds: float) -> str:
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes / 60:.1f} h"
