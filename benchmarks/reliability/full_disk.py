"""A disk that is full from some moment on: one line, the last checkpoint good, and once there is room, the right end.

    sudo python -m benchmarks.reliability.full_disk --points 40

The run's folder lies on a small tmpfs, which only root can mount. Each point is a step of the run after which the disk
is filled, up to a few bytes, so that whatever is written next does not find room, or finds it for a part.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.reliability.runs import LAST, Ended, call, differences, journal, outcome, surroundings, words

SIZE = 8  # MiB of the disk
LEFT = (0, 4096, 16384, 65536)  # bytes that stay free


@contextmanager
def mounted(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(balloon: Path, left: int) -> None:
    """Takes all the room there is, but for some bytes."""
    with balloon.open("wb", buffering=0) as file:
        while (free := shutil.disk_usage(balloon.parent).free - left) > 0:
            try:
                file.write(bytes(min(free, 2**20)))
            except OSError:
                return


def run_into(argv: Sequence[str], folder: Path, step: int, left: int) -> Ended:
    """Runs the program in this process, and fills its disk once it has recorded a step."""
    ended, balloon = threading.Event(), folder.parent / "balloon"

    def watch() -> None:
        while not ended.is_set():
            if folder.is_dir() and (step == 0 or any(record["step"] >= step for record in journal(folder))):
                fill(balloon, left)
                return
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        return call(argv)
    finally:
        ended.set()
        watcher.join()
        balloon.unlink(missing_ok=True)


def attempt(argv: Sequence[str], out: Path, rng: random.Random, right: Mapping[str, Any]) -> str:
    """How a point ended."""
    step, left = rng.randrange(LAST + 1), rng.choice(LEFT)
    shutil.rmtree(out, ignore_errors=True)
    ended = run_into(argv, out, step, left)
    about = f"full after step {step}, {left} bytes free"
    if ended.code == 2 and (len(ended.err.strip().splitlines()) != 1 or "no room on disk" not in ended.err):
        return f"{about}: said {ended.err.strip()[:200]}"
    if ended.code not in (0, 2):
        return f"{about}: exit code {ended.code}: {ended.err.strip()[:200]}"
    again = call(argv)
    if again.code != 0:
        return f"{about}: could not go on: {again.err.strip()[:200]}"
    wrong = differences(out, right)
    return f"{about}: wrong {', '.join(wrong)}" if wrong else ("refused" if ended.code else "had room")


def prove(scratch: Path, points: int) -> Counter:
    ends: Counter = Counter()
    with surroundings(scratch) as model, mounted(scratch / "disk") as disk:
        argv = words(model, disk / "run")
        ended = call(argv)
        assert ended.code == 0, ended
        right = outcome(disk / "run")
        for point in range(points):
            end = attempt(argv, disk / "run", random.Random(point), right)
            ends[end if end in ("refused", "had room") else "bad"] += 1
            if end not in ("refused", "had room"):
                print(f"point {point}, {end}", file=sys.stderr, flush=True)
    return ends


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=40)
    given = parser.parse_args(argv)
    if os.geteuid():
        print("full_disk: only root can mount a disk of its own", file=sys.stderr)
        return 2
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="adakron-jax-disk-") as scratch:
        ends = prove(Path(scratch), given.points)
    print(f"{dict(ends)} of {given.points} points, {time.monotonic() - begun:.0f} s")
    return int(ends["bad"] > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
