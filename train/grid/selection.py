"""Selection: a grid on held-out rows, a choice for each task and method, and a second grid at the chosen values."""

import dataclasses
import itertools
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from train import terminal
from train.data.task import metric_of
from train.engine import initial
from train.engine.cache import Cache
from train.grid import estimate
from train.grid.cells import Cell, show_cost, survey
from train.grid.stages import Values, choosing, scoring, value_of, with_values
from train.options.command import Command, cell_name
from train.options.config import RunConfig
from train.options.launch import EPOCHS, OF_METHOD
from train.output import journal, screen, selection_file
from train.output.selection_file import Candidate, Choice, best_of, edges_of


def grids(command: Command, cache: Cache) -> Iterator[list[Cell]]:
    """Yields the grids that a command asks for, each once the one before is trained; the last has the final cells.

    Before the first, it prints what all of them cost; for a dry run, that is all.

    Raises:
      ValueError: as `survey`; or the fields cannot be selected, or the rows cannot choose.
    """
    if not command.launch.select:
        cells = survey(command.runs, cache)
        show_cost(cells)
        estimate.show_hours(cells, cache)
        if not command.launch.dry_run:
            yield cells
        return
    selecting = Selection(command, cache)
    selecting.show_cost()
    if command.launch.dry_run:
        return
    while any(cell.open for cell in selecting.cells):
        yield selecting.cells
        selecting.grow()
    selecting.record()
    yield selecting.final()


@dataclasses.dataclass
class Group:
    """A task and a method, for which values are chosen.

    Attributes:
      name: the name of its cells, without the selected values and the seed.
      run: one of its runs.
      folds: the numbers of the folds that choose.
      values: the values of the selected fields that are tried.
      asked: how many of the values were asked for; the others were added beyond an edge.
      cells: for each of the values, the cells of every fold and seed that choose.
      scored: the values with their scores, as far as they have been trained.
      rounds: how often values have been added.
    """

    name: str
    run: RunConfig
    folds: list[int]
    values: list[Values]
    asked: int
    cells: list[list[Cell]] = dataclasses.field(default_factory=list)
    scored: list[Candidate] = dataclasses.field(default_factory=list)
    rounds: int = 0

    @property
    def every_cell(self) -> list[Cell]:
        return list(itertools.chain(*self.cells))

    @property
    def open(self) -> bool:
        """Whether one of its cells has not been trained."""
        return any(cell.open for cell in self.every_cell)

    @property
    def metric(self) -> str:
        """The metric that chooses; empty while no run has ended."""
        return next((cell.result.best_by for cell in self.every_cell if cell.result), "")

    @property
    def best(self) -> Candidate | None:
        """The best of all candidates, once all have been trained, if one has a score."""
        number = None if self.open else best_of(self.scored, self.metric)
        return None if number is None else self.scored[number]

    def score(self, by_epoch: bool) -> None:
        """Reads the scores of values trained since the last call; with `by_epoch`, those of the best epoch."""
        for number in range(len(self.scored), len(self.values)):
            values, cells, grown = self.values[number], self.cells[number], number >= self.asked
            epoch, scores, error = self.run.epochs, (), next((cell.error for cell in cells if cell.error), "")
            if not error:
                curves = [_curve(cell, self.metric) for cell in cells]
                if by_epoch:
                    merit = metric_of(self.metric).merit
                    means = {epoch: statistics.fmean(curve[epoch] for curve in curves) for epoch in curves[0]}
                    epoch = max(means, key=lambda epoch: (merit(means[epoch]), -epoch))
                scores = tuple(curve[epoch] for curve in curves)
            self.scored.append(Candidate(values, scores, epoch, grown, error))

    def beyond(self) -> list[Values]:
        """Returns the best values with one field a step beyond its edge, for each field whose best value is at one."""
        if (best := self.best) is None:
            return []
        new = []
        for field in edges_of(self.scored, best):
            value, known = best.values[field], sorted({values[field] for values in self.values})
            neighbour = known[1] if value == known[0] else known[-2]
            if value and (beyond := _step(value, neighbour)) not in known:
                new.append({**best.values, field: beyond})
        return new


