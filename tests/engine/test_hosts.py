"""One run by several processes: the numbers are those of one, and what befalls one of them befalls all.

Each process takes seconds to start, so that the tests share the runs, and those that wait are under way meanwhile.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from safetensors.numpy import load_file

from adakron_jax.architectures.config import BERT_BASE
from benchmarks.hlo import Executable
from tests.engine.test_resume import overwrite_everything, saved_steps
from tests.support.runs import Ended, call, journal
from train.engine.steps.sharding import make_shardings
from train.options.command import parse_command
from train.options.mesh import MeshShape

ROOT = Path(__file__).parents[2]
EXAMPLES, BATCH, STEPS = 76, 8, 20  # of two epochs; the last batch of each is half full
STOPPED, KILLED = 7, 14  # steps; a vote of step 7 is read after step 8
SOLE = {"XLA_FLAGS": os.environ["XLA_FLAGS"].replace("count=8", "count=1")}
PAIRS = {"XLA_FLAGS": os.environ["XLA_FLAGS"].replace("count=8", "count=2")}

# The program, which sends itself a signal while it computes a step, one that kills it when there is a checkpoint, and
# keeps the text of what it compiles.
DRIVER = """
import os, signal, sys, time
from pathlib import Path
from adakron_jax.xla.compiled import PerShape
from train.__main__ import main
from train.engine import hosts, loop
from train.engine.run import RunGroup

number, at, text, late, *words = sys.argv[1:]
taken, step, compiled = [], RunGroup.step, PerShape.compiled

def step_and_send(group, *args):
    taken.append(group)
    if len(taken) == int(at):
        saved = Path(words[words.index("--out") + 1], "checkpoints/10")
        while int(number) == signal.SIGKILL and not saved.exists():
            time.sleep(0.05)
        os.kill(os.getpid(), int(number))
    return step(group, *args)

def compiled_and_kept(steps, *args):
    executable = compiled(steps, *args)
    if text and hasattr(args[0], "opt_state"):
        Path(text).write_text(executable.as_text())
    return executable

hosts.agreement.SHARED_SECONDS = 1.0
if late:
    loop.SAVE_SECONDS = 0.0
RunGroup.step, PerShape.compiled = step_and_send, compiled_and_kept
sys.exit(main(words))
"""


class Group(NamedTuple):
    """The processes of one run, and when they were started."""

    processes: list[subprocess.Popen]
    begun: float

    def end(self) -> list[Ended]:
        """How each has ended, waited for."""
        told = [process.communicate(timeout=300) for process in self.processes]
        return [Ended(process.returncode, *texts) for process, texts in zip(self.processes, told, strict=True)]


def start(
    words: Sequence[str],
    count: int,
    signals: dict[int, tuple[int, int]] | None = None,
    text: Path | None = None,
    environment: dict[str, str] = SOLE,
    more: dict[int, list[str]] | None = None,
    slurm: bool = False,
    folders: Sequence[Path] = (ROOT, ROOT, ROOT, ROOT),
    late: int | None = None,
) -> Group:
    """Starts the hosts of a run.

    Args:
      signals: host -> the signal that it sends itself, and at which step.
      text: where host 0 writes the compiled step.
      more: host -> flags that the others have not.
      folders: the working folder of each.
      late: the host that wishes to save after each step.
      slurm: by `--hosts auto`, with the variables of a job of one node.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    processes = []
    for host in range(count):
        number, step = (signals or {}).get(host, (0, 0))
        head = [str(int(number)), str(step), str(text or "") if host == 0 else "", "late" if host == late else ""]
        own = ["--hosts", "auto" if slurm else f"127.0.0.1:{port},{count},{host}", *(more or {}).get(host, [])]
        job = {"SLURM_JOB_ID": "1", "SLURM_STEP_NODELIST": "127.0.0.1", "JAX_COORDINATOR_PORT": str(port)}
        job |= {"SLURM_NTASKS": str(count), "SLURM_PROCID": str(host), "SLURM_LOCALID": str(host)}
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", DRIVER, *head, *words, *own],
                cwd=folders[host],
                env=os.environ | environment | {"PYTHONPATH": str(ROOT)} | (job if slurm else {}),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return Group(processes, time.monotonic())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hosts")


class Words(NamedTuple):
    """The command line of every run here but for its folder and its hosts."""

    tiny: Path

    def to(self, out: Path) -> list[str]:
        said = {"task": "sst2", "data": "mini", "model": self.tiny, "epochs": 2, "learning-rate": "1e-3"}
        said |= {"batch-size": BATCH, "limit-train": EXAMPLES, "limit-eval": 32, "max-length": 64, "best-by": "last"}
        return [word for name, value in (said | {"out": out}).items() for word in (f"--{name}", str(value))]


@pytest.fixture(scope="module")
def words(tiny: Path) -> Words:
    return Words(tiny)


@pytest.fixture(scope="module")
def alone(folder: Path, words: Words) -> Path:
    """A run of one process, without `--hosts`."""
    ended = call(words.to(folder / "alone"))
    assert (ended.code, ended.err) == (0, "")
    return folder / "alone"


