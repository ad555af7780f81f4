"""Workers as processes on this machine, each with its own devices or CPU cores."""

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from multiprocessing import connection
from pathlib import Path
from typing import Any

from train.grid.worker import Assignment, Gone, Message, Said, Stop

LOOK_SECONDS = 0.5  # between two checks whether the user has stopped the grid
THREADS = "NPROC"  # XLA's variable: on a CPU, the number of threads decides how sums are split, whatever the cores


@dataclasses.dataclass(frozen=True)
class Place:
    """What a worker's process gets: environment variables, and CPU cores if not all."""

    environment: Mapping[str, str]
    cores: tuple[int, ...] = ()


def threads() -> str:
    """Returns how many threads XLA has in this process, and needs in others for the same numbers."""
    return os.environ.get(THREADS) or str(len(os.sched_getaffinity(0)))


def probe_devices() -> tuple[str, int]:
    """Returns JAX's platform and number of devices, asked in another process so that this one takes no device.

    Raises:
      ValueError: jax finds no device.
    """
    code = "import jax; print(jax.default_backend(), jax.local_device_count())"
    probe = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    if probe.returncode:
        raise ValueError(f"no device for a worker: {(probe.stderr.splitlines() or ['?'])[-1]}")
    platform, count = probe.stdout.split()[-2:]
    return platform, int(count)


def places(workers: int, groups: int, devices: int, platform: str, available: int) -> list[Place]:
    """Returns the places of workers: as many as asked for, or for 0 as there is room for, but no more than groups.

    Each gets `devices` of those available; the workers of a CPU divide its cores.

    Raises:
      ValueError: there are too few devices.
    """
    same = {THREADS: threads()}
    if platform == "cpu":
        cores = sorted(os.sched_getaffinity(0))
        count = min(workers or max(1, len(cores) // devices), groups)
        shares = [cores[i * len(cores) // count : (i + 1) * len(cores) // count] for i in range(count)]
        return [Place(same, tuple(share) or (cores[i % len(cores)],)) for i, share in enumerate(shares)]
    count = min(workers or available // devices, groups)
    if not 0 < count * devices <= available:
        raise ValueError(
            f"workers is 'local{workers and f':{workers}' or ''}', each with {devices} devices; available: "
            f"{available} ({platform})"
        )
    variable = "TPU_VISIBLE_CHIPS" if platform == "tpu" else "CUDA_VISIBLE_DEVICES"
    names = (os.environ.get(variable) or ",".join(map(str, range(available)))).split(",")
    accelerators = []
    for i in range(count):
        environment = {variable: ",".join(names[i * devices : (i + 1) * devices])}
        if platform == "tpu":  # a process of its own, with part of the chips
            environment |= {"TPU_PROCESS_BOUNDS": "1,1,1", "TPU_CHIPS_PER_PROCESS_BOUNDS": _bounds(devices)}
        accelerators.append(Place(same | environment))
    return accelerators


def _bounds(chips: int) -> str:
    bounds = {1: "1,1,1", 2: "1,2,1", 4: "2,2,1", 8: "2,4,1"}
    if chips not in bounds:
        raise ValueError(f"devices_per_run is {chips}; accepted: {', '.join(map(str, bounds))} on a TPU")
    return bounds[chips]


def _import_path() -> dict[str, str]:
    """Returns the variable that a process needs to ignore its working directory, where a `train.py` may be."""
    folder = str(Path(__file__).parents[2])
    if folder == sysconfig.get_path("purelib"):
        return {}
    return {"PYTHONPATH": os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), folder)))}


class Process:
    """A worker's process and the pipe to it. The process ends when this one does."""

    def __init__(self, model: str, place: Place, folder: str | None = None):
        """Starts the process in a folder, by default that of this process."""
        self._pipe, other_end = multiprocessing.Pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "train.grid.process", *map(str, (other_end.fileno(), model, *place.cores))],
            pass_fds=[other_end.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **_import_path(), **place.environment},
            cwd=folder,
            process_group=0,  # Ctrl-C goes to the process that started it, which tells it to stop
        )
        other_end.close()
        assert self._process.stdout is not None
        self._output = self._process.stdout
        os.set_blocking(self._output.fileno(), False)
        self._partial_line, self._last_line = b"", ""

    @property
    def ends(self) -> list[Any]:
        """What to wait for with `multiprocessing.connection.wait`."""
        return [self._pipe, self._output]

    def send(self, message: Assignment | Stop) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # `receive` reports that it has gone
            self._pipe.send(message)

    def receive(self) -> list[Message]:
        """Returns its messages so far, without waiting; the last one is that it has gone."""
        messages: list[Message] = []
        gone = False
        try:
            while self._pipe.poll():
                messages.append(self._pipe.recv())
        except (EOFError, OSError):
            gone = True
            self._process.wait()
        messages += map(Said, self._lines())
        if gone:
            self.close()
            messages.append(Gone(self._reason()))
        return messages

    def close(self) -> None:
        """Ends the process at once."""
        self._process.kill()
        self._process.wait()
        self._pipe.close()
        self._output.close()

    def _lines(self) -> list[str]:
        """Returns the complete lines that it and its libraries have printed."""
        while printed := self._output.read(2**16):
            self._partial_line += printed
        *lines, self._partial_line = self._partial_line.split(b"\n")
        texts = [line.decode(errors="replace").rstrip() for line in lines]
        self._last_line = next((text for text in reversed(texts) if text), self._last_line)
        return texts

    def _reason(self) -> str:
        code = self._process.returncode
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        last = self._partial_line.decode(errors="replace").strip() or self._last_line
        return f"{how}: {last}" if last else how


class Local:
    """`Workers` that are processes on this machine."""

    in_process = False

    def __init__(self, model: str, places: Sequence[Place]):
        self.count = len(places)
        self._model, self._places = model, places
        self._processes: dict[int, Process] = {}

    def start(self, number: int) -> None:
        self._processes[number] = Process(self._model, self._places[number])

    def give(self, number: int, assignment: Assignment) -> None:
        self._processes[number].send(assignment)

    def wait(self) -> list[tuple[int, Message]]:
        connection.wait([end for process in self._processes.values() for end in process.ends], LOOK_SECONDS)
        received = []
        for number, process in list(self._processes.items()):
            messages = process.receive()
            received += [(number, message) for message in messages]
            if any(isinstance(message, Gone) for message in messages):
                del self._processes[number]
        return received

    def stop(self) -> None:
        for process in self._processes.values():
            process.send(Stop())

    def close(self) -> None:
        for process in self._processes.values():
            process.close()
