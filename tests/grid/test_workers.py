"""Grids whose cells run side by side, in processes of this machine: the same folders, whatever happens to a process."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from adakron_jax.io import interrupts
from tests.engine.test_run import call
from tests.support.results import result_of
from tests.support.runs import ROOT, differences, journal, outcome
from train import signals
from train.grid import dispatch, local
from train.grid.cells import Cell
from train.grid.local import Place, places
from train.grid.worker import Assignment, Done, Failed, Gone, Message, Ready, Said
from train.options.command import parse_command
from train.options.config import RunConfig
from train.options.launch import Launch

STEPS, EPOCHS, SEEDS = 24, 3, (0, 1, 2)
DEADLINE = 300.0  # seconds until something must have happened


@pytest.fixture(scope="module")
def flags(tiny: Path) -> Callable[[Path], list[str]]:
    """The command line of every grid here, but for its workers."""
    said = {"task": "sst2", "data": "mini", "model": tiny, "epochs": EPOCHS, "learning-rate": "1e-3"}
    said |= {"batch-size": 8, "limit-train": 8 * STEPS, "limit-eval": 32, "max-length": 64}
    words = [word for name, value in said.items() for word in (f"--{name}", str(value))]
    return lambda out: [*words, "--seed", *map(str, SEEDS), "--out", str(out)]


def folders(out: Path) -> list[Path]:
    return [out / f"sst2-adakron-seed{seed}" for seed in SEEDS]


@pytest.fixture(scope="module")
def expected(flags: Callable[[Path], list[str]], tmp_path_factory: pytest.TempPathFactory) -> list[Mapping[str, Any]]:
    """What the cells' folders hold when they have run one after another."""
    out = tmp_path_factory.mktemp("one-after-another")
    ended = call(*flags(out))
    assert (ended.code, ended.err) == (0, "")
    return [outcome(folder) for folder in folders(out)]


def assert_same(out: Path, expected: list[Mapping[str, Any]]) -> None:
    assert [differences(folder, right) for folder, right in zip(folders(out), expected, strict=True)] == [[]] * 3


def working(folder: Path, step: int) -> int:
    """The process that is in a folder and has recorded a step; 0 if there is none."""
    try:
        words = (folder / "lock").read_text().split()
    except FileNotFoundError:
        return 0
    return int(words[1]) if words and any(record["step"] >= step for record in journal(folder)) else 0


@contextmanager
def meanwhile(act: Callable[[], None]) -> Iterator[None]:
    """Acts in a thread; what it raises is raised here at the end."""
    with futures.ThreadPoolExecutor(1) as pool:
        acting = pool.submit(act)
        yield
        acting.result()


@contextmanager
def halted(*folders: Path, ready: Callable[[], Any] = lambda: True) -> Iterator[list[int]]:
    """Halts the process in each of the folders once it is ready, before the run there has ended; the processes."""
    held: dict[Path, int] = {}

    def halt() -> bool:
        for folder in folders:
            if folder not in held and (process := working(folder, 1)) and ready():
                os.kill(process, signal.SIGSTOP)
                held[folder] = process
                assert working(folder, 1) == process, "the run has ended too soon"
        return len(held) == len(folders)

    try:
        wait_for(halt)
        yield list(held.values())
    finally:
        for process in held.values():
            os.kill(process, signal.SIGCONT)


def wait_for(condition: Callable[[], Any]) -> None:
    until = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.002)


def test_cells_side_by_side_leave_the_same_folders_as_one_after_another_also_if_a_worker_is_killed(
    flags: Callable[[Path], list[str]], expected: list[Mapping[str, Any]], tmp_path: Path
):
    first, second, third = folders(tmp_path)

    def kill_one_when_the_other_runs() -> None:
        with halted(first, ready=(first / "checkpoints" / str(STEPS)).is_dir) as (process,):
            wait_for(lambda: journal(second))
            os.kill(process, signal.SIGKILL)

    with meanwhile(kill_one_when_the_other_runs):
        ended = call(*flags(tmp_path), "--workers", "local:2")
    assert (ended.code, ended.err) == (0, "")
    assert "the worker of sst2-adakron-seed0 is gone (killed by SIGKILL)" in ended.out
    assert re.search(rf"sst2-adakron-seed0: resumed after step \d+ of {STEPS * EPOCHS}", ended.out)
    assert_same(tmp_path, expected)
    lines = ended.out.splitlines()
    assert "cell 2 of 3: sst2-adakron-seed1; 0 done, 2 running, 1 left" in lines
    for folder in (second, third):
        rows = [
            line.split()[1:] for line in lines if line.startswith(f"{folder.name}: ") and line.split()[1].isdecimal()
        ]
        assert [row[:2] for row in rows if row[1].isdecimal()] == [
            [str(epoch), str(epoch * STEPS)] for epoch in range(1, EPOCHS + 1)
        ]


