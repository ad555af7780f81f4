"""Workers as processes of this machine, each with devices, or a CPU's cores, of its own."""

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

from train.grid.worker import Begin, Crew, Gone, Message, Said, Stop

LOOK_SECONDS = 0.5  # between two looks at whether the user has stopped the grid
THREADS = "NPROC"  # XLA's variable: on a CPU, sums are parted by how many threads there are, whatever cores they have


@dataclasses.dataclass(frozen=True)
class Place:
    """What a worker's process has for itself: variables of its environment, and cores, if not all."""

    environment: Mapping[str, str]
    cores: tuple[int, ...] = ()


def threads() -> str:
    """How many XLA has in this process, and so must have wherever the same numbers are to come out."""
    return os.environ.get(THREADS) or str(len(os.sched_getaffinity(0)))


def find_devices() -> tuple[str, int]:
    """The platform of jax in a process of its own, and how many devices it has; this process takes none of them.

    Raises:
      ValueError: jax finds no device.
    """
    code = "import jax; print(jax.default_backend(), jax.local_device_count())"
    probe = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if probe.returncode:
        raise ValueError(f"no device for a worker: {(probe.stderr.splitlines() or ['?'])[-1]}")
    platform, count = probe.stdout.split()[-2:]
    return platform, int(count)


def places(workers: int, crews: int, devices: int, platform: str, available: int) -> list[Place]:
    """Where workers run, as many as are asked for, or with 0 as there is room for, but no more than there are crews.

    Each has so many devices of those available; a CPU's workers share its cores.

    Raises:
      ValueError: there are too few devices.
    """
    same = {THREADS: threads()}
    if platform == "cpu":
        cores = sorted(os.sched_getaffinity(0))
        count = min(workers or max(1, len(cores) // devices), crews)
        shares = [cores[i * len(cores) // count : (i + 1) * len(cores) // count] for i in range(count)]
        return [Place(same, tuple(share) or (cores[i % len(cores)],)) for i, share in enumerate(shares)]
    count = min(workers or available // devices, crews)
    if not 0 < count * devices <= available:
        raise ValueError(
            f"workers is 'local{workers and f':{workers}' or ''}', each with as many devices as {devices}; here: "
            f"{available} ({platform})"
        )
    variable = "TPU_VISIBLE_CHIPS" if platform == "tpu" else "CUDA_VISIBLE_DEVICES"
    names = (os.environ.get(variable) or ",".join(map(str, range(available)))).split(",")
    found = []
    for i in range(count):
        own = {variable: ",".join(names[i * devices : (i + 1) * devices])}
        if platform == "tpu":  # a process by itself, with a part of the chips
            own |= {"TPU_PROCESS_BOUNDS": "1,1,1", "TPU_CHIPS_PER_PROCESS_BOUNDS": _bounds(devices)}
        found.append(Place(same | own))
    return found


def _bounds(chips: int) -> str:
    bounds = {1: "1,1,1", 2: "1,2,1", 4: "2,2,1", 8: "2,4,1"}
    if chips not in bounds:
        raise ValueError(f"devices_per_run is {chips}; accepted: {', '.join(map(str, bounds))}, of a TPU")
    return bounds[chips]


def _found_again() -> dict[str, str]:
    """What a process needs that looks for no package in its working directory, where a `train.py` may lie."""
    folder = str(Path(__file__).parents[2])
    if folder == sysconfig.get_path("purelib"):
        return {}
    return {"PYTHONPATH": os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), folder)))}


class Process:
    """A worker's process, and the pipe to it. It ends when this process does."""

    def __init__(self, model: str, place: Place, folder: str | None = None):
        """Starts it, in a folder, by default that of this process."""
        self._pipe, its = multiprocessing.Pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "train.grid.process", str(its.fileno())],
            pass_fds=[its.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **_found_again(), **place.environment},
            cwd=folder,
            process_group=0,  # Ctrl-C is for who has started it, and who tells it to stop
        )
        its.close()
        assert self._process.stdout is not None
        self._output = self._process.stdout
        os.set_blocking(self._output.fileno(), False)
        self._half, self._last = b"", ""
        self.send(Begin(model, place.cores))

    @property
    def ends(self) -> list[Any]:
        """What to wait for, by `multiprocessing.connection.wait`."""
        return [self._pipe, self._output]

    def send(self, what: Begin | Crew | Stop) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # `receive` says that it is gone
            self._pipe.send(what)

    def receive(self) -> list[Message]:
        """What it has said, without waiting; at last that it is gone."""
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
        """Ends it at once."""
        self._process.kill()
        self._process.wait()
        self._pipe.close()
        self._output.close()

    def _lines(self) -> list[str]:
        """Whole lines of what it, and what it stands on, prints."""
        while printed := self._output.read(2**16):
            self._half += printed
        *lines, self._half = self._half.split(b"\n")
        texts = [line.decode(errors="replace").rstrip() for line in lines]
        self._last = next((text for text in reversed(texts) if text), self._last)
        return texts

    def _reason(self) -> str:
        code = self._process.returncode
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        last = self._half.decode(errors="replace").strip() or self._last
        return f"{how}: {last}" if last else how


class Local:
    """`Workers` that are processes of this machine."""

    here = False

    def __init__(self, model: str, places: Sequence[Place]):
        self.count = len(places)
        self._model, self._places = model, places
        self._processes: dict[int, Process] = {}

    def start(self, number: int) -> None:
        self._processes[number] = Process(self._model, self._places[number])

    def give(self, number: int, crew: Crew) -> None:
        self._processes[number].send(crew)

    def wait(self) -> list[tuple[int, Message]]:
        connection.wait([end for process in self._processes.values() for end in process.ends], LOOK_SECONDS)
        said = []
        for number, process in list(self._processes.items()):
            messages = process.receive()
            said += [(number, message) for message in messages]
            if any(isinstance(message, Gone) for message in messages):
                del self._processes[number]
        return said

    def stop(self) -> None:
        for process in self._processes.values():
            process.send(Stop())

    def close(self) -> None:
        for process in self._processes.values():
            process.close()
