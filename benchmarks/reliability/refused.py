"""A machine that refuses something from some step on: one line, a good last checkpoint, and later the right end.

    sudo python -m benchmarks.reliability refused --kinds full read-only files memory --points 40

The run's folder is on a small tmpfs, which only root can mount. Each point draws a step of the run, and how much is
refused from then on. `full`: the disk is filled up to a few bytes, so that there is no room, or only for a part, for
what is written next. `read-only`: the run's folders can no longer be written to. `files`, `memory`: the process may
have only a little more than it has. The program is a separate process, which has to end; then it is run again.
"""

import argparse
import os
import random
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.reliability import tally
from tests.support.runs import (
    LAST,
    Ended,
    call,
    differences,
    journal,
    outcome,
    start,
    surroundings,
    words,
)

SIZE = 8  # of the disk in MiB
LEFT = (0, 4096, 16384, 65536)  # bytes that stay free on it
FILES = (0, 1, 2, 4, 8)  # that a process may still open
MEMORY = (2**22, 2**24, 2**26)  # bytes that a process may still get
OBEY = ("setpriv", "--bounding-set", "-dac_override")  # without this, root may write everywhere
SAYS = {
    "full": "no room on disk",
    "read-only": "no permission",
    "files": "too many open files",
    "memory": "out of memory",
}
GOOD = {"refused", "not met", "killed"}
SECONDS = 120  # within which a run has to end


@contextmanager
def mounted(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def reached(folder: Path, step: int) -> bool:
    return folder.is_dir() and (step == 0 or any(record["step"] >= step for record in journal(folder)))


def fill(balloon: Path, left: int) -> None:
    """Fills the disk, except for `left` bytes."""
    with balloon.open("wb", buffering=0) as file:
        while (free := shutil.disk_usage(balloon.parent).free - left) > 0:
            try:
                file.write(bytes(min(free, 2**20)))
            except OSError:
                return


def run(argv: Sequence[str], folder: Path, step: int, act: Callable[[int], None]) -> Ended:
    """Runs the program, and calls `act` with its process once a step is recorded; code None if it does not end."""
    process = start(argv, OBEY)
    while process.poll() is None and not reached(folder, step):
        time.sleep(0.001)
    if process.poll() is None:
        act(process.pid)
    try:
        out, err = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return Ended(None, *process.communicate())
    return Ended(process.returncode, out, err)


@contextmanager
def refusing(kind: str, folder: Path, rng: random.Random) -> Iterator[Callable[[int], None]]:
    """Yields a function that refuses something to a process, until the context is left."""
    balloon = folder.parent / "balloon"
    left, files, memory = rng.choice(LEFT), rng.choice(FILES), rng.choice(MEMORY)

    def folders() -> list[Path]:
        return [folder, *(path for path in folder.rglob("*") if path.is_dir())]

    def refuse(process: int) -> None:
        if kind == "full":
            fill(balloon, left)
        elif kind == "read-only":
            for path in folders():
                path.chmod(0o555)
        elif kind == "files":
            most = len(os.listdir(f"/proc/{process}/fd")) + files
            resource.prlimit(process, resource.RLIMIT_NOFILE, (most, most))
        else:
            pages = int(Path(f"/proc/{process}/statm").read_text().split()[0])
            most = pages * resource.getpagesize() + memory
            resource.prlimit(process, resource.RLIMIT_AS, (most, most))

    try:
        yield refuse
    finally:
        balloon.unlink(missing_ok=True)
        for path in folders():
            path.chmod(0o755)


def attempt(kind: str, argv: Sequence[str], out: Path, point: int, right: Mapping[str, Any]) -> tuple[str, str]:
    """Tries a point; returns its name and how it ended."""
    rng = random.Random(point)
    step = rng.randrange(LAST + 1)
    shutil.rmtree(out, ignore_errors=True)
    with refusing(kind, out, rng) as refuse:
        ended = run(argv, out, step, refuse)
    return f"point {point}, {kind} after step {step}", judge(kind, ended, argv, out, right)


def judge(kind: str, ended: Ended, argv: Sequence[str], out: Path, right: Mapping[str, Any]) -> str:
    line = ended.err.strip()
    if ended.code is None:
        return f"did not end within {SECONDS} s: {line[-300:]}"
    killed = kind == "memory" and ended.code < 0  # a library's thread that gets no memory ends the process
    if ended.code == 2 and (len(line.splitlines()) != 1 or SAYS[kind] not in line):
        return f"said {line[:300]}"
    if ended.code not in (0, 2) and not killed:
        return f"exit code {ended.code}: {line[-300:]}"
    again = call(argv)
    if again.code != 0:
        return f"could not continue: {again.err.strip()[:200]}"
    if wrong := differences(out, right):
        return f"wrong {', '.join(wrong)}"
    return "killed" if killed else "refused" if ended.code else "not met"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kinds", nargs="+", choices=SAYS, default=list(SAYS))
    parser.add_argument("--points", type=int, default=40, help="number of points of each kind")


def main(given: argparse.Namespace, scratch: Path) -> bool:
    if os.geteuid():
        raise ValueError("not root, and only root can mount a disk; accepted: sudo")
    good = True
    with surroundings(scratch) as model, mounted(scratch / "disk") as disk:
        argv = words(model, disk / "run")
        ended = call(argv)
        assert ended.code == 0, ended
        right = outcome(disk / "run")
        for kind in given.kinds:
            points = (attempt(kind, argv, disk / "run", point, right) for point in range(given.points))
            ends = tally(points, GOOD)
            print(f"{kind}: {dict(ends)} of {given.points} points")
            good &= ends.keys() <= GOOD
    return good