def test_a_stopped_grid_has_saved_all_that_ran_and_goes_on_with_as_many_workers_as_there_are_then(
    flags: Callable[[Path], list[str]], expected: list[Mapping[str, Any]], tmp_path: Path
):
    first, second, third = folders(tmp_path)

    def stop() -> None:
        with halted(first, second):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(2 * local.LOOK_SECONDS)  # so that the workers have been told when they go on

    with meanwhile(stop):
        stopped = call(*flags(tmp_path), "--workers", "local:2")
    assert (stopped.code, stopped.err) == (130, "train: stopped: 0 done, 3 left; the same command continues\n")
    for folder in (first, second):
        last = journal(folder)[-1]["step"]
        assert (folder / "checkpoints" / str(last)).is_dir()
        assert not (folder / "lock").exists()
    assert not third.exists()
    ended = call(*flags(tmp_path), "--workers", "local:1")
    assert (ended.code, ended.err) == (0, "")
    assert_same(tmp_path, expected)


def test_workers_whose_parent_is_killed_save_and_end(
    flags: Callable[[Path], list[str]], expected: list[Mapping[str, Any]], tmp_path: Path
):
    words = [sys.executable, "-m", "train", *flags(tmp_path), "--workers", "local:2"]
    parent = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    first = folders(tmp_path)[0]
    wait_for(lambda: working(first, 2))
    parent.kill()
    parent.wait()
    wait_for(lambda: not any((folder / "lock").exists() for folder in folders(tmp_path)))
    last = journal(first)[-1]["step"]
    assert last < STEPS * EPOCHS
    assert (first / "checkpoints" / str(last)).is_dir()
    ended = call(*flags(tmp_path))
    assert (ended.code, ended.err) == (0, "")
    assert_same(tmp_path, expected)


# --- what is asked for


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--seed", "0", "1", "--workers", "many"], "workers is 'many'; accepted: local, local:N, ray, ray:ADDRESS"),
        (["--seed", "0", "1", "--workers", "local:0"], "workers is 'local:0'; accepted: local, local:N"),
        (["--seed", "0", "1", "--workers", "ray:"], "workers is 'ray:'; accepted"),
        (["--workers", "local"], "workers is 'local', with one run; accepted: a grid"),
        (["--seed", "0", "1", "--devices-per-run", "2"], "devices_per_run is 2, without workers; accepted: with --wor"),
        (
            ["--seed", "0", "1", "--workers", "local", "--devices-per-run", "0"],
            "devices_per_run is 0; accepted: mesh, ",
        ),
        (
            ["--seed", "0", "1", "--workers", "local", "--devices-per-run", "1", "--mesh", "data=2"],
            "devices_per_run is 1; accepted: at least 2, those of the mesh",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(tiny: Path, tmp_path: Path, words: list[str], complaint: str):
    ended = call("--task", "sst2", "--data", "mini", "--model", tiny, "--out", tmp_path / "o", *words)
    assert ended.code == 2
    assert len(ended.err.splitlines()) == 1
    assert complaint in ended.err
    assert not (tmp_path / "o").exists()


def test_a_mesh_for_which_there_are_too_few_devices_is_refused(tiny: Path, tmp_path: Path):
    words = ["--task", "sst2", "--data", "mini", "--model", tiny, "--seed", "0", "1", "--max-length", "64"]
    words += ["--out", tmp_path / "o"]
    ended = call(*words, "--workers", "local:2", "--mesh", "data=16")
    assert (ended.code, ended.err) == (2, "train: mesh is 'data=16', 16 devices; available: 8 (cpu)\n")
    assert not (tmp_path / "o").exists()


def test_workers_of_a_cpu_share_its_cores_and_have_as_many_threads_as_this_process(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 3, 5, 7})
    monkeypatch.delenv("NPROC", raising=False)
    cores = lambda *asked: [place.cores for place in places(*asked, "cpu", 1)]  # noqa: E731
    assert cores(2, 9, 1) == [(2, 3), (5, 7)]
    assert cores(0, 9, 1) == [(2,), (3,), (5,), (7,)]
    assert cores(0, 9, 2) == [(2, 3), (5, 7)]
    assert cores(0, 2, 1) == [(2, 3), (5, 7)]  # no more workers than groups
    assert cores(3, 9, 1) == [(2,), (3,), (5, 7)]
    assert cores(0, 9, 8) == [(2, 3, 5, 7)]
    assert sorted(cores(6, 9, 1)) == sorted(((2,), (2,), (3,), (5,), (7,), (7,)))
    assert places(2, 9, 1, "cpu", 1)[0].environment == {"NPROC": "4"}


