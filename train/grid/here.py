"""This process as the only worker: crews one after another."""

from collections.abc import Callable

from train.engine.shared import Shared
from train.grid.worker import Crew, Gone, Message, Ready, carry_out


class Here:
    """`Workers` that are this process. Who stops it while it trains gets `loop.Stopped` from `wait`."""

    count, here = 1, True

    def __init__(self, shared: Shared, overview: Callable[[int, float], str]):
        """As `carry_out` takes them."""
        self._shared, self._overview = shared, overview
        self._crew: Crew | None = None
        self._stopped = False

    def start(self, number: int) -> None:
        self._crew = None

    def give(self, number: int, crew: Crew) -> None:
        self._crew = crew

    def wait(self) -> list[tuple[int, Message]]:
        """Carries out the crew, to its end."""
        if self._stopped:
            return [(0, Gone("stopped"))]
        if self._crew is None:
            return [(0, Ready())]
        return [(0, carry_out(self._crew, self._shared, self._overview))]

    def stop(self) -> None:
        self._stopped = True

    def close(self) -> None:
        self._stopped = True
