"""`metrics.jsonl` and TensorBoard events."""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

from adakron_jax.io.files import write_whole

FILE = "metrics.jsonl"
FLUSH_SECONDS = 30.0  # that events wait in memory at most


class Journal:
    """`metrics.jsonl` and TensorBoard events: one record per logged step and one per evaluation."""

    def __init__(self, folder: Path, resumed_at: int, expected: str | None = None, writes: bool = True):
        """Continues the journal of a run resumed at a step; drops the records of later steps, which will be repeated.

        Args:
          expected: the digest of the records that stay, if it is known.
          writes: False if another process writes the journal, and this one only keeps the records in memory.

        Raises:
          ValueError: the journal is damaged.
        """
        self._path = folder / FILE
        self.records = [record for record in read_records(self._path) if record["step"] <= resumed_at]
        if not resumed_at:
            self.records = []
        if expected not in (None, self.digest):
            raise ValueError(f"{self._path}: damaged: not what the run has recorded; train anew in another folder")
        self._events = None
        if writes:
            write_whole(self._path, self._lines)
            self._events = _Events(folder / "tensorboard", resumed_at)

    def write(self, record: dict[str, Any]) -> None:
        self.records.append(record)
        if self._events is None:
            return
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        self._events.write(record)

    @property
    def _lines(self) -> bytes:
        return "".join(json.dumps(record) + "\n" for record in self.records).encode()

    @property
    def digest(self) -> str:
        """The SHA-256 of the records."""
        return hashlib.sha256(self._lines).hexdigest()

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [record for record in self.records if record["kind"] == kind]

    def close(self) -> None:
        if self._events is not None:
            self._events.close()


def digest_of(folder: Path) -> str:
    """Returns the SHA-256 of the records in a run's folder; empty if there are none."""
    path = folder / FILE
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


class _Events:
    """TensorBoard's events, written by the thread that records them.

    `SummaryWriter` leaves that to a thread of its own, which a full disk ends, and then waits for it.
    """

    def __init__(self, folder: Path, resumed_at: int):
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2

        folder.mkdir(parents=True, exist_ok=True)
        self._file = EventsWriter(str(folder / "events"), f".{resumed_at}")
        self._proto: Any = event_pb2  # its classes are made when it is imported
        begin = self._proto.SessionLog(status=self._proto.SessionLog.START)
        self._write(resumed_at + 1, session_log=begin)  # voids earlier events of later steps
        self._flushed = time.monotonic()

    def write(self, record: dict[str, Any]) -> None:
        """Writes a record's numbers, and flushes them to disk after an evaluation or FLUSH_SECONDS."""
        from tensorboardX.summary import scalar

        for name, value in record.items():
            if name not in ("kind", "step", "split"):
                self._write(record["step"], summary=scalar(f"{record['kind']}/{name}", value))
        if record["kind"] == "eval" or time.monotonic() > self._flushed + FLUSH_SECONDS:
            self._file.flush()
            self._flushed = time.monotonic()

    def _write(self, step: int, **what: Any) -> None:
        self._file.write_event(self._proto.Event(wall_time=time.time(), step=step, **what))

    def close(self) -> None:
        self._file.close()


def read_records(path: Path) -> list[dict[str, Any]]:
    """Returns the complete records of a journal, whose last line a killed run may have left unfinished."""
    if not path.is_file():
        return []
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
        if not all(isinstance(record["step"], int) for record in records):
            raise ValueError("a step is not a whole number")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{path}: damaged ({error}); train anew in another folder") from None
    return records
