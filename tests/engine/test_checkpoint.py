"""Checkpoints by themselves; what a run does with them is in test_resume.py."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import orbax.checkpoint as ocp
import pytest

from train.engine.checkpoint import Checkpoints, Damaged

LATE = SimpleNamespace(exc_value=RuntimeError("Event loop is closed"))  # what orbax leaves of a read that ends too late


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
    other = SimpleNamespace(exc_value=RuntimeError("something else"))
    sys.unraisablehook(other)
    assert printed == [other]
    checkpoints.close()


def test_a_checkpoint_that_is_read_leaves_python_as_it_was(tmp_path: Path, printed: list[Any]):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_best(3, {"leaf": jnp.arange(2.0)})
    checkpoints.wait()
    assert checkpoints.restore_best(3, {"leaf": jnp.zeros(2)})["leaf"].tolist() == [0, 1]
    assert sys.unraisablehook == printed.append
    checkpoints.close()