class Selection:
    """The groups of a command, and how far each has come."""

    def __init__(self, command: Command, cache: Cache):
        self._command, self._cache, self._launch = command, cache, command.launch
        self._seeds = list(dict.fromkeys(run.seed for run in command.runs))
        self._folder = command.runs[0].folder.parent
        _check(command)
        self._groups = [self._group(name, runs) for name, runs in self._by_name().items()]
        for group in self._groups:
            self._survey(group)
            self._check_held_out(group)
        self.grow()

    @property
    def cells(self) -> list[Cell]:
        """The cells that choose."""
        return [cell for group in self._groups for cell in group.every_cell]

    def grow(self) -> None:
        """Scores what has been trained; if a group's best value is at an edge, adds a value beyond it, and repeats."""
        for group in self._groups:
            while not group.open:
                group.score(EPOCHS in self._launch.select)
                new = [values for values in group.beyond() if self._is_valid(group.run, values)]
                if not new or group.rounds == self._launch.select_grow:
                    break
                group.values += new
                group.rounds += 1
                self._survey(group)

    def record(self) -> None:
        """Writes `selection.json`, and prints what was chosen and from what."""
        choices = [choice for group in self._groups if (choice := self._choice(group))]
        if choices:
            selection_file.write(self._folder, choices)
            screen.show_choices(choices)

    def final(self) -> list[Cell]:
        """Returns the cells at the chosen values, and the choosing cells of every group whose runs have all failed."""
        runs = [run for group in self._groups for run in self._chosen_runs(group)]
        lost = [cell for group in self._groups if group.best is None for cell in group.every_cell]
        return survey(runs, self._cache) + lost

    def show_cost(self) -> None:
        """Prints the cells of both stages and their cost; for a choice yet to be made, that of the smallest batch."""
        first, second = self.cells, [run for group in self._groups for run in self._expected_runs(group)]
        cells = [*first, *survey(second, self._cache)]
        show_cost(cells)
        estimate.show_hours(cells, self._cache)
        numbers = 0 if not self._launch.select_grow else len([name for name in self._launch.select if name != EPOCHS])
        more = sum((self._launch.select_grow - group.rounds) * len(group.folds) for group in self._groups) * numbers
        more *= len(self._launch.select_seed)
        terminal.say(
            f"{len(first)} of them choose {', '.join(self._launch.select)} on held-out rows, {len(second)} train at "
            f"what is chosen; values beyond an edge may add up to {more} cells"
        )

    def _by_name(self) -> dict[str, list[RunConfig]]:
        """Returns the runs by the name of their cell, without the selected values, the fold and the seed."""
        groups: dict[str, list[RunConfig]] = {}
        others = [name for name in self._command.varied if name not in self._launch.select]
        fields = [name for name in self._launch.select if name.startswith(OF_METHOD)]
        for run in self._command.runs:
            default = dataclasses.replace(run, method=type(run.method)())
            defaults = {name: value_of(default, name) for name in fields}
            bare = dataclasses.replace(with_values(run, defaults), folds=1, fold=1)
            groups.setdefault(cell_name(bare, others, seed=False), []).append(run)
        return groups

    def _group(self, name: str, runs: Sequence[RunConfig]) -> Group:
        fields = [field for field in self._launch.select if field != EPOCHS]
        offered: list[Values] = []
        for run in runs:
            if (values := {field: value_of(run, field) for field in fields}) not in offered:
                offered.append(values)
        for field in fields:
            if len({values[field] for values in offered}) < 2:
                raise ValueError(f"{name}: {field} has one value, {offered[0][field]}; accepted: several values")
        if isinstance(budget := self._launch.select_budget, int) and budget < len(offered):
            drawn = np.random.default_rng(0).choice(len(offered), budget, replace=False)
            offered = [offered[number] for number in sorted(drawn)]
        return Group(name, runs[0], sorted({run.fold for run in runs}), offered, len(offered))

    def _survey(self, group: Group) -> None:
        """Adds cells for the values that have none yet."""
        run = choosing(group.run)
        for values in group.values[len(group.cells) :]:
            config = with_values(run, values)
            parts = itertools.product(group.folds, self._launch.select_seed)
            configs = [dataclasses.replace(config, fold=fold, seed=seed) for fold, seed in parts]
            group.cells.append(survey([self._below(config, selection_file.FOLDER) for config in configs], self._cache))

    def _below(self, run: RunConfig, folder: str = "") -> RunConfig:
        """Returns the run with its own folder."""
        return dataclasses.replace(run, out=str(self._folder / folder / cell_name(run, self._command.varied)))

    def _check_held_out(self, group: Group) -> None:
        config = group.cells[0][0].config
        splits = self._cache.loader.outline(config)
        held, problem = next(iter(splits.validation.values())), splits.task.problem
        least = max(2, 0 if problem.independent else len(problem.labels))
        if held.count < least:
            raise ValueError(
                f"{group.name}: held-out rows are {held.count}; accepted: at least {least}, by a larger --validation"
            )

    def _is_valid(self, run: RunConfig, values: Values) -> bool:
        """Returns whether a run can have the values, such as a share of at most 1; if not, the edge stays."""
        try:
            initial.check_compatible(with_values(run, values), self._cache.model.encoder)
        except ValueError:
            return False
        return True

    def _choice(self, group: Group) -> Choice | None:
        if (best := group.best) is None:
            return None
        run, edges = choosing(group.run), edges_of(group.scored, best)
        if EPOCHS in self._launch.select and best.epoch == run.epochs:
            edges[EPOCHS] = "highest"
        return Choice(
            group=group.name,
            cell=cell_name(_at(group.run, best), self._command.varied, seed=False),
            task=run.task,
            metric=group.metric,
            fields=self._launch.select,
            held_out=f"{run.folds} folds" if run.folds > 1 else Path(run.validation).name,
            candidates=tuple(group.scored),
            chosen=group.scored.index(best),
            edges=edges,
        )

    def _chosen_runs(self, group: Group) -> list[RunConfig]:
        """Returns a run for every seed at the chosen values; none while there is no choice."""
        if (best := group.best) is None:
            return []
        return [self._below(dataclasses.replace(_at(group.run, best), seed=seed)) for seed in self._seeds]

    def _expected_runs(self, group: Group) -> list[RunConfig]:
        """Returns the chosen runs or, while there is no choice, runs that cost at least as much."""
        if chosen := self._chosen_runs(group):
            return chosen
        configs = (with_values(scoring(group.run), values) for values in group.values)
        run = min(configs, key=lambda config: config.batch_size)
        names = {seed: str(self._folder / f"{group.name}-chosen-seed{seed}") for seed in self._seeds}
        return [dataclasses.replace(run, seed=seed, out=out) for seed, out in names.items()]


