"""Workers on a Ray cluster; the only file that touches it.

Each is an actor that holds a worker's process on its node, so that workers do the same as on one machine. Code, data
and the runs' folders must be on all nodes under the same paths.
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
from train.grid.worker import Assignment, Gone, Message, Stop

REPLY_SECONDS = 10.0  # that a cluster may take to reply
LISTEN_SECONDS = 5.0  # that an actor waits for its process to send something
PASSED_ON = ("JAX_", "XLA_", "HF_", "XDG_CACHE_HOME")  # environment variables that a worker's process gets


class WorkerActor:
    """An actor that passes messages between a worker's process on its node and this process."""

    def __init__(self, model: str, environment: dict[str, str], folder: str):
        self._process = Process(model, Place(environment), folder)

    def tell(self, message: Assignment | Stop) -> None:
        self._process.send(message)

    def listen(self) -> list[Message]:
        connection.wait(self._process.ends, LISTEN_SECONDS)
        return self._process.receive()


class Cluster:
    """`Workers` that are actors of a Ray cluster, on any nodes that have room.

    Args:
      address: the cluster's address; '' for the one that RAY_ADDRESS names or that runs here, else one on this machine.
      devices: the devices of each worker: GPUs or TPU chips if the cluster has any, or else cores.

    Raises:
      ValueError: there is no such cluster.
    """

    in_process = False

    def __init__(self, address: str, model: str, devices: int):
        said = f"workers is 'ray{address and f':{address}'}'"
        check_reachable(address, said)
        before = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(address or None, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ValueError(f"{said}: {str(error).splitlines()[0]}") from None
        signal.signal(signal.SIGTERM, before)  # ray has replaced it
        resources, on_cpu = ray.cluster_resources(), os.environ.get("JAX_PLATFORMS") == "cpu"
        kind = next((kind for kind in ("GPU", "TPU") if resources.get(kind) and not on_cpu), "CPU")
        self.count = max(1, int(resources.get(kind, 0)) // devices)  # one may wait for a node that is yet to join
        needs: dict[str, Any] = {"num_cpus": devices if kind == "CPU" else 1}
        needs |= {"num_gpus": devices} if kind == "GPU" else {"resources": {"TPU": devices}} if kind == "TPU" else {}
        remote: Any = ray.remote
        self._actor = remote(max_concurrency=4, max_restarts=0, **needs)(WorkerActor)
        passed_on = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
        self._arguments = model, passed_on | {THREADS: threads()}, os.getcwd()
        self._actors: dict[int, Any] = {}
        self._listening: dict[Any, int] = {}  # future of an actor's messages -> the actor's number
        self._given_up: list[int] = []
        self._placed: set[int] = set()  # actors that have a node

    def start(self, number: int) -> None:
        self._actors[number] = self._actor.remote(*self._arguments)
        self._listen(number)

    def _listen(self, number: int) -> None:
        self._listening[self._actors[number].listen.remote()] = number

    def give(self, number: int, assignment: Assignment) -> None:
        self._actors[number].tell.remote(assignment)

    def wait(self) -> list[tuple[int, Message]]:
        said: list[tuple[int, Message]] = [(number, Gone("stopped before it began")) for number in self._given_up]
        self._given_up.clear()
        heard, _ = ray.wait(list(self._listening), timeout=LOOK_SECONDS) if self._listening else ([], [])
        for future in heard:
            number = self._listening.pop(future)
            try:
                messages: list[Message] = ray.get(future)
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
        """Asks workers to save and end; ends an actor that still waits for a node, which would miss the message."""
        for number in [*self._actors]:
            if number in self._placed:
                self._actors[number].tell.remote(Stop())
            else:
                self._end(number)
                self._given_up.append(number)

    def _end(self, number: int) -> None:
        ray.kill(self._actors.pop(number))
        self._placed.discard(number)
        self._listening = {future: actor for future, actor in self._listening.items() if actor != number}

    def close(self) -> None:
        ray.shutdown()


def check_reachable(address: str, said: str) -> None:
    """Raises ValueError if nothing answers at HOST:PORT, which ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "://" in address:
        return
    try:
        socket.create_connection((host, int(port)), REPLY_SECONDS).close()
    except OSError as error:
        raise ValueError(f"{said}, where nothing answers ({error.strerror}); accepted: a cluster's HOST:PORT") from None
