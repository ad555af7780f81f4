"""Python's own memory, in a program."""

import atexit
import gc


def collect_seldom() -> None:
    """Looks for cycles of garbage after more objects than Python would: called by a program before it imports.

    Imports and traces make millions of objects that stay; going through them again and again was a tenth of a start,
    and as much of an end, where the memory goes back to the system anyway.
    """
    gc.set_threshold(500_000, 50)
    atexit.register(gc.freeze)