@pytest.fixture(scope="module")
def two(alone: Path, folder: Path, words: Words) -> list[Ended]:
    return start(words.to(folder / "two"), 2, text=folder / "step.txt").end()


@contextlib.contextmanager
def deserted(host: int, words: list[str]) -> Iterator[Group]:
    """A run of two hosts, of which one is killed on its way."""
    group = start(words, 2, {host: (signal.SIGKILL, KILLED)})
    yield group
    for process in group.processes:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def lost(two: list[Ended], folder: Path, words: Words) -> Iterator[Group]:
    with deserted(1, words.to(folder / "lost")) as group:
        yield group


@pytest.fixture(scope="module")
def stopped(lost: Group, folder: Path, words: Words) -> list[Ended]:
    """A run of two hosts that host 1 was asked to stop."""
    return start(words.to(folder / "stopped"), 2, {1: (signal.SIGTERM, STOPPED)}).end()


def assert_same_run(found: Path, expected: Path) -> None:
    """Every parameter and every record of two finished runs agree to 1e-5."""
    tensors, others = (load_file(run / "adapter/adapter.safetensors") for run in (found, expected))
    assert tensors.keys() == others.keys()
    for name, tensor in tensors.items():
        np.testing.assert_allclose(tensor, others[name], rtol=0, atol=1e-5, err_msg=name)
    pairs = list(zip(journal(found), journal(expected), strict=True))
    assert [record["step"] for record, _ in pairs if record["kind"] == "train"] == list(range(1, STEPS + 1))
    for record, other in pairs:
        assert record.pop("kind") == other.pop("kind")
        assert record == pytest.approx(other, rel=1e-5, abs=1e-5)


def spoken(ended: Ended) -> list[str]:
    """What the program has said itself; on a CPU the collectives say something too."""
    return [line for line in ended.out.splitlines() if not line.startswith("[Gloo]")]


# --- the numbers


def test_two_hosts_train_to_the_numbers_of_one_process(alone: Path, two: list[Ended], folder: Path):
    assert [(ended.code, ended.err) for ended in two] == [(0, ""), (0, "")]
    assert_same_run(folder / "two", alone)


@pytest.mark.nightly
def test_four_hosts_train_to_the_numbers_of_one_process(alone: Path, two: list[Ended], folder: Path, words: Words):
    ended = start(words.to(folder / "four"), 4).end()
    assert [(each.code, each.err) for each in ended] == [(0, "")] * 4
    assert_same_run(folder / "four", alone)


def test_host_0_alone_speaks_and_the_folder_is_as_one_process_leaves_it(alone: Path, two: list[Ended], folder: Path):
    assert f"adapter: {folder / 'two/adapter'}" in spoken(two[0])
    assert spoken(two[1]) == []
    names = [{path.name for path in run.iterdir()} for run in (folder / "two", alone)]
    assert names[0] == names[1]
    assert saved_steps(folder / "two") == saved_steps(alone)
    assert len(list((folder / "two/tensorboard").iterdir())) == 1
    result = json.loads((folder / "two/result.json").read_text())
    assert result["device"]["count"] == 2


def test_what_hosts_exchange_in_a_step_is_one_gradient_and_two_numbers(two: list[Ended], folder: Path):
    found = Executable((folder / "step.txt").read_text()).collectives()
    gradient = sum(4 * tensor.size for tensor in load_file(folder / "two/adapter/adapter.safetensors").values())
    assert {(each.kind, each.looped) for each in found} == {("all-reduce", False)}
    assert (sum(each.bytes for each in found), sum(each.other_bytes for each in found)) == (gradient, 2 * 4)


# --- stopping and resuming


def test_a_signal_to_one_host_stops_all_after_the_same_step(stopped: list[Ended], folder: Path):
    line = f"train: stopped after step {STOPPED + 1} of {STEPS}; the same command continues\n"
    assert [(ended.code, ended.err) for ended in stopped] == [(130, line), (130, line)]
    assert saved_steps(folder / "stopped")[-1] == STOPPED + 1
    assert not (folder / "stopped/lock").exists()


@pytest.mark.parametrize("mesh", ["data=1", pytest.param("data=4,model=2", marks=pytest.mark.nightly)])
def test_one_process_of_other_devices_continues_what_two_hosts_have_begun(
    stopped: list[Ended], alone: Path, folder: Path, words: Words, tmp_path: Path, mesh: str
):
    shutil.copytree(folder / "stopped", tmp_path / "run")
    ended = call([*words.to(tmp_path / "run"), "--mesh", mesh, "--resume", "must"])
    assert (ended.code, ended.err) == (0, "")
    assert f"resumed after step {STOPPED + 1} of {STEPS}" in ended.out
    assert_same_run(tmp_path / "run", alone)


