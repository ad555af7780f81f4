"""One process at a time in a run's folder."""

import fcntl
import os
import platform
from pathlib import Path


class Lock:
    """Keeps other processes out of a folder until it is released, or this process ends in whatever way.

    The system holds the lock, not the file: one that a killed process has left keeps nobody out.

    Raises:
      ValueError: another process is in the folder; it is named.
    """

    def __init__(self, folder: Path):
        self._path = folder / "lock"
        self._file: int | None = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._file, 100).decode(errors="replace").strip()
            self._close()
            raise ValueError(f"{folder} is in use by {holder}; accepted: another --out, or to wait") from None
        except OSError:  # a file system without locks
            pass
        os.ftruncate(self._file, 0)
        os.write(self._file, f"process {os.getpid()} on {platform.node()}\n".encode())

    def release(self) -> None:
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            self._close()

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    __del__ = _close
