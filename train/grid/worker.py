"""What a worker is: who carries out cells of a grid, one crew after another, and says how it goes."""

import dataclasses
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax

from train.engine import loop
from train.engine.evaluation import Diverged
from train.engine.shared import Shared
from train.options.config import RunConfig
from train.output.result import Result


@dataclasses.dataclass(frozen=True)
class Begin:
    """To a worker's process, first of all.

    Attributes:
      model: that of all runs.
      cores: those that it may use; empty for all.
    """

    model: str
    cores: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Crew:
    """To a worker: runs to carry out as one.

    Attributes:
      patience: seconds to wait for a process that may still be leaving their folders.
    """

    configs: tuple[RunConfig, ...]
    patience: float


@dataclasses.dataclass(frozen=True)
class Stop:
    """To a worker: save and end."""


@dataclasses.dataclass(frozen=True)
class Ready:
    """A worker has started, and takes a crew."""


@dataclasses.dataclass(frozen=True)
class Reached:
    """A crew has come to a step, at so many examples a second."""

    step: int
    pace: float


@dataclasses.dataclass(frozen=True)
class Said:
    """A line for the terminal."""

    text: str


@dataclasses.dataclass(frozen=True)
class Done:
    """All runs of a crew have ended; `stopping`: the user asked this process to stop while they did."""

    results: tuple[Result, ...]
    stopping: bool = False


@dataclasses.dataclass(frozen=True)
class Failed:
    """A crew could not be brought to its end, by the fault of one run, or of `None` more than another."""

    reason: str
    run: int | None = None


@dataclasses.dataclass(frozen=True)
class Apart:
    """The runs of a crew can no longer go on as one: a process that was still leaving has saved some of them."""


@dataclasses.dataclass(frozen=True)
class Refused:
    """The machine refuses what all cells need, such as room on disk: an OSError's number and text."""

    number: int
    text: str


@dataclasses.dataclass(frozen=True)
class Gone:
    """A worker is no more, and with it nobody is in the folders of its crew, or will be soon."""

    reason: str


Message = Ready | Reached | Said | Done | Failed | Apart | Refused | Gone


@runtime_checkable
class Workers(Protocol):
    """Places for workers, numbered from 0, all of one kind.

    Attributes:
      count: how many there can be at once.
      here: the only one is this process, whose runs show their progress themselves.
    """

    count: int
    here: bool

    def start(self, number: int) -> None:
        """Begins to start a worker, which says that it is ready when it is."""

    def give(self, number: int, crew: Crew) -> None:
        """Gives a crew to a worker that has none."""

    def wait(self) -> list[tuple[int, Message]]:
        """What workers have said since it was last asked; waits for it a little while."""
        ...

    def stop(self) -> None:
        """Asks all to save and end."""

    def close(self) -> None:
        """Ends all that are still there, at once."""


def carry_out(crew: Crew, shared: Shared, overview: Callable[[int, float], str]) -> Done | Failed:
    """Trains a crew; `overview` as `loop.train_and_evaluate` has it, as is what it raises when it is stopped."""
    try:
        ended = loop.train_and_evaluate(crew.configs, shared, overview)
    except Diverged as diverged:
        return Failed(_line(diverged), [config is diverged.config for config in crew.configs].index(True))
    except (ValueError, jax.errors.JaxRuntimeError) as error:
        return Failed(_line(error))
    return Done(tuple(ended.results), ended.stopping)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