@pytest.mark.nightly
def test_hosts_of_two_devices_continue_what_one_process_has_begun_before_a_damaged_checkpoint(
    stopped: list[Ended], alone: Path, folder: Path, words: Words, tmp_path: Path
):
    shutil.copytree(alone, tmp_path / "run")
    overwrite_everything(tmp_path / "run/checkpoints/20")
    (tmp_path / "run/result.json").unlink()
    ended = start([*words.to(tmp_path / "run"), "--resume", "must"], 2, environment=PAIRS, late=1).end()
    assert [(each.code, each.err) for each in ended] == [(0, ""), (0, "")]
    assert f"{tmp_path / 'run/checkpoints/20'}: damaged checkpoint" in ended[0].out
    assert f"resumed after step 10 of {STEPS}" in ended[0].out
    assert saved_steps(tmp_path / "run") == [STEPS - 1, STEPS]  # as host 1 has wished
    assert_same_run(tmp_path / "run", alone)


# --- a lost host


def test_a_lost_host_is_named_by_the_others_which_end_within_a_minute(
    lost: Group, stopped: list[Ended], alone: Path, folder: Path, words: Words
):
    lost.processes[1].wait(timeout=300)
    killed = time.monotonic()
    other, gone = lost.end()
    assert time.monotonic() - killed < 60
    assert (other.code, gone.code) == (1, -signal.SIGKILL)
    named = rf"train: host 1 \({re.escape(socket.gethostname())}\) is lost, without a sign of life for 20 s; the same "
    assert re.fullmatch(named + "command continues from the last checkpoint\n", other.err)
    again = call(words.to(folder / "lost"))
    assert (again.code, again.err) == (0, "")
    assert f"resumed after step 10 of {STEPS}" in again.out
    assert_same_run(folder / "lost", alone)


@pytest.mark.nightly
def test_a_lost_host_0_is_named_in_the_last_line_of_the_others(words: Words, tmp_path: Path):
    with deserted(0, words.to(tmp_path / "run")) as group:
        gone, other = group.end()
    assert (gone.code, other.code) == (-signal.SIGKILL, 1)
    last = other.err.splitlines()[-1]
    assert last.startswith(f"train: host 0 ({socket.gethostname()}) is lost; the same command continues")


# --- bad input


def test_tasks_of_slurm_that_were_told_different_things_say_so_and_end(lost: Group, words: Words, tmp_path: Path):
    ended = start(words.to(tmp_path / "run"), 2, more={1: ["--seed", "1"]}, slurm=True).end()
    name = socket.gethostname()
    line = f"train: the command line is not the same on host 1 ({name}) as on host 0 ({name})\n"
    assert [(each.code, each.err) for each in ended] == [(2, line), (2, line)]
    assert not (tmp_path / "run").exists()


def test_hosts_that_do_not_share_the_run_s_folder_say_so_and_end(lost: Group, words: Words, tmp_path: Path):
    folders = [tmp_path / "one", tmp_path / "other"]
    for each in folders:
        (each / "run").mkdir(parents=True)
    ended = start(words.to(Path("run")), 2, folders=folders).end()
    name = socket.gethostname()
    line = f"train: out is 'run', and host 1 ({name}) does not see what host 0 ({name}) puts there; accepted: a folder "
    line += "on storage that all hosts share\n"
    assert [(each.code, each.err) for each in ended] == [(2, line), (2, line)]
    assert [path for each in folders for path in (each / "run").iterdir()] == []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("slurm", "hosts is 'slurm'; accepted: auto, or COORDINATOR:PORT,COUNT,INDEX as in 10.0.0.1:1234,4,0"),
        ("node1,2,0", "hosts is 'node1,2,0'; accepted: auto, or COORDINATOR:PORT"),
        ("node1:99,2", "hosts is 'node1:99,2'; accepted: auto, or COORDINATOR:PORT"),
        ("node1:99,2,-1", "hosts is 'node1:99,2,-1'; accepted: auto, or COORDINATOR:PORT"),
        ("node1:99,2,2", "hosts is 'node1:99,2,2', with 2 hosts; accepted: an index from 0 to 1"),
        ("node1:99999,2,0", "hosts is 'node1:99999,2,0', with port 99999; accepted: 1 to 65535"),
    ],
)
def test_what_names_no_hosts_is_refused_in_one_line(words: Words, tmp_path: Path, given: str, told: str):
    ended = call([*words.to(tmp_path / "run"), "--hosts", given])
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert told in ended.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--seed", "0", "1"], "hosts is 'auto', with a grid; accepted: one task, method, learning rate and seed"),
        (["--mesh", "data=1"], "mesh is 'data=1', with hosts; accepted: no --mesh, or one of all their devices"),
    ],
)
def test_what_does_not_go_with_hosts_is_refused(words: Words, tmp_path: Path, more: list[str], told: str):
    with pytest.raises(ValueError, match=re.escape(told)):
        parse_command([*words.to(tmp_path / "run"), "--hosts", "auto", *more])


def test_a_mesh_that_is_not_all_devices_of_all_hosts_is_refused():
    devices: list[Any] = [SimpleNamespace(process_index=i // 4, platform="tpu") for i in range(8)]
    told = "mesh is 'data=4', 4 devices; accepted: all 8 of the 2 hosts, such as data=8"
    with pytest.raises(ValueError, match=re.escape(told)):
        make_shardings(MeshShape(data=4), BERT_BASE, devices)
