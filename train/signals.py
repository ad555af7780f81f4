"""How a user stops the program: SIGINT and SIGTERM."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_BOTH = (signal.SIGINT, signal.SIGTERM)
_received: list[int] = []


class Stopped(Exception):
    """The user asked runs to stop; they can be resumed."""


def listen() -> None:
    """Makes both signals interrupt the program from now on, and records them.

    The interrupt alone may be lost: Python drops an exception that is raised while an object's finaliser runs.
    """
    _received.clear()
    for number in _BOTH:
        signal.signal(number, _interrupt)


def _interrupt(number: int, frame: Any) -> None:
    _received.append(number)
    raise KeyboardInterrupt


def came() -> bool:
    """Returns whether a signal came that did not end the program: it is held, or its interrupt was lost."""
    return bool(_received)


@contextmanager
def held() -> Iterator[list[int]]:
    """Holds signals back, so that no step is cut in two, and yields their list; a second signal acts at once.

    The list starts with those that were lost before. Outside the main thread, which alone may, it collects no others.
    """
    lost, received = list(_received), list(_received)
    in_main_thread = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in _BOTH if in_main_thread}

    def receive(number: int, frame: Any) -> None:
        received.append(number)
        _received.append(number)
        for earlier, handler in before.items():
            signal.signal(earlier, handler)

    for number in before:
        signal.signal(number, receive)
    try:
        yield received
    finally:
        _received[:] = lost
        for number, handler in before.items():
            signal.signal(number, handler)
