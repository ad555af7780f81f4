"""What a run records: `metrics.jsonl` is tested with whole runs, TensorBoard's events here."""

import errno
import struct
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from train.output.journal import Journal


def events(folder: Path) -> list[Event]:
    """Of all files, in the order in which they were begun: TFRecords, whose lengths and contents have checksums."""
    found = []
    for path in sorted((folder / "tensorboard").iterdir(), key=lambda path: int(path.suffix[1:])):
        contents = path.read_bytes()
        while contents:
            (size,) = struct.unpack("<Q", contents[:8])
            found.append(Event.FromString(contents[12 : 12 + size]))
            contents = contents[16 + size :]
    return found


def test_every_number_is_an_event_and_a_resumed_run_makes_later_ones_void(tmp_path: Path):
    journal = Journal(tmp_path, 0)
    for step in (1, 2):
        journal.write({"kind": "train", "step": step, "loss": 0.5 * step})
    journal.write({"kind": "eval", "step": 2, "split": "validation", "accuracy": 75.0})
    kept = journal.digest
    journal.write({"kind": "train", "step": 3, "loss": 9.0})
    journal.close()
    Journal(tmp_path, 2, kept).close()
    scalars = [
        (event.step, value.tag, value.simple_value) for event in events(tmp_path) for value in event.summary.value
    ]
    assert scalars == [
        (1, "train/loss", 0.5),
        (2, "train/loss", 1.0),
        (2, "eval/accuracy", 75.0),
        (3, "train/loss", 9.0),
    ]
    starts = [event.step for event in events(tmp_path) if event.session_log.status == SessionLog.START]
    assert starts == [1, 3]


def test_a_full_disk_is_met_by_who_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    journal = Journal(tmp_path, 0)
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        journal.write({"kind": "eval", "step": 1, "accuracy": 75.0})
    monkeypatch.undo()
    journal.close()
