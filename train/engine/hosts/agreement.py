"""What all hosts do after each step, and what has to be the same on all of them."""

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

GO, SAVE, STOP = range(3)  # what a host wishes after a step; the highest wish is what all do
LOOK_SECONDS = 0.1  # between two looks for a file
SHARED_SECONDS = 70.0  # after which a host sees a new file on network storage; NFS may take 60 by default


class Votes:
    """What all hosts do after each step, although a signal reaches them at different times.

    A vote goes out beside the step and is read when the next one is under way, so that no device waits for a host.
    """

    def __init__(self) -> None:
        self._before: jax.Array | None = None

    def cast(self, wish: int) -> int:
        """The highest wish of all hosts after the step before; alone, this one's own at once."""
        if alone():
            return wish
        before, self._before = self._before, _highest(wish)
        return GO if before is None else int(before)


def all_wish(wish: int) -> int:
    """The highest wish of all hosts, waited for."""
    return wish if alone() else int(_highest(wish))


def _highest(wish: int) -> jax.Array:
    apart, highest = _voting()
    return highest(jax.make_array_from_callback((jax.device_count(),), apart, lambda _: np.array([wish], np.int32)))


@functools.cache
def _voting() -> tuple[NamedSharding, Callable[[jax.Array], jax.Array]]:
    """How the wishes of all devices lie, and what makes the highest of them known to all."""
    mesh = jax.make_mesh((jax.device_count(),), ("devices",), axis_types=(AxisType.Auto,))
    return NamedSharding(mesh, P("devices")), jax.jit(jax.numpy.max, out_shardings=NamedSharding(mesh, P()))


def check_same(what: str, text: Callable[[], str]) -> None:
    """Waits for all hosts; ValueError names one to which a text, such as a digest, is another than to host 0.

    Args:
      what: the text is about; asked once in a run.
    """
    watch = membership.current()
    if watch is None:
        return
    texts = watch.exchange(what, text())
    for host, other in enumerate(texts):
        if other != texts[0]:
            raise ValueError(f"{what} is not the same on {watch.name(host)} as on {watch.name(0)}")


def check_shared(folder: Path) -> None:
    """Waits for all hosts; ValueError names one that does not see what host 0 puts into the folder."""
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
