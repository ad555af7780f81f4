"""One process at a time in a folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from train.engine.lock import Lock

ROOT = Path(__file__).parents[2]
KILLED = """
import os, sys
from pathlib import Path
from train.engine.lock import Lock
lock = Lock(Path(sys.argv[1]))
os.kill(os.getpid(), 9)
"""
WAITING = """
import sys
from filelock import FileLock
print("waits", flush=True)
lock = FileLock(sys.argv[1] + "/lock")
lock.acquire(poll_interval=0.01)
print("holds", flush=True)
input()
"""


def test_a_second_is_refused_by_the_name_of_the_first_until_it_is_released(tmp_path: Path):
    lock = Lock(tmp_path)
    for _ in range(2):  # being refused leaves the name of the holder
        with pytest.raises(ValueError, match=f"{tmp_path} is in use by process {os.getpid()} on .*; accepted: another"):
            Lock(tmp_path)
    lock.release()
    lock.release()
    assert list(tmp_path.iterdir()) == []
    Lock(tmp_path).release()


def test_what_a_killed_process_left_keeps_nobody_out(tmp_path: Path):
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, timeout=60)
    assert "process " in (tmp_path / "lock").read_text()
    Lock(tmp_path).release()


def test_who_waited_while_the_file_was_removed_is_alone_afterwards(tmp_path: Path):
    first, command = Lock(tmp_path), [sys.executable, "-c", WAITING, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "waits\n"
        first.release()
        assert waiting.stdout.readline() == "holds\n"
        with pytest.raises(ValueError, match="in use"):
            Lock(tmp_path)
        waiting.communicate("\n", timeout=60)
