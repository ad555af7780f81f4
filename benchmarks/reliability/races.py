"""Processes that come to one folder at the same moment: exactly one works, and the others name it.

    python -m benchmarks.reliability races --times 200 --programs 10

Two processes try the lock `--times` times at once, and four come and go as fast as they can until each has held it as
often, so that one releases it, and deletes its file, while others try. The whole program is started twice at once
`--programs` times.
"""

import argparse
import multiprocessing
import os
import shutil
from pathlib import Path

from tests.support.runs import outcome, start, surroundings, words
from train.engine.lock import Lock


def contend(folder: Path, times: int, processes: int, at_once: bool) -> tuple[int, int]:
    """Returns how often processes held the lock, and how often two held it at once.

    They try `times` times, all at once each time, or else each as fast as it can until it has held it `times` times.
    """
    context = multiprocessing.get_context("fork")
    barrier, held, broken = context.Barrier(processes), context.Value("i", 0), context.Value("i", 0)
    inside = folder.parent / "inside"

    def work() -> None:
        done = 0
        while done < times:
            if at_once:
                barrier.wait(60)
            try:
                lock = Lock(folder)
            except ValueError:
                lock = None
            if lock:
                try:
                    os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    with broken.get_lock():
                        broken.value += 1
            if at_once:
                barrier.wait(60)
            if lock:
                inside.unlink(missing_ok=True)
                with held.get_lock():
                    held.value += 1
                lock.release()
            done += at_once or lock is not None

    running = [context.Process(target=work) for _ in range(processes)]
    for process in running:
        process.start()
    for process in running:
        process.join()
        if process.exitcode:
            raise RuntimeError(f"a process ended with exit code {process.exitcode}")
    return held.value, broken.value


def started_twice(model: Path, out: Path, times: int) -> list[str]:
    """Starts the program twice at once, `times` times; returns what went wrong."""
    wrong: list[str] = []
    right = None
    for number in range(times):
        pair = [start(words(model, out)) for _ in range(2)]
        ended = sorted((process.communicate(), process.returncode) for process in pair)
        codes = sorted(code for _, code in ended)
        if codes == [0, 2]:
            (_, complaint), _ = next(end for end in ended if end[1] == 2)
            if "is in use by process" not in complaint or len(complaint.splitlines()) != 1:
                wrong.append(f"{number}: {complaint}")
        elif codes != [0, 0] or not any("this run has ended" in printed for (printed, _), _ in ended):
            wrong.append(f"{number}: exit codes {codes}: {ended}")
        result = outcome(out)
        right = right or result
        wrong += [f"{number}: {name} differs" for name in right if right[name] != result[name]]
        shutil.rmtree(out)
    return wrong


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--programs", type=int, default=10)


def main(given: argparse.Namespace, scratch: Path) -> bool:
    folder = scratch / "run"
    folder.mkdir()
    ends = {
        "at once": contend(folder, given.times, 2, at_once=True),
        "coming and going": contend(folder, given.times, 4, at_once=False),
    }
    wrong: list[str] = []
    if given.programs:
        with surroundings(scratch) as model:
            wrong = started_twice(model, scratch / "out", given.programs)
    for name, (held, broken) in ends.items():
        print(f"{name}: held {held} times, {broken} of them by two at once")
    print(f"the program, twice at once: {given.programs} times, wrong: {wrong or 'none'}")
    return list(ends.values()) == [(given.times, 0), (4 * given.times, 0)] and not wrong
