"""A run's folder with one damaged file: the file is named, or an earlier one is used, but no result is ever wrong.

    python -m benchmarks.reliability damage --cases 1000

Half of the cases damage a run that was stopped, and continue it; half damage one that has ended, and read its adapter.
A file is cut, emptied or deleted, or one of its bits is flipped. Good ends are exit code 2 with one line that names the
file or a folder above it, or the end of an undamaged run, byte for byte.
"""

import argparse
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from adakron_jax import adapter
from adakron_jax.params import flatten
from benchmarks.reliability import tally
from benchmarks.reliability.garbage import DAMAGE, changed_bytes
from tests.support.runs import LAST, STEPS, call, differences, outcome, stopped, surroundings, words

KINDS = (*DAMAGE, "deleted")
GOOD = {"refused", "same"}


def damage(rng: random.Random, path: Path, kind: str) -> None:
    if kind == "deleted":
        path.unlink()
    elif contents := path.read_bytes():
        path.write_bytes(changed_bytes(rng, contents, kind))


def files(folder: Path) -> list[Path]:
    """Returns a run's files, except those that are never read again: TensorBoard's events."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and "tensorboard" not in path.parts)


def names(line: str, path: Path, folder: Path) -> bool:
    """Returns whether a line names a file, or the folder in the run that it belongs to."""
    parts = path.relative_to(folder).parts
    return str(folder) in line or any(part in line for part in parts)


class Proof:
    """A stopped run, an ended run, and the right end."""

    def __init__(self, scratch: Path, model: Path):
        self.scratch, self.case = scratch, scratch / "run"  # one folder for all cases: a configuration names it
        ended = call(words(model, self.case))
        assert ended.code == 0, ended
        self.right = outcome(self.case)
        self.adapter = self._leaves()
        self.case.rename(scratch / "ended")
        halfway = stopped(words(model, self.case), self.case, STEPS + STEPS // 2)
        assert halfway.code == 130, halfway
        assert len(list((self.case / "checkpoints").iterdir())) == 2, "two checkpoints, one before the other"
        self.case.rename(scratch / "stopped")
        self.argv = words(model, self.case)

    def _leaves(self) -> Mapping[str, Any]:
        tree, card = adapter.load(self.case / "adapter")
        return flatten(tree) | {"card": card}

    def attempt(self, seed: int) -> tuple[str, str]:
        """Tries a case; returns which file of which run was damaged and how, and how it ended."""
        rng = random.Random(seed)
        before, kind = ("ended", "stopped")[seed % 2], rng.choice(KINDS)
        shutil.rmtree(self.case, ignore_errors=True)
        shutil.copytree(self.scratch / before, self.case)
        path = rng.choice(files(self.case))
        name = f"case {seed}, {before} {path.relative_to(self.case)} {kind}"
        damage(rng, path, kind)
        ended = call(self.argv)
        if ended.code == 2:
            line = ended.err.strip()
            told = len(line.splitlines()) == 1 and names(line, path, self.case)
            return name, "refused" if told else f"refused without naming it: {line[:200]}"
        if ended.code != 0:
            return name, f"exit code {ended.code}: {ended.err.strip()[:200]}"
        if before == "ended" and path.parts[-2] == "adapter":
            return name, self.read_adapter()
        wrong = differences(self.case, self.right)
        return name, f"wrong {', '.join(wrong)}" if wrong else "same"

    def read_adapter(self) -> str:
        """Returns whether an ended run's adapter is refused, the same or wrong."""
        try:
            leaves = self._leaves()
        except ValueError:
            return "refused"
        same = leaves.keys() == self.adapter.keys() and all(
            leaf == self.adapter[path] if path == "card" else np.array_equal(leaf, self.adapter[path])
            for path, leaf in leaves.items()
        )
        return "same" if same else "wrong adapter"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="the first case's number")


def main(given: argparse.Namespace, scratch: Path) -> bool:
    with surroundings(scratch) as model:
        proof = Proof(scratch, model)
        ends = tally(map(proof.attempt, range(given.first, given.first + given.cases)), GOOD)
    print(f"{dict(ends)} of {given.cases} cases of a run of {LAST} steps")
    return ends.keys() <= GOOD
