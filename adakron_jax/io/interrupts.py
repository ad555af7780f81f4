"""SIGINT and SIGTERM, by which a user stops a command."""

import os
import signal
import threading
from importlib.machinery import ExtensionFileLoader
from typing import Any

BOTH = (signal.SIGINT, signal.SIGTERM)
AGAIN = 0.05  # seconds after which a signal that came too early is sent once more
received: list[int] = []


def listen() -> None:
    """Makes both signals interrupt the program from now on, and records them.

    An interrupt alone may be lost: Python drops what is raised in an object's finaliser, and C++ may turn it into
    another error.
    """
    received.clear()
    for number in BOTH:
        signal.signal(number, _interrupt)


def came() -> bool:
    """Returns whether a signal came that has not stopped the program: it is held, or its interrupt was lost."""
    return bool(received)


def _interrupt(number: int, frame: Any) -> None:
    if _loads_extension(frame):
        again = threading.Timer(AGAIN, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()
        return
    received.append(number)
    raise KeyboardInterrupt


def _loads_extension(frame: Any) -> bool:
    """Returns whether a compiled module is being loaded, which an interrupt breaks: jaxlib's crashes the process."""
    while frame and not isinstance(frame.f_locals.get("self"), ExtensionFileLoader):
        frame = frame.f_back
    return frame is not None
