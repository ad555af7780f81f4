"""`python -m train.grid.process FD`: a worker's process, told what to do over the pipe FD, until that is closed.

It reads the model, the data and what is compiled once, for all crews that it is given.
"""

import os
import queue
import signal
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any

from train import faults, signals, terminal
from train.engine import folder, lock, loop
from train.engine.shared import Shared
from train.grid.worker import Apart, Begin, Crew, Message, Reached, Ready, Refused, Said, carry_out
from train.options.model import Pretrained


class Pipe:
    """The pipe to who has started this process."""

    def __init__(self, connection: Connection):
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        with self._lock:
            try:
                self._connection.send(message)
            except (BrokenPipeError, ConnectionResetError):
                stop()  # who has started it is gone


def stop() -> None:
    """Stops this process as its user would, unless a signal has already."""
    if not signals.came():
        os.kill(os.getpid(), signal.SIGTERM)


def listen(connection: Connection, crews: "queue.SimpleQueue[Crew]") -> None:
    """Takes crews from the pipe, until it says to stop or its other end is gone."""
    while isinstance(said := _received(connection), Crew):
        crews.put(said)
    stop()


def _received(connection: Connection) -> Any:
    try:
        return connection.recv()
    except (EOFError, OSError):
        return None


def work(crew: Crew, shared: Shared, pipe: Pipe) -> Message:
    """Carries out a crew. Raises `loop.Stopped`, or KeyboardInterrupt before it has begun, where it is to stop."""

    def look(step: int, pace: float) -> str:
        pipe.send(Reached(step, pace))
        return ""

    for config in crew.configs:
        lock.await_free(config.folder, crew.patience)
    if folder.common_step(crew.configs) is None:
        return Apart()
    try:
        return carry_out(crew, shared, look)
    except OSError as error:
        if not faults.refused(error):
            raise
        return Refused(error.errno or 0, str(error))


def main(descriptor: int) -> int:
    signals.listen()
    connection = Connection(descriptor)
    begin: Begin = connection.recv()
    if begin.cores:
        os.sched_setaffinity(0, begin.cores)
    pipe, crews = Pipe(connection), queue.SimpleQueue()
    terminal.say_to(lambda text: pipe.send(Said(text)))
    shared = Shared(Pretrained(begin.model))
    threading.Thread(target=listen, args=(connection, crews), daemon=True).start()
    try:
        pipe.send(Ready())
        while True:
            pipe.send(work(crews.get(), shared, pipe))
    except (loop.Stopped, KeyboardInterrupt):
        return 130


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
