"""Garbage collection in a program."""

import atexit
import gc


def collect_seldom() -> None:
    """Looks for garbage cycles less often than Python does by default; a program calls it before it imports.

    Imports and traces make millions of objects that stay. Scanning them repeatedly took a tenth of the start, and as
    much of the end, when the memory is returned to the system anyway.
    """
    gc.set_threshold(500_000, 50)
    atexit.register(gc.freeze)
