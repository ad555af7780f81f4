"""One process at a time in a run's folder."""

import fcntl
import os
import platform
import weakref
from pathlib import Path


class Lock:
    """Keeps other processes out of a folder until it is released, or this process ends in whatever way.

    The system holds the lock, not the file: one that a killed process has left keeps nobody out.

    Raises:
      ValueError: another process is in the folder; it is named.
    """

    def __init__(self, folder: Path):
        self._path = folder / "lock"
        file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        self._close = weakref.finalize(self, os.close, file)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 100).decode(errors="replace").strip()
            self._close()
            raise ValueError(f"{folder} is in use by {holder}; accepted: another --out, or to wait") from None
        except OSError:  # a file system without locks
            pass
        os.ftruncate(file, 0)
        os.write(file, f"process {os.getpid()} on {platform.node()}\n".encode())

    def release(self) -> None:
        if self._close.alive:
            self._path.unlink(missing_ok=True)
            self._close()
