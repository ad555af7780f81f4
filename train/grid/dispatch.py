"""Which worker trains which cells of a grid, and when: one loop over workers of any kind."""

import contextlib
from collections.abc import Iterator, Sequence

import jax

from adakron_jax.io import interrupts
from train import signals, terminal
from train.engine import folder, initial
from train.engine.cache import Cache
from train.engine.steps.sharding import check_mesh
from train.grid.cells import Cell, counts, group_open, name_of, overview, progress
from train.grid.local import Local, places, probe_devices
from train.grid.worker import Assignment, Done, Gone, InProcess, Message, Reached, Ready, Said, Workers
from train.options.launch import Launch

DEATHS = 3  # of workers, after which their group is given up, or no more workers are started
WAITING, LEAVING = 10.0, 120.0  # seconds to wait for any process, or for a dying one, to leave a folder


def train(cells: Sequence[Cell], cache: Cache, launch: Launch) -> None:
    """Trains every open cell. If one fails, its error is printed, and the others continue.

    With `launch.together`, cells that differ only in seed and learning rate are trained together; if one of them
    diverges, the others continue from their last checkpoints.

    Raises:
      ValueError: the model or the devices, which all cells need, are missing, or workers cannot be started.
      Stopped: SIGINT or SIGTERM came; the same grid continues from there.
      OSError: the disk is full.
    """
    if any(cell.open for cell in cells):
        schedule = Schedule(cells, launch.together)
        with contextlib.closing(make_workers(cells, cache, launch, schedule)) as workers:
            schedule.run(workers)


def make_workers(cells: Sequence[Cell], cache: Cache, launch: Launch, schedule: "Schedule") -> Workers:
    """Returns the workers that a command asks for, not yet started; raises as `train` does."""
    mesh, encoder = cells[0].config.mesh_shape, cache.model.encoder
    devices = mesh.devices if launch.devices_per_run == "mesh" else launch.devices_per_run
    kind, _, rest = launch.workers.partition(":")
    if not kind:
        check_mesh(mesh, encoder, jax.device_count(), jax.default_backend())
        check_start(cells, cache)
        return InProcess(cache, lambda step, pace: schedule.update(0, step, pace))
    # The checks here run on the CPU: the accelerators are for the workers.
    jax.config.update("jax_platforms", "cpu")
    check_start(cells, cache)
    check_mesh(mesh, encoder, devices, "of a worker")
    if kind == "ray":
        try:
            from train.grid.cluster import Cluster
        except ModuleNotFoundError as error:
            if error.name != "ray":
                raise
            raise ValueError("workers 'ray' need ray; install it with: pip install 'adakron-jax[cluster]'") from None
        return Cluster(rest, cache.model.name, devices)
    platform, available = probe_devices()
    if platform == "cpu":  # a worker's devices are cores, which JAX counts as one device, or as many as it is told
        check_mesh(mesh, encoder, available, platform)
    return Local(cache.model.name, places(int(rest or 0), schedule.waiting, devices, platform, available))


def check_start(cells: Sequence[Cell], cache: Cache) -> None:
    """Raises ValueError if the model cannot be read, or is not that of an adapter to start from."""
    _ = cache.model.tokenizer.fast, cache.model.leaves
    for cell in cells:
        if cell.open and not folder.reached(cell.config):
            initial.check_start(cell.config, cache.model)


