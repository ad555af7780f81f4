"""Checkpoints by orbax; the only file that touches it.

`checkpoints/` keeps the last two full states (trainable, optimiser, step), `best/` the best trainable tree. Frozen
parameters are in neither. Each is stored with a digest of its values, since orbax by itself notices a flipped bit only
where it breaks orbax's own structures.
"""

import asyncio
import glob
import hashlib
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils.epath.gpath import PosixGPath

from adakron_jax.params import Tree
from train.engine import hosts
from train.engine.lock import Lock
from train.engine.steps.step import TrainState

_OS_ERROR = re.compile(r"(?:os_error_code='|Errno )(\d+)")  # as orbax and tensorstore report one
KEEP = 2  # so that one is left if the last is damaged


def space(state: TrainState) -> int:
    """Returns the most bytes that a run's checkpoints take: those kept, the one being written, and the best twice."""
    size = lambda tree: sum(leaf.nbytes for leaf in jax.tree.leaves(tree))  # noqa: E731
    return (KEEP + 1) * size(state) + 2 * size(state.trainable)


class Damaged(ValueError):
    """A needed checkpoint cannot be read."""


class Checkpoints:
    """The checkpoints in one run's folder, which no other process can open until they are closed.

    Saving is asynchronous; `wait` and `close` wait for the disk.

    Attributes:
      journal: the journal's digest that was saved with the state that `restore` returned, if there was one.

    Raises:
      ValueError: another process has them open.
      Damaged: orbax cannot list them.
    """

    def __init__(self, folder: Path):
        self._lock = Lock(folder) if hosts.is_writer() else None
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax also raises whatever it logs as an error
        self._before, self._failed = sys.unraisablehook, False
        sys.unraisablehook = _without_noise(self._before)  # set before the first thread that could call it
        self.journal: str | None = None
        try:
            self._last = _manager(folder / "checkpoints", KEEP)
            self._best = _manager(folder / "best", 1)
        except BaseException:
            sys.unraisablehook = self._before
            if self._lock is not None:
                self._lock.release()
            raise

    def save(self, state: TrainState, journal: str) -> None:
        """Saves the state under its step, unless it is saved already, with the digest of the run's journal up to it."""
        step = int(state.step)
        if step not in self._last.all_steps():
            with self._as_os_error():
                self._best.wait_until_finished()  # a run that resumes from this state needs it
                _save(self._last, step, state, journal=journal)

    def save_best(self, step: int, trainable: Tree) -> None:
        """Saves the best tree, which replaces the one before."""
        if step in self._best.all_steps():
            self._best.delete(step)  # saved by a killed run that is now being repeated
        with self._as_os_error():
            _save(self._best, step, trainable)

    def restore(self, like: TrainState, upto: int | None = None) -> tuple[TrainState | None, list[str]]:
        """Returns the latest readable state, laid out as `like`, and a line on each damaged one, which is removed.

        Args:
          upto: a step; the states of later steps are removed as well.

        Raises:
          Damaged: there are checkpoints, but none can be read.
        """
        damaged: dict[int, str] = {}
        for step in sorted(self._last.all_steps(), reverse=True):
            if upto is not None and step > upto:
                self._last.delete(step)
                continue
            try:
                state = _restore(self._last, step, like)
                self.journal = _metadata(self._last, step).get("journal")
            except Damaged as error:
                damaged[step], self._failed = str(error), True
                continue
            for unreadable in damaged:
                self._last.delete(unreadable)
            return state, list(damaged.values())
        if damaged:
            raise Damaged(f"{'; '.join(damaged.values())}; no other is left: train anew in another folder")
        return None, []

    def restore_best(self, step: int, like: Tree) -> Tree:
        """Returns the best tree, that of a step, laid out as `like`; `Damaged` if it cannot be read."""
        try:
            return _restore(self._best, step, like)
        except Damaged as error:
            self._failed = True
            raise Damaged(f"{error}; train anew in another folder") from None

    @contextmanager
    def _as_os_error(self) -> Iterator[None]:
        """Raises what the system refuses, such as disk space, as an OSError, where orbax reports a ValueError."""
        try:
            yield
        except (OSError, ValueError) as error:
            self._failed = True
            # Orbax drops the coroutines that it had begun, and Python would warn of each.
            warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
            if isinstance(error, OSError):
                raise
            if (number := _OS_ERROR.search(str(error))) is None:
                raise
            raise OSError(int(number[1]), f"a checkpoint could not be written, {os.strerror(int(number[1]))}") from None

    def wait(self) -> None:
        with self._as_os_error():
            self._last.wait_until_finished()
            self._best.wait_until_finished()

    def close(self) -> None:
        try:
            with self._as_os_error():
                self._last.close()
                self._best.close()
            if not self._failed:  # failed writes end late, on threads of their own
                sys.unraisablehook = self._before
        finally:
            if self._lock is not None:
                self._lock.release()


def _without_noise(before: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Returns a hook for exceptions that nobody can catch, which passes on to `before` all but the meaningless ones.

    Where a read or a write fails, orbax closes its event loop under those in progress, and each of them prints that.
    """

    def hook(late: Any) -> None:
        if str(late.exc_value) != "Event loop is closed" and late.object is not asyncio.BaseEventLoop.__del__:
            before(late)

    return hook


class _Folder(PosixGPath):
    """A path in which orbax finds its files whatever its name: `[v2]` in it is text, not a pattern."""

    def glob(self, pattern: str) -> "Iterator[_Folder]":
        return map(self._new, glob.iglob(os.path.join(glob.escape(str(self)), pattern)))


def _manager(folder: Path, keep: int) -> ocp.CheckpointManager:
    # Where a folder cannot be made, threads that wait for it would keep the process alive for many minutes.
    threads = ocp.AsyncOptions(create_directories_asynchronously=False)
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, async_options=threads)
    # Without a handler, orbax guesses the layout from the latest step, and an empty folder makes all unreadable.
    handler = ocp.StandardCheckpointHandler()
    try:
        return ocp.CheckpointManager(_Folder(folder.resolve()), options=options, item_handlers=handler)
    except ValueError as error:
        raise Damaged(f"{folder}: damaged checkpoint ({_reason(error)}); train anew in another folder") from None


def _save(manager: ocp.CheckpointManager, step: int, tree: Any, **about: str) -> None:
    manager.save(step, args=ocp.args.StandardSave(tree), custom_metadata={"sha256": _digest(tree), **about})


def _metadata(manager: ocp.CheckpointManager, step: int) -> dict[str, str]:
    """Returns what was saved with a tree; empty if an older version saved it, or if this record is damaged."""
    return manager.metadata(step).custom_metadata or {}


def _restore(manager: ocp.CheckpointManager, step: int, like: Any) -> Any:
    """Returns the tree of a step, laid out as `like`; `Damaged` if it cannot be read, or is not what was saved."""
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)
    try:
        tree = manager.restore(step, args=ocp.args.StandardRestore(shapes))
        if _metadata(manager, step).get("sha256") not in (None, _digest(tree)):
            raise ValueError("its values are not those that were saved")
    except Exception as error:  # a damaged checkpoint makes orbax and its libraries raise anything
        raise Damaged(f"{Path(manager.directory) / str(step)}: damaged checkpoint ({_reason(error)})") from None
    return tree


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def _digest(tree: Any) -> str:
    """Returns the SHA-256 of a tree's values, on whatever devices they are."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(hosts.fetch(tree)):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
