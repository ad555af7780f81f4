"""Who carries out which cells of a grid, and when: one loop over workers of whatever kind."""

import contextlib
from collections.abc import Iterator, Sequence

import jax

from train import signals, terminal
from train.engine import folder, loop, start
from train.engine.sharding import check_mesh
from train.engine.shared import Shared
from train.grid.cells import Cell, count, crews, name_of, overview, progress
from train.grid.here import Here
from train.grid.local import Local, find_devices, places
from train.grid.worker import Apart, Crew, Done, Gone, Message, Reached, Ready, Refused, Said, Workers
from train.options.config import Launch

DEATHS = 3  # of workers, after which it is their crew that is at fault, or what they stand on
WAITING, LEAVING = 10.0, 120.0  # seconds that a process may take to leave a folder: any; one known to be dying


def train(cells: Sequence[Cell], shared: Shared, launch: Launch) -> None:
    """Runs every open cell. One that fails says why, and the others go on.

    With `launch.together`, cells that differ in nothing but seed and learning rate take their steps as one; if one of
    them diverges, the others go on from their last checkpoints.

    Raises:
      ValueError: what all cells need, the model and the devices, is not there, or workers cannot be started.
      Stopped: SIGINT or SIGTERM came; the same grid goes on from there.
      OSError: the disk is full.
    """
    if any(cell.open for cell in cells):
        schedule = Schedule(cells, launch.together)
        with contextlib.closing(make_workers(cells, shared, launch, schedule)) as workers:
            schedule.run(workers)


def make_workers(cells: Sequence[Cell], shared: Shared, launch: Launch, schedule: "Schedule") -> Workers:
    """The workers that a command asks for, none of them started; ValueError as `train`."""
    mesh, encoder = cells[0].config.mesh_shape, shared.model.encoder
    devices = mesh.devices if launch.devices_per_run == "mesh" else launch.devices_per_run
    kind, _, rest = launch.workers.partition(":")
    if not kind:
        found = jax.devices()
        check_mesh(mesh, encoder, len(found), found[0].platform)
        check_start(cells, shared)
        return Here(shared, lambda step, pace: schedule.look(0, step, pace))
    # What is checked here is computed on a CPU: the accelerators are for the workers.
    jax.config.update("jax_platforms", "cpu")
    check_start(cells, shared)
    check_mesh(mesh, encoder, devices, "of a worker")
    if kind == "ray":
        try:
            from train.grid.cluster import Cluster
        except ModuleNotFoundError as error:
            if error.name != "ray":
                raise
            raise ValueError("workers 'ray' need ray; install it with: pip install 'adakron-jax[cluster]'") from None
        return Cluster(rest, shared.model.name, devices)
    platform, available = find_devices()
    if platform == "cpu":  # a worker's devices are cores, which jax takes for one device, or for as many as it is told
        check_mesh(mesh, encoder, available, platform)
    return Local(shared.model.name, places(int(rest or 0), schedule.crews, devices, platform, available))


def check_start(cells: Sequence[Cell], shared: Shared) -> None:
    """ValueError if the model cannot be read, or is not the one of an adapter to start from."""
    _ = shared.model.tokenizer.fast, shared.model.leaves
    for cell in cells:
        if cell.open and not folder.reached(cell.config):
            start.check_start(cell.config, shared.model)