def _check(command: Command) -> None:
    """Raises ValueError if a command sets something that a selection decides itself."""
    launch = command.launch
    for run in command.runs:
        if run.seed in launch.select_seed:
            raise ValueError(f"seed is {run.seed}, which is one of select_seed; accepted: seeds that choose nothing")
        for name in ("patience", "evaluate_once"):
            if value := getattr(run, name):
                raise ValueError(f"{name} is {value}, with select; accepted: 0, or --select {EPOCHS}")
        if EPOCHS in launch.select and run.epochs < 2:
            raise ValueError(f"epochs has one value, {run.epochs}; accepted: several values")


def _step(value: int | float, neighbour: int | float) -> int | float:
    """Returns the value beyond an edge, by the edge's ratio to its neighbour; twice the edge if the neighbour is 0."""
    beyond = value * value / neighbour if neighbour else 2 * value
    return round(beyond) if isinstance(value, int) else float(f"{beyond:.6g}")


def _at(run: RunConfig, best: Candidate) -> RunConfig:
    return dataclasses.replace(with_values(scoring(run), dict(best.values)), evaluate_once=best.epoch)


def _curve(cell: Cell, metric: str) -> dict[int, float]:
    """Returns epoch -> the score after it."""
    records = journal.read_records(cell.config.folder / journal.FILE)
    return {record["epoch"]: record[metric] for record in records if record["kind"] == "eval"}
