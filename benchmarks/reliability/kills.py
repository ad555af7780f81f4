"""Runs that are killed at random moments end as if they had not been: adapter, journal and result, byte for byte.

    python -m benchmarks.reliability.kills --times 50 --runs single together

Each run is started, killed by SIGKILL at a moment drawn evenly over an undisturbed run's time, and started again, until
it has been killed often enough; then it runs to its end.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.reliability.runs import differences, outcome, start, surroundings, words

IN_A_ROW = 5  # kills of one run, before it may end
RUNS: dict[str, dict[str, Any]] = {"single": {}, "together": {"seed": (0, 1, 2)}}


def folders(kind: str, out: Path) -> list[Path]:
    return [out] if kind == "single" else [out / f"sst2-adakron-seed{seed}" for seed in RUNS[kind]["seed"]]


def command(kind: str, model: Path, out: Path) -> list[str]:
    flags = ["--together"] if kind == "together" else []
    return [*words(model, out, **RUNS[kind]), *flags]


def finish(argv: Sequence[str]) -> float:
    """Runs to the end; the seconds it took."""
    begun = time.monotonic()
    process = start(argv)
    out, err = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"exit code {process.returncode}: {err or out}")
    return time.monotonic() - begun


def kill_at_random(argv: Sequence[str], seconds: float, rng: random.Random) -> bool:
    """Starts the program and kills it at some moment; whether it was still there."""
    process = start(argv)
    time.sleep(rng.uniform(0, seconds))
    alive = process.poll() is None
    process.kill()
    process.communicate()
    return alive


def prove(kind: str, model: Path, scratch: Path, times: int, rng: random.Random) -> tuple[int, int, list[str]]:
    """Kills, runs that were brought to their end, and what differed in any of them."""
    out = scratch / kind  # every run in one folder, whose name is in its journal's neighbours
    finish(command(kind, model, out))
    expected: list[Mapping[str, Any]] = [outcome(folder) for folder in folders(kind, out)]
    shutil.rmtree(out)
    seconds = finish(command(kind, model, out))  # compiled steps come from the cache now, as they will
    kills, ended, wrong = 0, 0, []
    while kills < times:
        shutil.rmtree(out)
        for _ in range(min(IN_A_ROW, times - kills)):
            kills += kill_at_random(command(kind, model, out), seconds, rng)
        finish(command(kind, model, out))
        ended += 1
        for folder, right in zip(folders(kind, out), expected, strict=True):
            wrong += [f"{folder.name}: {name}" for name in differences(folder, right)]
        print(f"{kind}: {kills} kills, {ended} runs ended, {len(wrong)} differences", file=sys.stderr, flush=True)
    return kills, ended, wrong


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=50, help="kills of each kind of run (default: %(default)s)")
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    given = parser.parse_args(argv)
    code = 0
    with tempfile.TemporaryDirectory(prefix="adakron-jax-kills-") as name, surroundings(Path(name)) as model:
        for kind in given.runs:
            kills, ended, wrong = prove(kind, model, Path(name), given.times, random.Random(given.seed))
            print(f"{kind}: {kills} kills, {ended} runs ended, {wrong or 'all as undisturbed'}")
            code |= bool(wrong)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
