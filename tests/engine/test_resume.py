"""Interrupted runs: whatever stops a run, the same command continues it, to the same bits.

All runs here have the same configuration, so its programs are compiled once and then taken from JAX's cache on disk.
"""

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.runs import Ended, call, differences, journal, outcome, start
from train.engine.run import RunGroup
from train.output.journal import Journal

EPOCHS, STEPS = 3, 16  # of a run, and of an epoch
LAST = EPOCHS * STEPS
RANDOM = random.Random(0)  # of the steps after which runs are killed
DEADLINE = 300.0  # seconds until a process must have come to its step


Flags = Callable[[Path], list[str]]


@pytest.fixture(scope="module")
def flags(tiny: Path) -> Flags:
    """The command line of every run here but for its folder."""
    said = {"task": "sst2", "data": "mini", "model": tiny, "epochs": EPOCHS, "learning-rate": "1e-3"}
    said |= {"batch-size": 8, "limit-train": 8 * STEPS, "limit-eval": 32, "max-length": 64}
    return lambda out: [word for name, value in (said | {"out": out}).items() for word in (f"--{name}", str(value))]


Outcome = Mapping[str, Any]  # all of a run's folder that must not depend on how often it was interrupted


def assert_same(folder: Path, uninterrupted: Outcome) -> None:
    assert differences(folder, uninterrupted) == []