class Schedule:
    """Which crews wait, and which are with which worker."""

    def __init__(self, cells: Sequence[Cell], together: bool):
        self._cells, self._together = cells, together
        self._waiting = crews(cells, together)
        self._taken: dict[int, list[Cell]] = {}
        self._idle: list[int] = []
        self._alive: set[int] = set()
        self._stopped_here = False  # while the last crew of this process ended
        self._unborn = 0  # workers, one after another, that were gone before they were ready

    def run(self, workers: Workers) -> None:
        """Until no cell is open; raises as `train`."""
        with self._progress(workers) as line:
            for number in range(min(workers.count, self.crews)):
                self._start(number, workers)
            asked = False
            while self._alive and (self._taken or self._waiting or asked):
                if line:
                    line.show(sum(cell.steps - cell.left for cell in self._cells), 0.0, below=progress(self._cells))
                for number, message in workers.wait():
                    self._hear(number, message, workers)
                if not self._stopping:
                    self._hand_out(workers)
                elif not asked:
                    asked = True
                    workers.stop()
            if asked:
                raise loop.Stopped(f"stopped: {count(self._cells)}; the same command continues")

    @property
    def crews(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def _stopping(self) -> bool:
        """Whether the user has asked the grid to stop."""
        return self._stopped_here or signals.came()

    @contextlib.contextmanager
    def _progress(self, workers: Workers) -> Iterator[terminal.Line | None]:
        """The line on all cells, and signals held for the workers; both are the run's own where it runs here."""
        if workers.here:
            yield None
            return
        steps, left = sum(cell.steps for cell in self._cells), sum(cell.left for cell in self._cells)
        with signals.held(), terminal.Line("steps", steps, steps - left) as line:
            yield line

    def look(self, number: int, step: int, pace: float) -> str:
        """Takes down how far a worker has come, at so many examples a second; the overview of all."""
        crew = self._taken[number]
        for cell in crew:
            cell.reached, cell.rate = step, pace / len(crew)
        return overview(self._cells, crew)

    def _start(self, number: int, workers: Workers) -> None:
        self._alive.add(number)
        workers.start(number)

    def _hand_out(self, workers: Workers) -> None:
        while self._idle and self._waiting:
            number, crew = self._idle.pop(0), self._waiting.pop(0)
            self._taken[number] = crew
            for cell in crew:
                cell.running, cell.worker = True, number
            terminal.say(f"\n{overview(self._cells, crew)}" if workers.here else overview(self._cells, crew))
            patience = LEAVING if any(cell.deaths for cell in crew) else WAITING
            workers.give(number, Crew(tuple(cell.config for cell in crew), patience))

    def _hear(self, number: int, message: Message, workers: Workers) -> None:
        if isinstance(message, Said):
            crew = self._taken.get(number)
            for text in message.text.splitlines():
                terminal.say(f"{name_of(crew)}: {text}" if crew else text)
        elif isinstance(message, Reached):
            self.look(number, message.step, message.pace)
        elif isinstance(message, Refused):
            raise OSError(message.number, message.text)
        elif isinstance(message, Ready):
            self._idle.append(number)
            self._unborn = 0
        elif isinstance(message, Gone):
            self._bury(number, message.reason, workers)
        else:
            self._idle.append(number)
            crew = self._take_back(number)
            if isinstance(message, Done):
                self._stopped_here = message.stopping
                for cell, result in zip(crew, message.results, strict=True):
                    cell.result = result
            elif isinstance(message, Apart):
                self._put_back(crew, [], "")
            else:
                self._put_back(crew, crew if message.run is None else [crew[message.run]], message.reason)

    def _take_back(self, number: int) -> list[Cell]:
        crew = self._taken.pop(number)
        for cell in crew:
            cell.running, cell.reached = False, folder.reached(cell.config)
        return crew

    def _put_back(self, crew: list[Cell], failed: list[Cell], reason: str) -> None:
        """Puts what is left of a crew to the front, without those that have failed."""
        for cell in failed:
            cell.error = reason
            terminal.say(f"failed: {cell.name}: {reason}")
        self._waiting = crews(crew, self._together) + self._waiting

    def _bury(self, number: int, reason: str, workers: Workers) -> None:
        """Puts back what a worker had when it was gone, and starts another if there is more to do."""
        self._alive.discard(number)
        if idle := number in self._idle:
            self._idle.remove(number)
        crew = self._take_back(number) if number in self._taken else []
        if self._stopping:
            return
        for cell in crew:
            cell.deaths += 1
        if crew:
            terminal.say(f"the worker of {', '.join(cell.name for cell in crew)} is gone ({reason})")
        elif not idle:
            self._unborn += 1
        self._put_back(crew, [cell for cell in crew if cell.deaths == DEATHS], f"{DEATHS} workers of it died: {reason}")
        if len(self._waiting) > len(self._idle) and (self._unborn < DEATHS or crew):
            self._start(number, workers)
        elif self._waiting and not self._alive:
            raise ValueError(f"workers cannot be started: {reason}")