class Schedule:
    """Keeps track of which groups of cells wait, and which worker has which."""

    def __init__(self, cells: Sequence[Cell], together: bool):
        self._cells, self._together = cells, together
        self._waiting = group_open(cells, together)
        self._taken: dict[int, list[Cell]] = {}
        self._idle: list[int] = []
        self._alive: set[int] = set()
        self._stopped_here = False  # the user asked, while the last group in this process ended
        self._failed_starts = 0  # workers in a row that were gone before they were ready

    def run(self, workers: Workers) -> None:
        """Trains until no cell is open; raises as `train`."""
        with self._progress(workers) as line:
            for number in range(min(workers.count, self.waiting)):
                self._start(number, workers)
            asked = False
            while self._alive and (self._taken or self._waiting or asked):
                if line:
                    line.show(sum(cell.steps - cell.left for cell in self._cells), 0.0, below=progress(self._cells))
                for number, message in workers.wait():
                    self._handle(number, message, workers)
                if not self._stopping:
                    self._hand_out(workers)
                elif not asked:
                    asked = True
                    workers.stop()
            if asked:
                raise signals.Stopped(f"stopped: {counts(self._cells)}")

    @property
    def waiting(self) -> int:
        """The number of groups that wait."""
        return len(self._waiting)

    @property
    def _stopping(self) -> bool:
        """Whether the user has asked the grid to stop."""
        return self._stopped_here or interrupts.came()

    @contextlib.contextmanager
    def _progress(self, workers: Workers) -> Iterator[terminal.Line | None]:
        """Shows the progress of all cells and holds signals for the workers; a run in this process does both itself."""
        if workers.in_process:
            yield None
            return
        steps, left = sum(cell.steps for cell in self._cells), sum(cell.left for cell in self._cells)
        with signals.held(), terminal.Line("steps", steps, steps - left) as line:
            yield line

    def update(self, number: int, step: int, pace: float) -> str:
        """Records the step that a worker has reached and its examples per second; returns the overview."""
        group = self._taken[number]
        for cell in group:
            cell.reached, cell.pace = step, pace / len(group)
        return overview(self._cells, group)

    def _start(self, number: int, workers: Workers) -> None:
        self._alive.add(number)
        workers.start(number)

    def _hand_out(self, workers: Workers) -> None:
        while self._idle and self._waiting:
            number, group = self._idle.pop(0), self._waiting.pop(0)
            self._taken[number] = group
            for cell in group:
                cell.running, cell.worker = True, number
            terminal.say(f"\n{overview(self._cells, group)}" if workers.in_process else overview(self._cells, group))
            patience = LEAVING if any(cell.deaths for cell in group) else WAITING
            workers.give(number, Assignment(tuple(cell.config for cell in group), patience))

    def _handle(self, number: int, message: Message, workers: Workers) -> None:
        if isinstance(message, Said):
            group = self._taken.get(number)
            for text in message.text.splitlines():
                terminal.say(f"{name_of(group)}: {text}" if group else text)
        elif isinstance(message, Reached):
            self.update(number, message.step, message.pace)
        elif isinstance(message, OSError):
            raise message
        elif isinstance(message, Ready):
            self._idle.append(number)
            self._failed_starts = 0
        elif isinstance(message, Gone):
            self._replace(number, message.reason, workers)
        else:
            self._idle.append(number)
            group = self._take_back(number)
            if isinstance(message, Done):
                self._stopped_here = message.stopping
                for cell, result in zip(group, message.results, strict=True):
                    cell.result = result
            else:
                self._put_back(group, [group[run] for run in message.runs], message.reason)

    def _take_back(self, number: int) -> list[Cell]:
        group = self._taken.pop(number)
        for cell in group:
            cell.running, cell.reached = False, folder.reached(cell.config)
        return group

    def _put_back(self, group: list[Cell], failed: list[Cell], reason: str) -> None:
        """Puts the cells of a group that have not failed at the front of the queue."""
        for cell in failed:
            cell.error = reason
            terminal.say(f"failed: {cell.name}: {reason}")
        self._waiting = group_open(group, self._together) + self._waiting

    def _replace(self, number: int, reason: str, workers: Workers) -> None:
        """Puts back the cells of a worker that has gone, and starts another worker if there is more to do."""
        self._alive.discard(number)
        if idle := number in self._idle:
            self._idle.remove(number)
        group = self._take_back(number) if number in self._taken else []
        if self._stopping:
            return
        for cell in group:
            cell.deaths += 1
        if group:
            terminal.say(f"the worker of {', '.join(cell.name for cell in group)} is gone ({reason})")
        elif not idle:
            self._failed_starts += 1
        self._put_back(
            group, [cell for cell in group if cell.deaths == DEATHS], f"{DEATHS} of its workers died: {reason}"
        )
        if len(self._waiting) > len(self._idle) and (self._failed_starts < DEATHS or group):
            self._start(number, workers)
        elif self._waiting and not self._alive:
            raise ValueError(f"workers cannot be started: {reason}")
