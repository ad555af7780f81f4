"""`python -m train.grid.process FD MODEL [CORE ...]`: a worker's process, which gets its assignments over the pipe FD.

It reads the model and the data and compiles once for all groups. It ends when the pipe is closed.
"""

import contextlib
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection

from adakron_jax.io import interrupts
from train import faults, signals, terminal
from train.engine import folder, lock
from train.engine.cache import Cache
from train.grid.worker import Assignment, Failed, Message, Reached, Ready, Said, carry_out
from train.options.model import Pretrained

Send = Callable[[Message], None]


def sender(connection: Connection) -> Send:
    """Returns a function that sends messages to the process that started this one, from any thread."""
    one_at_a_time = threading.Lock()

    def send(message: Message) -> None:
        with one_at_a_time:
            try:
                connection.send(message)
            except (BrokenPipeError, ConnectionResetError):
                stop()  # the other process has ended

    return send


def stop() -> None:
    """Stops this process as its user would, unless a signal has done so already."""
    if not interrupts.came():
        os.kill(os.getpid(), signal.SIGTERM)


def listen(connection: Connection, assignments: "queue.SimpleQueue[Assignment]") -> None:
    """Queues assignments from the pipe, until a `Stop` comes or the other process has ended."""
    with contextlib.suppress(EOFError, OSError):
        while isinstance(message := connection.recv(), Assignment):
            assignments.put(message)
    stop()


def work(assignment: Assignment, cache: Cache, send: Send) -> Message:
    """Trains a group. When told to stop, raises `signals.Stopped`, or KeyboardInterrupt before training has begun."""

    def report(step: int, pace: float) -> str:
        send(Reached(step, pace))
        return ""

    for config in assignment.configs:
        lock.await_free(config.folder, assignment.patience)
    if folder.common_step(assignment.configs) is None:
        return Failed("", ())  # a process that was still leaving saved some of the runs at a later step
    try:
        return carry_out(assignment, cache, report)
    except OSError as error:
        if not faults.refused(error):
            raise
        return error


def main(descriptor: int, model: str, cores: Sequence[int]) -> int:
    interrupts.listen()
    sys.path.append(os.getcwd())  # last, for the methods that the user has there
    connection = Connection(descriptor)
    if cores:
        os.sched_setaffinity(0, cores)
    send, assignments = sender(connection), queue.SimpleQueue()
    terminal.say_to(lambda text: send(Said(text)))
    cache = Cache(Pretrained(model))
    threading.Thread(target=listen, args=(connection, assignments), daemon=True).start()
    try:
        send(Ready())
        while True:
            send(work(assignments.get(), cache, send))
    except (signals.Stopped, KeyboardInterrupt):
        return 130


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], [int(core) for core in sys.argv[3:]]))
