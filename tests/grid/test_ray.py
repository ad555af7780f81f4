"""A grid on a Ray cluster of two nodes of this machine, one of which is killed: the same folders all the same."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.runs import ROOT, STEPS, differences, journal, outcome, start, surroundings, words

pytest.importorskip("ray")

SEEDS = (0, 1, 2)
DEADLINE = 120.0  # seconds until something must have happened

# In a process of its own, which ray's threads, its handlers of signals and its warnings then have to themselves. It
# says where the cluster is, and kills the second node when it is told to.
NODES = """
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
second = cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
print("cluster at", cluster.address, flush=True)
for line in iter(input, "end"):
    cluster.remove_node(second, allow_graceful=False)
    print("killed", flush=True)
cluster.shutdown()
"""


@pytest.fixture
def model(tmp_path: Path) -> Iterator[Path]:
    with surroundings(tmp_path) as model:
        yield model


@pytest.fixture
def nodes() -> Iterator[subprocess.Popen]:
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", NODES], cwd=ROOT, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
    )
    yield process
    process.communicate("end\n", timeout=DEADLINE)


def heard(process: subprocess.Popen, word: str) -> str:
    """The rest of the line that begins with a word, as soon as a process says it."""
    assert process.stdout is not None
    return next(line.removeprefix(word).strip() for line in process.stdout if line.startswith(word))


def tell(process: subprocess.Popen, word: str) -> None:
    assert process.stdin is not None
    print(word, file=process.stdin, flush=True)


def wait_for(condition: Callable[[], Any]) -> None:
    until = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.002)


def holder(folder: Path) -> int:
    """The process in a folder; 0 if there is none."""
    try:
        return int((folder / "lock").read_text().split()[1])
    except (FileNotFoundError, IndexError):
        return 0


def node_of(process: int) -> int:
    """Which node's raylet a worker's process descends from: actors are children of their raylet."""
    actor = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    return int(Path(f"/proc/{actor}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_grid_on_a_cluster_that_loses_a_node_leaves_the_same_folders_as_one_after_another(
    model: Path, nodes: subprocess.Popen, tmp_path: Path
):
    alone, cluster = tmp_path / "alone", tmp_path / "cluster"
    ended = start(words(model, alone, seed=SEEDS))
    assert ended.communicate()[1] == ""
    names = [f"sst2-adakron-seed{seed}" for seed in SEEDS]
    grid = start([*words(model, cluster, seed=SEEDS), "--workers", f"ray:{heard(nodes, 'cluster at')}"])
    at_work: dict[str, int] = {}

    def halt_two() -> bool:
        for name in names:
            if name not in at_work and (process := holder(cluster / name)) and len(journal(cluster / name)) > STEPS:
                os.kill(process, signal.SIGSTOP)
                at_work[name] = process
        return len(at_work) == 2

    try:
        wait_for(halt_two)
        assert len({node_of(process) for process in at_work.values()}) == 2
        tell(nodes, "kill")
        heard(nodes, "killed")
    finally:
        for process in at_work.values():
            with contextlib.suppress(ProcessLookupError):  # ray may have ended the one of the lost node
                os.kill(process, signal.SIGCONT)
    out, err = grid.communicate(timeout=DEADLINE)
    assert (grid.returncode, err) == (0, "")
    assert sum(out.count(f"the worker of {name} is gone (") for name in names) == 1
    right = [outcome(alone / name) for name in names]
    assert [differences(cluster / name, one) for name, one in zip(names, right, strict=True)] == [[]] * 3


def test_a_cluster_that_is_not_there_is_named_in_one_line(model: Path, tmp_path: Path):
    grid = start([*words(model, tmp_path / "o", seed=SEEDS), "--workers", "ray:127.0.0.1:1"])
    _, err = grid.communicate(timeout=DEADLINE)
    assert grid.returncode == 2
    assert len(err.splitlines()) == 1
    assert "workers is 'ray:127.0.0.1:1', where nothing answers (Connection refused); accepted: " in err
