"""Checkpoints by themselves; what a run does with them is in test_resume.py."""

import errno
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from train.__main__ import _guarded
from train.engine.checkpoint import Checkpoints, Damaged

LATE = SimpleNamespace(
    exc_value=RuntimeError("Event loop is closed"), object=None
)  # what orbax leaves of a read that ends too late


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What Python would print of exceptions that nobody can catch."""
    seen: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", seen.append)
    return seen


def test_reads_that_end_after_one_has_failed_print_nothing(
    tmp_path: Path, printed: list[Any], monkeypatch: pytest.MonkeyPatch
):
    def fail(*args: object, **more: object) -> None:
        sys.unraisablehook(LATE)
        raise ValueError("not a tensor")

    checkpoints = Checkpoints(tmp_path)
    monkeypatch.setattr(ocp.CheckpointManager, "restore", fail)
    with pytest.raises(Damaged, match=r"best/3: damaged checkpoint \(not a tensor\)"):
        checkpoints.restore_best(3, {"leaf": jnp.zeros(2)})
    sys.unraisablehook(LATE)
    assert printed == []
    other = SimpleNamespace(exc_value=RuntimeError("something else"), object=None)
    sys.unraisablehook(other)
    assert printed == [other]
    checkpoints.close()


def test_metadata_that_orbax_cannot_read_are_named_and_keep_nobody_out(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_best(3, {"leaf": jnp.zeros(2)})
    checkpoints.close()
    path = tmp_path / "best/3/_CHECKPOINT_METADATA"
    path.write_text(path.read_text().replace("performance_metrics", "performance_metrycs"))
    for _ in range(2):
        with pytest.raises(Damaged, match=f"^{tmp_path}/best: damaged checkpoint .*performance_metrycs"):
            Checkpoints(tmp_path)


def test_a_process_that_may_open_few_files_is_told_at_once():
    # Midway, orbax may wait long for a file that it cannot open.
    words = ["bash", "-c", 'ulimit -n 32; exec "$0" -m train --task sst2 --data mini', sys.executable]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60)
    line = "train: this process may have 32 files open (ulimit -n); accepted: at least 64\n"
    assert (ended.returncode, ended.stderr) == (2, line)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            ValueError("RESOURCE_EXHAUSTED: Failed to open: \"x.__lock\": Too many open files [os_error_code='24']"),
            "too many open files: [Errno 24] a checkpoint could not be written, Too many open files",
        ),
        (
            ValueError("Error writing: No space left on device [os_error_code='28']"),
            "no room on disk: [Errno 28] a checkpoint could not be written, No space left on device",
        ),
        (PermissionError(errno.EACCES, "Permission denied"), "no permission: [Errno 13] Permission denied"),
        (OSError(errno.EROFS, "Read-only file system"), "the disk is read-only: [Errno 30] Read-only file system"),
        (MemoryError(), "out of memory"),
        (RuntimeError("can't start new thread"), "out of memory: can't start new thread"),
    ],
)
def test_what_the_machine_refuses_is_said_in_a_line(
    error: Exception, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fail(*args: object, **more: object) -> None:
        raise error

    def save() -> int:
        checkpoints = Checkpoints(tmp_path)
        try:
            with monkeypatch.context() as patch:
                patch.setattr(ocp.CheckpointManager, "save", fail)
                checkpoints.save_best(3, {"leaf": jnp.zeros(2)})
        finally:
            checkpoints.close()
        return 0

    assert _guarded(save) == 2
    assert capsys.readouterr().err == f"train: {line}\n"


def test_a_mistake_of_ours_is_not_said_to_be_the_machine_s():
    def fail() -> int:
        raise ValueError("a shape is wrong")

    with pytest.raises(ValueError, match="a shape is wrong"):
        _guarded(fail)


def test_a_checkpoint_that_is_read_leaves_python_as_it_was(tmp_path: Path, printed: list[Any]):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_best(3, {"leaf": jnp.arange(2.0)})
    checkpoints.wait()
    assert checkpoints.restore_best(3, {"leaf": jnp.zeros(2)})["leaf"].tolist() == [0, 1]
    checkpoints.close()
    assert sys.unraisablehook == printed.append


@pytest.mark.parametrize("at", [0.3, 0.5, 0.7])
def test_a_turned_bit_among_the_values_is_damage(tmp_path: Path, at: float):
    like = {"leaf": jnp.asarray(np.random.default_rng(0).normal(size=4096), jnp.float32)}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_best(3, like)
    checkpoints.wait()
    path = max((tmp_path / "best/3").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    contents = bytearray(path.read_bytes())
    contents[int(at * len(contents))] ^= 16
    path.write_bytes(contents)
    with pytest.raises(Damaged, match="best/3: damaged checkpoint"):
        checkpoints.restore_best(3, like)
    checkpoints.close()


@pytest.mark.parametrize("name", ["[v2]", "a*b", "**", "q?x", "100%20#x"])
def test_a_folder_may_be_called_anything(tmp_path: Path, name: str):
    folder = tmp_path / name
    folder.mkdir()
    for trial in range(2):
        checkpoints = Checkpoints(folder)
        if not trial:
            checkpoints.save_best(3, {"leaf": jnp.arange(2.0)})
            checkpoints.wait()
        assert checkpoints.restore_best(3, {"leaf": jnp.zeros(2)})["leaf"].tolist() == [0, 1]
        checkpoints.close()