def test_workers_of_accelerators_have_each_their_own(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    visible = lambda *asked: [place.environment["CUDA_VISIBLE_DEVICES"] for place in places(*asked, "gpu", 4)]  # noqa: E731
    assert visible(0, 9, 1) == ["4", "5", "6", "7"]
    assert visible(0, 9, 2) == ["4,5", "6,7"]
    assert visible(2, 9, 1) == ["4", "5"]
    assert visible(0, 1, 1) == ["4"]
    with pytest.raises(ValueError, match=r"workers is 'local:3', each with 2 devices; available: 4 \(gpu\)"):
        visible(3, 9, 2)
    with pytest.raises(ValueError, match=r"workers is 'local', each with 8 devices; available: 4 \(gpu\)"):
        visible(0, 9, 8)
    chips = places(0, 9, 2, "tpu", 4)[1].environment
    assert (chips["TPU_VISIBLE_CHIPS"], chips["TPU_CHIPS_PER_PROCESS_BOUNDS"]) == ("2,3", "1,2,1")


def test_a_worker_that_cannot_start_says_why(tiny: Path, tmp_path: Path):
    words = ["--task", "sst2", "--data", "mini", "--model", str(tiny), "--seed", "0", "1", "--out", str(tmp_path / "o")]
    command = parse_command(words)
    process = local.Process(str(tiny / "not-there"), Place({"JAX_PLATFORMS": "no-such"}))
    try:
        said: list[Message] = []
        wait_for(lambda: said.extend(process.receive()) or said)
        process.send(Assignment(command.runs[:1], 0.0))
        wait_for(lambda: said.extend(process.receive()) or any(isinstance(one, Failed | Gone) for one in said))
    finally:
        process.close()
    assert isinstance(said[0], Ready | Said)
    assert "no-such" in repr(said[-1]) or "not-there" in repr(said[-1])


def test_a_worker_imports_the_program_and_not_what_lies_in_the_working_directory(tiny: Path, tmp_path: Path):
    for name in ("train", "jax", "json"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('the {name}.py of the working directory')\n")
    process = local.Process(str(tiny), Place({}), str(tmp_path))
    try:
        said: list[Message] = []
        wait_for(lambda: said.extend(process.receive()) or any(isinstance(one, Ready | Gone) for one in said))
    finally:
        process.close()
    assert isinstance(said[-1], Ready), said


def test_devices_are_counted_by_the_jax_that_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "jax.py").write_text("raise SystemExit('the jax.py of the working directory')\n")
    monkeypatch.chdir(tmp_path)
    assert local.probe_devices()[0] == "cpu"


# --- the schedule


class Scripted:
    """Workers that say what a script says each time they are asked, and take down what they are told."""

    in_process = False

    def __init__(self, *script: list[tuple[int, Message]], count: int = 2):
        self.count, self._script = count, iter(script)
        self.started: list[int] = []
        self.given: list[tuple[int, list[str]]] = []
        self.stopped = 0

    def start(self, number: int) -> None:
        self.started.append(number)

    def give(self, number: int, assignment: Assignment) -> None:
        self.given.append((number, [config.folder.name for config in assignment.configs]))

    def wait(self) -> list[tuple[int, Message]]:
        return next(self._script)

    def stop(self) -> None:
        self.stopped += 1

    def close(self) -> None:
        self.stopped += 1


def grid(seeds: int) -> list[Cell]:
    return [Cell(RunConfig(task="rte", seed=seed, out=f"no/{seed}"), 4) for seed in range(seeds)]


def done(cells: int = 1) -> Done:
    return Done((result_of(RunConfig(task="rte"), [{"epoch": 1, "step": 4, "accuracy": 0.5}]),) * cells)


def carry_out(cells: list[Cell], workers: Scripted, together: bool = False) -> Scripted:
    dispatch.Schedule(cells, together).run(workers)
    return workers


def test_what_a_lost_worker_had_goes_to_the_next_that_is_free_before_all_else():
    cells = grid(4)
    script = [[(0, Ready()), (1, Ready())], [(1, Gone("lost"))], [(0, done())], [(0, done())], [(1, Ready())]]
    workers = carry_out(cells, Scripted(*script, [(0, done())], [(1, done())]))
    assert workers.started == [0, 1, 1]
    assert workers.given == [(0, ["0"]), (1, ["1"]), (0, ["1"]), (0, ["2"]), (1, ["3"])]
    assert [cell.state for cell in cells] == ["done"] * 4


def test_a_cell_whose_workers_are_lost_again_and_again_fails_and_the_others_run():
    cells = grid(2)
    lost = [[(0, Ready())], [(0, Gone("killed by SIGKILL"))]] * 3
    workers = carry_out(cells, Scripted(*lost, [(0, Ready())], [(0, done())], count=1))
    assert cells[0].error == "3 of its workers died: killed by SIGKILL"
    assert cells[1].result is not None
    assert len(workers.given) == 4


def test_workers_that_never_come_to_be_ready_end_the_grid():
    with pytest.raises(ValueError, match="workers cannot be started: exit code 1: no module"):
        carry_out(grid(2), Scripted(*[[(0, Gone("exit code 1: no module"))]] * 3, count=1))


def test_where_one_worker_cannot_be_started_the_others_do_what_there_is():
    cells = grid(3)
    lost = [[(1, Gone("no device"))]] * 3
    workers = carry_out(cells, Scripted([(0, Ready())], *lost, [(0, done())], [(0, done())], [(0, done())]))
    assert workers.started == [0, 1, 1, 1]
    assert [cell.state for cell in cells] == ["done"] * 3


def test_the_run_of_a_group_that_failed_is_left_out():
    cells = grid(3)
    script = [[(0, Ready())], [(0, Failed("the loss is nan", (1,)))], [(0, done(2))]]
    workers = carry_out(cells, Scripted(*script, count=1), together=True)
    assert [names for _, names in workers.given] == [["0", "1", "2"], ["0", "2"]]
    assert [cell.state for cell in cells] == ["done", "the loss is nan", "done"]


def test_a_group_whose_runs_no_longer_share_a_step_is_divided(tmp_path: Path):
    cells = [Cell(RunConfig(task="rte", seed=seed, out=str(tmp_path / str(seed))), 4) for seed in range(3)]

    class Leaving(Scripted):
        def give(self, number: int, assignment: Assignment) -> None:
            super().give(number, assignment)
            for step in ("2", "3"):
                (tmp_path / "1/checkpoints" / step).mkdir(parents=True, exist_ok=True)

    workers = Leaving([(0, Ready())], [(0, Failed("", ()))], [(0, done(2))], [(0, done())], count=1)
    carry_out(cells, workers, together=True)
    assert [names for _, names in workers.given] == [["0", "1", "2"], ["0", "2"], ["1"]]


def test_a_full_disk_ends_the_grid():
    with pytest.raises(OSError, match="No space left"):
        carry_out(grid(2), Scripted([(0, Ready())], [(0, OSError(28, "No space left"))], count=1))


def test_a_stop_waits_for_all_workers(monkeypatch: pytest.MonkeyPatch):
    cells, asked = grid(3), iter([False, True, True, True, True, True])
    monkeypatch.setattr(interrupts, "came", lambda: next(asked))
    workers = Scripted([(0, Ready()), (1, Ready())], [], [(0, Gone("exit code 130"))], [(1, Gone("exit code 130"))])
    with pytest.raises(signals.Stopped, match="stopped: 0 done, 3 left$"):
        carry_out(cells, workers)
    assert (workers.stopped, workers.started) == (1, [0, 1])


def test_a_launch_alone_is_checked():
    assert Launch(workers="ray:host:6379", devices_per_run=2).workers == "ray:host:6379"
    with pytest.raises(ValueError, match="workers is 'local:-1'"):
        Launch(workers="local:-1")
