"""What a worker is: it trains groups of a grid's cells, one after another, and reports its progress."""

import dataclasses
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax

from train.engine import loop
from train.engine.cache import Cache
from train.engine.evaluation import Diverged
from train.options.config import RunConfig
from train.output.result import Result


@dataclasses.dataclass(frozen=True)
class Assignment:
    """To a worker: runs to train together.

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
    """A worker has started, and can take an assignment."""


@dataclasses.dataclass(frozen=True)
class Reached:
    """The step that a group has reached, and its examples per second."""

    step: int
    pace: float


@dataclasses.dataclass(frozen=True)
class Said:
    """A line for the terminal."""

    text: str


@dataclasses.dataclass(frozen=True)
class Done:
    """All runs of a group have ended; `stopping`: the user asked this process to stop as they did."""

    results: tuple[Result, ...]
    stopping: bool = False


@dataclasses.dataclass(frozen=True)
class Failed:
    """A group could not be trained to the end. `runs`: the numbers of the runs that failed; the others continue."""

    reason: str
    runs: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Gone:
    """A worker has ended. No process is in the folders of its group any more, or soon none will be."""

    reason: str


# OSError: the machine refuses what every cell needs, such as disk space.
Message = Ready | Reached | Said | Done | Failed | OSError | Gone


@runtime_checkable
class Workers(Protocol):
    """Places for workers, numbered from 0, all of one kind.

    Attributes:
      count: how many workers there can be at once.
      in_process: whether the only worker is this process, whose runs show their progress themselves.
    """

    count: int
    in_process: bool

    def start(self, number: int) -> None:
        """Begins to start a worker, which sends `Ready` when it is ready."""

    def give(self, number: int, assignment: Assignment) -> None:
        """Gives an assignment to a worker that has none."""

    def wait(self) -> list[tuple[int, Message]]:
        """Returns the messages of workers since the last call, after a short wait if there are none."""
        ...

    def stop(self) -> None:
        """Asks all workers to save and end."""

    def close(self) -> None:
        """Ends all workers at once."""


class InProcess:
    """`Workers` of which this process is the only one. If the user stops it, `wait` raises `signals.Stopped`."""

    count, in_process = 1, True

    def __init__(self, cache: Cache, overview: Callable[[int, float], str]):
        """Takes the arguments of `carry_out`."""
        self._cache, self._overview = cache, overview
        self._assignment: Assignment | None = None
        self._stopped = False

    def start(self, number: int) -> None:
        self._assignment = None

    def give(self, number: int, assignment: Assignment) -> None:
        self._assignment = assignment

    def wait(self) -> list[tuple[int, Message]]:
        """Trains the group to its end."""
        if self._stopped:
            return [(0, Gone("stopped"))]
        if self._assignment is None:
            return [(0, Ready())]
        return [(0, carry_out(self._assignment, self._cache, self._overview))]

    def stop(self) -> None:
        self._stopped = True

    close = stop


def carry_out(assignment: Assignment, cache: Cache, overview: Callable[[int, float], str]) -> Done | Failed:
    """Trains a group; `overview`, and what a stop raises, are as in `loop.train_and_evaluate`."""
    configs = assignment.configs
    try:
        ended = loop.train_and_evaluate(configs, cache, overview)
    except (ValueError, Diverged, jax.errors.JaxRuntimeError) as error:
        diverged = error.config.folder if isinstance(error, Diverged) else None  # the others can continue without it
        failed = tuple(i for i, config in enumerate(configs) if diverged in (None, config.folder))
        return Failed(" ".join(str(error).split()), failed)
    return Done(tuple(ended.results), ended.stopping)
