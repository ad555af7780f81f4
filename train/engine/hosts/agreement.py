"""How hosts agree: on what all of them do after each step, and on what must be the same everywhere."""

import functools
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from train.engine.hosts import membership
from train.engine.hosts.arrays import alone, is_writer

GO, SAVE, STOP = range(3)  # what a host wishes after a step; all hosts follow the highest wish
LOOK_SECONDS = 0.1  # between two checks for a file
SHARED_SECONDS = 70.0  # within which a host sees a new file on network storage; NFS may take 60 by default


class Votes:
    """Decides what all hosts do after each step, although a signal reaches them at different times.

    A vote is sent along with a step and read while the next one is running, so that no device waits for a host.
    """

    def __init__(self) -> None:
        self._before: jax.Array | None = None

    def cast(self, wish: int) -> int:
        """Casts a wish; returns the highest of all hosts after the step before, or the wish itself if alone."""
        if alone():
            return wish
        before, self._before = self._before, _highest(wish)
        return GO if before is None else int(before)


def all_wish(wish: int) -> int:
    """Waits for the wishes of all hosts, and returns the highest."""
    return wish if alone() else int(_highest(wish))


def _highest(wish: int) -> jax.Array:
    apart, highest = _voting()
    return highest(jax.make_array_from_callback((jax.device_count(),), apart, lambda _: np.array([wish], np.int32)))


@functools.cache
def _voting() -> tuple[NamedSharding, Callable[[jax.Array], jax.Array]]:
    """Returns the sharding of the wishes over all devices, and a function that tells all of them the highest."""
    mesh = jax.make_mesh((jax.device_count(),), ("devices",), axis_types=(AxisType.Auto,))
    return NamedSharding(mesh, P("devices")), jax.jit(jax.numpy.max, out_shardings=NamedSharding(mesh, P()))


def check_same(what: str, text: Callable[[], str]) -> None:
    """Waits for all hosts; ValueError names one whose text, such as a digest, differs from that of host 0.

    Args:
      what: what the text is about; checked once in a run.
    """
    watch = membership.current()
    if watch is None:
        return
    texts = watch.exchange(what, text())
    for host, other in enumerate(texts):
        if other != texts[0]:
            raise ValueError(f"{what} is not the same on {watch.name(host)} as on {watch.name(0)}")


def check_shared(folder: Path) -> None:
    """Waits for all hosts; ValueError names one that does not see what host 0 writes into the folder."""
    watch = membership.current()
    if watch is None:
        return
    mark = folder / f".{uuid.uuid4().hex}"
    if is_writer():
        mark.touch()
    mark = folder / watch.exchange("mark", mark.name)[0]
    begun = time.monotonic()
    while not mark.exists() and time.monotonic() - begun < SHARED_SECONDS:
        time.sleep(LOOK_SECONDS)
    seen = watch.exchange("seen", str(mark.exists()))
    if is_writer():
        mark.unlink()
    for host, sees in enumerate(seen):
        if sees == str(False):
            raise ValueError(
                f"out is {str(folder)!r}, and {watch.name(host)} does not see what {watch.name(0)} puts there; "
                "accepted: a folder on storage that all hosts share"
            )
