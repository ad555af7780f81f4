"""Workers on a Ray cluster; the only file that touches it.

Each is an actor that holds a worker's process on its node, so that what a worker does is the same here as there. Code,
data and the runs' folders must be found on all nodes under the same paths.
"""

import logging
import os
import signal
import socket
from multiprocessing import connection
from typing import Any

import ray  # pyright: ignore[reportMissingImports]
from ray.exceptions import RayError  # pyright: ignore[reportMissingImports]

from train.grid.local import LOOK_SECONDS, THREADS, Place, Process, threads
from train.grid.worker import Crew, Gone, Message, Stop

ANSWER_SECONDS = 10.0  # that a cluster may take
LISTEN_SECONDS = 5.0  # that an actor waits for its process to say something
ABOUT = ("JAX_", "XLA_", "HF_", "XDG_CACHE_HOME")  # variables that a worker's process has of this one


class Seat:
    """What an actor does: it hands on what is said, in both directions."""

    def __init__(self, model: str, environment: dict[str, str], folder: str):
        self._process = Process(model, Place(environment), folder)

    def tell(self, what: Crew | Stop) -> None:
        self._process.send(what)

    def listen(self) -> list[Message]:
        connection.wait(self._process.ends, LISTEN_SECONDS)
        return self._process.receive()


class Cluster:
    """`Workers` that are actors of a Ray cluster, on whichever of its nodes there is room.

    Args:
      address: of the cluster; '' for the one that RAY_ADDRESS names or that runs here, or else one of this machine.
      devices: of each worker: GPUs or TPU chips where the cluster has any, or else cores.

    Raises:
      ValueError: there is no such cluster.
    """

    here = False

    def __init__(self, address: str, model: str, devices: int):
        said = f"workers is 'ray{address and f':{address}'}'"
        check_answers(address, said)
        before = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(address or None, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ValueError(f"{said}: {str(error).splitlines()[0]}") from None
        signal.signal(signal.SIGTERM, before)  # ray has put its own in place
        there = ray.cluster_resources()
        kind = next((kind for kind in ("GPU", "TPU") if there.get(kind) and not _on_cpu()), "CPU")
        self.count = max(1, int(there.get(kind, 0)) // devices)  # one waits for a node that is still to come
        needs: dict[str, Any] = {"num_cpus": devices if kind == "CPU" else 1}
        needs |= {"num_gpus": devices} if kind == "GPU" else {"resources": {"TPU": devices}} if kind == "TPU" else {}
        remote: Any = ray.remote
        self._actor = remote(max_concurrency=4, max_restarts=0, **needs)(Seat)
        ours = {name: value for name, value in os.environ.items() if name.startswith(ABOUT)}
        self._arguments = model, ours | {THREADS: threads()}, os.getcwd()
        self._actors: dict[int, Any] = {}
        self._listening: dict[Any, int] = {}  # what an actor will have heard -> its number
        self._given_up: list[int] = []
        self._placed: set[int] = set()  # those that have been heard of

    def start(self, number: int) -> None:
        self._actors[number] = self._actor.remote(*self._arguments)
        self._listen(number)

    def _listen(self, number: int) -> None:
        self._listening[self._actors[number].listen.remote()] = number

    def give(self, number: int, crew: Crew) -> None:
        self._actors[number].tell.remote(crew)

    def wait(self) -> list[tuple[int, Message]]:
        said: list[tuple[int, Message]] = [(number, Gone("stopped before it began")) for number in self._given_up]
        self._given_up.clear()
        heard, _ = ray.wait(list(self._listening), timeout=LOOK_SECONDS) if self._listening else ([], [])
        for one in heard:
            number = self._listening.pop(one)
            try:
                messages: list[Message] = ray.get(one)
            except RayError as error:
                messages = [Gone(str(error).splitlines()[0])]
            said += [(number, message) for message in messages]
            self._placed.add(number)
            if any(isinstance(message, Gone) for message in messages):
                self._end(number)
            else:
                self._listen(number)
        return said

    def stop(self) -> None:
        """As `Workers` say; who still waits for a place, and so would not hear of it, is gone."""
        for number in [*self._actors]:
            if number in self._placed:
                self._actors[number].tell.remote(Stop())
            else:
                self._end(number)
                self._given_up.append(number)

    def _end(self, number: int) -> None:
        ray.kill(self._actors.pop(number))
        self._placed.discard(number)
        self._listening = {heard: one for heard, one in self._listening.items() if one != number}

    def close(self) -> None:
        ray.shutdown()


def check_answers(address: str, said: str) -> None:
    """ValueError if nobody is at HOST:PORT, which ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "://" in address:
        return
    try:
        socket.create_connection((host, int(port)), ANSWER_SECONDS).close()
    except OSError as error:
        raise ValueError(f"{said}, where nobody answers ({error.strerror}); accepted: a cluster's HOST:PORT") from None


def _on_cpu() -> bool:
    return os.environ.get("JAX_PLATFORMS") == "cpu"