@pytest.fixture(scope="module")
def uninterrupted(flags: Flags, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("runs") / "uninterrupted"
    ended = call(flags(folder))
    assert (ended.code, ended.err) == (0, "")
    return outcome(folder)


def test_an_uninterrupted_run_records_every_step_once(uninterrupted: Outcome):
    records = [json.loads(line) for line in uninterrupted["metrics.jsonl"].splitlines()]
    steps = {kind: [record["step"] for record in records if record["kind"] == kind] for kind in ("train", "eval")}
    assert steps == {"train": list(range(1, LAST + 1)), "eval": [STEPS, 2 * STEPS, LAST]}


# --- signals to a process


def interrupt(words: list[str], folder: Path, step: int, number: signal.Signals) -> Ended:
    """Starts the program, and sends it a signal as soon as it has recorded a step."""
    process = start(words)
    try:
        deadline = time.monotonic() + DEADLINE
        while not any(record["step"] >= step for record in journal(folder)) and process.poll() is None:
            assert time.monotonic() < deadline, f"step {step} was not reached"
            time.sleep(0.005)
        process.send_signal(number)
        out, err = process.communicate(timeout=DEADLINE)
    finally:
        process.kill()
        process.wait()
    return Ended(process.returncode, out, err)


def test_a_killed_run_ends_as_if_it_had_not_been_killed(flags: Flags, uninterrupted: Outcome, tmp_path: Path):
    step = RANDOM.randint(1, 2 * LAST // 3)
    print(f"killed after step {step}")
    killed = interrupt(flags(tmp_path / "run"), tmp_path / "run", step, signal.SIGKILL)
    assert killed.code == -signal.SIGKILL
    assert not (tmp_path / "run/result.json").exists()
    with (tmp_path / "run/metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"kind": "train", "st')  # as if it had been killed while it wrote
    again = call(flags(tmp_path / "run"))
    assert (again.code, again.err) == (0, "")
    assert_same(tmp_path / "run", uninterrupted)


def test_a_terminated_run_saves_its_state_and_continues_from_there(
    flags: Flags, uninterrupted: Outcome, tmp_path: Path
):
    step = RANDOM.randint(1, 2 * LAST // 3)
    print(f"terminated after step {step}")
    stopped = interrupt(flags(tmp_path / "run"), tmp_path / "run", step, signal.SIGTERM)
    assert stopped.code == 130
    assert len(stopped.err.splitlines()) == 1
    assert "the same command continues" in stopped.err
    saved = saved_steps(tmp_path / "run")
    assert f"stopped after step {saved[-1]} of {LAST}" in stopped.err
    assert saved[-1] >= step
    assert journal(tmp_path / "run")[-1]["step"] == saved[-1]
    again = call(flags(tmp_path / "run") + ["--resume", "must"])
    assert (again.code, again.err) == (0, "")
    assert f"resumed after step {saved[-1]} of {LAST}" in again.out
    assert_same(tmp_path / "run", uninterrupted)


# --- signals at a chosen step


def saved_steps(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir())


def stop_after(words: list[str], step: int, number: signal.Signals = signal.SIGTERM) -> Ended:
    """Runs the program in this process, and sends it a signal while it computes a step.

    A step is recorded while the next one is under way; the last of an epoch has no next one.
    """
    write, unexpected = Journal.write, []

    def write_and_send(file: Any, record: dict[str, Any]) -> None:
        write(file, record)
        if record["kind"] == "train" and record["step"] == step - 1:
            os.kill(os.getpid(), number)

    before = signal.signal(number, lambda *_: unexpected.append(number))
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Journal, "write", write_and_send)
            ended = call(words)
    finally:
        signal.signal(number, before)
    assert unexpected == [], "the program left the signal to others"
    return ended


@pytest.fixture(scope="module")
def stopped(flags: Flags, uninterrupted: Outcome, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run stopped in the middle of its last epoch, with the checkpoints of this step and of the epoch before."""
    folder = tmp_path_factory.mktemp("runs") / "stopped"
    ended = stop_after(flags(folder), 40)
    assert ended.code == 130
    assert ended.err == f"train: stopped after step 40 of {LAST}; the same command continues\n"
    assert saved_steps(folder) == [2 * STEPS, 40]
    return folder


@pytest.fixture
def run(stopped: Path, tmp_path: Path) -> Path:
    """A copy of the stopped run, to do with as one likes."""
    return Path(shutil.copytree(stopped, tmp_path / "run"))


def test_a_run_stopped_in_the_last_step_of_an_epoch_and_of_the_run_misses_no_evaluation(
    flags: Flags, uninterrupted: Outcome, tmp_path: Path
):
    assert stop_after(flags(tmp_path / "run"), STEPS, signal.SIGINT).code == 130
    # There is nothing left to stop but the last evaluation.
    assert stop_after(flags(tmp_path / "run"), LAST).code in (0, 130)
    again = call(flags(tmp_path / "run"))
    assert (again.code, again.err) == (0, "")
    assert_same(tmp_path / "run", uninterrupted)


# --- another configuration, and --resume


def snapshot(folder: Path) -> dict[Path, bytes | None]:
    """Every path below the folder, with what files hold."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_another_configuration_in_the_same_folder_is_refused_by_the_fields_that_differ(flags: Flags, stopped: Path):
    before = snapshot(stopped)
    ended = call(flags(stopped) + ["--seed", "1", "--method.factors", "4", "4"])
    assert ended.code == 2
    assert len(ended.err.splitlines()) == 1
    assert str(stopped) in ended.err
    assert "seed 0 -> 1" in ended.err
    assert "method.factors [12, 4] -> [4, 4]" in ended.err
    assert "epochs" not in ended.err
    assert snapshot(stopped) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [("", None), ('"epoch": 1', '"epoch": 2'), ('"loss": 0', '"loss": 1'), ("{", "["), ('"step"', '"stop"')],
)
def test_a_journal_that_is_not_the_checkpoint_s_is_refused_by_its_name(
    flags: Flags, run: Path, old: str, new: str | None
):
    path = run / "metrics.jsonl"
    text = path.read_text()
    path.write_text("" if new is None else text.replace(old, new, 1))
    assert (damaged := path.read_text()) != text
    ended = call(flags(run))
    assert ended.code == 2
    assert len(ended.err.splitlines()) == 1
    assert f"{path}: damaged" in ended.err
    assert path.read_text() == damaged
    assert not (run / "result.json").exists()


def test_resume_never_refuses_a_folder_that_holds_a_run(flags: Flags, stopped: Path):
    before = snapshot(stopped)
    ended = call(flags(stopped) + ["--resume", "never"])
    assert ended.code == 2
    assert len(ended.err.splitlines()) == 1
    assert "resume is 'never'" in ended.err
    assert str(stopped) in ended.err
    assert snapshot(stopped) == before


def test_resume_must_refuses_a_folder_that_holds_no_run(flags: Flags, tmp_path: Path):
    ended = call(flags(tmp_path / "none") + ["--resume", "must"])
    assert ended.code == 2
    assert ended.err == f"train: resume is 'must', but {tmp_path / 'none'} holds no run\n"
    assert not (tmp_path / "none").exists()


# --- damage


def overwrite_everything(checkpoint: Path) -> None:
    for path in checkpoint.rglob("*"):
        if path.is_file():
            path.write_bytes(b"\x93garbage\xff" * 9)


def overwrite_arrays(checkpoint: Path) -> None:
    for path in checkpoint.rglob("d/*"):
        path.write_bytes(b"\x93garbage\xff" * 9)


def remove_arrays(checkpoint: Path) -> None:
    for path in checkpoint.rglob("d/*"):
        path.unlink()


def remove_metadata(checkpoint: Path) -> None:
    for path in checkpoint.rglob("_*"):
        path.unlink()


def cut_everything(checkpoint: Path) -> None:
    for path in checkpoint.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(checkpoint: Path) -> None:
    shutil.rmtree(checkpoint)
    checkpoint.mkdir()


DAMAGES = [overwrite_everything, overwrite_arrays, remove_arrays, remove_metadata, cut_everything, empty]


def test_a_damaged_checkpoint_is_named_and_the_steps_after_the_one_before_are_repeated(
    flags: Flags, uninterrupted: Outcome, run: Path
):
    overwrite_everything(run / "checkpoints/40")
    again = call(flags(run))
    assert (again.code, again.err) == (0, "")
    assert f"{run / 'checkpoints/40'}: damaged checkpoint" in again.out
    assert "the one before is used" in again.out
    assert f"resumed after step {2 * STEPS} of {LAST}" in again.out
    assert_same(run, uninterrupted)


class Prepared(Exception):
    """The run would begin now."""


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_after_any_damage_the_checkpoint_before_is_used(
    flags: Flags, run: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None]
):
    def begin(end: int, epoch: int, group: RunGroup, *more: Any) -> None:
        raise Prepared(group.runs[0].start)

    monkeypatch.setattr("train.engine.loop.train_to", begin)
    damage(run / "checkpoints/40")
    assert call(flags(run)).err == f"Prepared: {2 * STEPS}"


@pytest.mark.parametrize("damage", [overwrite_everything, remove_arrays], ids=lambda damage: damage.__name__)
def test_a_run_whose_checkpoints_are_all_damaged_is_refused_by_their_names(
    flags: Flags, run: Path, damage: Callable[[Path], None]
):
    for step in (2 * STEPS, 40):
        damage(run / f"checkpoints/{step}")
    before = snapshot(run)
    ended = call(flags(run))
    assert ended.code == 2
    assert len(ended.err.splitlines()) == 1
    for step in (2 * STEPS, 40):
        assert str(run / f"checkpoints/{step}") in ended.err
    assert snapshot(run) == before
