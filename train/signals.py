"""How a user stops the program: SIGINT and SIGTERM."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from adakron_jax.io import interrupts


class Stopped(Exception):
    """The user asked runs to stop; they can be resumed."""


@contextmanager
def held() -> Iterator[list[int]]:
    """Holds signals back, so that no step is cut in two, and yields their list; a second signal acts at once.

    The list starts with those that were lost before. Outside the main thread, which alone may, it collects no others.
    """
    lost, received = list(interrupts.received), list(interrupts.received)
    in_main_thread = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in interrupts.BOTH if in_main_thread}

    def receive(number: int, frame: Any) -> None:
        received.append(number)
        interrupts.received.append(number)
        for earlier, handler in before.items():
            signal.signal(earlier, handler)

    for number in before:
        signal.signal(number, receive)
    try:
        yield received
    finally:
        interrupts.received[:] = lost
        for number, handler in before.items():
            signal.signal(number, handler)
