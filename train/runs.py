"""Carries out a command in this process: one run, or the cells of a grid."""

from collections.abc import Mapping

from adakron_jax.data.table import Table
from train import terminal
from train.engine import hosts, loop
from train.engine.cache import Cache
from train.engine.folder import finished, reached
from train.grid.cells import Cell, show_scores
from train.grid.dispatch import train
from train.grid.selection import grids
from train.options.command import Command
from train.output import screen
from train.output.result import Result


def run_one(command: Command, rows: Mapping[str, Table] = {}) -> Result:
    """Trains the single run of a command, or returns its result if it has ended.

    Args:
      rows: tables in memory, by the names that stand for them in place of files.

    Raises:
      BadInput, Stopped, Diverged, Damaged: as `loop.train_and_evaluate`.
    """
    config, cache = command.runs[0], Cache(command.model, rows)
    with loop.refusals():
        if command.launch.hosts:
            config = hosts.on_all_devices(config)
        terminal.say(
            f"{config.task} with {config.method} on {config.model}, recipe {config.recipe}, in {config.folder}"
        )
        result = finished(config)
        hosts.check_same("the command line", config.dumps().decode)
        hosts.check_same(f"what {config.folder} holds", lambda: f"{reached(config)} {result and result.to_dict()}")
        if result is not None:
            cache.loader.check_same(config, result.data)
            terminal.say("this run has ended; its result:")
            screen.show_result(result, config, command.model.encoder)
            return result
    return loop.train_and_evaluate([config], cache).results[0]


def run_grid(command: Command, rows: Mapping[str, Table] = {}) -> list[Cell]:
    """Trains the unfinished cells of a command's grid; of a selection, first the cells that choose, then the chosen.

    Returns:
      The cells of the grid, or the chosen ones; an empty list for a dry run.

    Raises:
      ValueError, Stopped, OSError: as `survey` and `dispatch.train`.
    """
    cache, cells = Cache(command.model, rows), []
    try:
        for cells in grids(command, cache):
            train(cells, cache, command.launch)
    finally:
        if cells:
            show_scores(cells)
    return cells


def failures(cells: list[Cell]) -> str:
    """Returns a line that names the failed cells and says why; empty if none failed."""
    failed = [f"{cell.name}: {cell.error}" for cell in cells if cell.error]
    return f"{len(failed)} of {len(cells)} cells failed: {'; '.join(failed)}" if failed else ""
