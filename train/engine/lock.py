"""One process at a time in a run's folder."""

import contextlib
import os
import platform
from pathlib import Path

from filelock import FileLock, Timeout


class Lock:
    """Keeps other processes out of a folder until it is released, or this process ends in any way.

    The system holds the lock, not the file: the file of a killed process locks nothing.

    Raises:
      ValueError: another process is using the folder; the message names it.
    """

    def __init__(self, folder: Path):
        self._path = folder / "lock"
        self._lock = FileLock(self._path, thread_local=False, on_acquired=_sign)
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            raise ValueError(
                f"{folder} is in use by {_holder(self._path)}; accepted: another --out, or waiting"
            ) from None

    def release(self) -> None:
        if self._lock.is_locked:
            # Before the lock is released: a process that then acquires the deleted file makes another. A file that
            # cannot be unlinked locks nothing.
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
            self._lock.release()


def await_free(folder: Path, seconds: float) -> None:
    """Waits until no process uses a folder, if there is such a folder, for at most so many seconds."""
    if folder.is_dir():
        with contextlib.suppress(Timeout):  # the next to open it is told which process holds it
            FileLock(folder / "lock").acquire(timeout=seconds).lock.release()


def _holder(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except FileNotFoundError:
        return "a process that is leaving it"


def _sign(file: int) -> None:
    os.ftruncate(file, 0)
    os.write(file, f"process {os.getpid()} on {platform.node()}\n".encode())
