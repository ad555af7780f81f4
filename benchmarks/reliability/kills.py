"""Runs that are killed at random moments end as undisturbed ones do: adapter, journal and result, byte for byte.

    python -m benchmarks.reliability kills --times 50 --runs single together workers

Each run is started, killed by SIGKILL at a moment drawn uniformly from an undisturbed run's time, and started again,
until it has been killed often enough; then it runs to the end. In a grid with two workers, a draw decides what is
killed: all processes, the first alone, whose workers then end by themselves, or one worker, whose cell another takes.
"""

import argparse
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.runs import differences, outcome, start, surroundings, words

KILLS_PER_RUN = 5  # before a run may end
RUNS: dict[str, dict[str, Any]] = {
    "single": {},
    "together": {"seed": (0, 1, 2)},
    "workers": {"seed": (0, 1, 2, 3), "workers": "local:2"},
}
KILLED = ("all", "first", "worker")  # what is killed in a grid with workers
LEAVING_SECONDS = 60.0  # within which workers must leave their folders after the process that they work for has gone


def folders(kind: str, out: Path) -> list[Path]:
    return [out] if kind == "single" else [out / f"sst2-adakron-seed{seed}" for seed in RUNS[kind]["seed"]]


def command(kind: str, model: Path, out: Path, workers: bool = True) -> list[str]:
    """Returns the command line of a kind of run; with `workers=False`, of the same runs one after another."""
    known = {name: value for name, value in RUNS[kind].items() if workers or name != "workers"}
    return [*words(model, out, **known), *(["--together"] if kind == "together" else [])]


def finish(argv: Sequence[str]) -> float:
    """Runs to the end; returns the seconds that it took."""
    begun, process = time.monotonic(), start(argv)
    finish_started(process)
    return time.monotonic() - begun


def finish_started(process: subprocess.Popen) -> None:
    out, err = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"exit code {process.returncode}: {err or out}")


def kill_at_random(argv: Sequence[str], at_work: Sequence[Path], seconds: float, rng: random.Random) -> bool:
    """Starts the program and kills it, or a worker, at a random moment; returns whether there was something to kill."""
    process = start(argv)
    time.sleep(rng.uniform(0, seconds))
    alive, what = process.poll() is None, rng.choice(KILLED)
    workers = holders(at_work) - {process.pid}
    if workers and what == "worker":
        kill(rng.choice(sorted(workers)))
        finish_started(process)
        return True
    process.kill()
    for worker in workers if what == "all" else ():
        kill(worker)
    process.communicate()
    until = time.monotonic() + LEAVING_SECONDS
    while any(map(is_alive, workers)):
        if time.monotonic() > until:
            raise RuntimeError(f"{workers}: still running, although the process that they work for was killed")
        time.sleep(0.01)
    return alive


def holders(at_work: Sequence[Path]) -> set[int]:
    """Returns the processes that hold the folders."""
    processes = set()
    for folder in at_work:
        try:
            words = (folder / "lock").read_text().split()
        except FileNotFoundError:
            continue
        if len(words) > 1 and is_alive(int(words[1])):
            processes.add(int(words[1]))
    return processes


def is_alive(process: int) -> bool:
    """Returns whether a process is running, rather than ended and not yet waited for."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def kill(process: int) -> None:
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        print(f"{process} had ended before it could be killed", file=sys.stderr)


def prove(kind: str, model: Path, scratch: Path, times: int, rng: random.Random) -> tuple[int, int, list[str]]:
    """Returns the numbers of kills and of runs that ended, and what differed in any of them."""
    out = scratch / kind  # one folder for all runs, since their files contain its name
    finish(command(kind, model, out, workers=False))
    expected: list[Mapping[str, Any]] = [outcome(folder) for folder in folders(kind, out)]
    seconds = math.inf
    for _ in range(2):  # compiled steps now come from the cache, as later; twice, since a busy machine has slow moments
        shutil.rmtree(out)
        seconds = min(seconds, finish(command(kind, model, out)))
    kills, ended, wrong = 0, 0, []
    while kills < times:
        shutil.rmtree(out)
        for _ in range(min(KILLS_PER_RUN, times - kills)):
            kills += kill_at_random(command(kind, model, out), folders(kind, out), seconds, rng)
            if all((folder / "result.json").is_file() for folder in folders(kind, out)):
                break  # nothing is left to disturb
        finish(command(kind, model, out))
        ended += 1
        for folder, right in zip(folders(kind, out), expected, strict=True):
            wrong += [f"{folder.name}: {name}" for name in differences(folder, right)]
        print(f"{kind}: {kills} kills, {ended} runs ended, {len(wrong)} differences", file=sys.stderr, flush=True)
    return kills, ended, wrong


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--times", type=int, default=50, help="kills of each kind of run (default: %(default)s)")
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")


def main(given: argparse.Namespace, scratch: Path) -> bool:
    good = True
    with surroundings(scratch) as model:
        for kind in given.runs:
            kills, ended, wrong = prove(kind, model, scratch, given.times, random.Random(given.seed))
            print(f"{kind}: {kills} kills, {ended} runs ended, {wrong or 'all as undisturbed'}")
            good &= not wrong
    return good
