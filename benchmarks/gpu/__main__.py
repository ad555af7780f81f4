"""Everything that is measured on a GPU, by parts, within a given time.

    python -m benchmarks.gpu --data /path/to/glue --minutes 9 --out runs/gpu

Each step is a process of its own; `OUT/figures.jsonl` gets a line as it ends, `OUT/summary.md` is written anew. Started
again with the same --out, it does what is not done. Exit codes: 0 all done; 1 a step failed or found something wrong;
2 bad input; 3 time was up.
"""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from adakron_jax.files import write_whole
from benchmarks.gpu import adapters, correct, science, speed, summary
from benchmarks.gpu.campaign import ROOT, Campaign, Step, records
from benchmarks.gpu.settings import Settings

PARTS: dict[str, Callable[[Settings], Iterator[Step]]] = {
    "correct": correct.steps,
    "speed": speed.steps,
    "adapters": adapters.steps,
    "science": science.steps,
}
LIMITS = {
    "train": "examples of a training set",
    "eval": "examples of a development set",
    "epochs": "passes",
    "layers": "of an encoder with random weights",
    "rows": "of dense steps",
    "steps": "that are timed",
    "methods": "methods, rates, seeds and factors of the science, 2 or more, as they take their steps together",
    "tasks": "of the speed and the science",
    "cases": "oracles",
}


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, Settings]:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="in this order (default: all)")
    parser.add_argument("--minutes", type=float, default=30.0, help="after which nothing runs on (default: 30)")
    parser.add_argument("--data", type=Path, required=True, help="a folder of GLUE, TASK/SPLIT.parquet")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="the campaign's folder (default: runs/gpu)")
    parser.add_argument("--platform", default="cuda", help="as jax calls it (default: cuda)")
    parser.add_argument("--oracles", type=Path, default=ROOT / "tests/oracles", help="(default: the repository's)")
    parser.add_argument("--shapes", nargs="+", choices=Settings.shapes, default=Settings.shapes, help="(default: both)")
    for name, text in LIMITS.items():
        parser.add_argument(f"--limit-{name}", type=int, default=0, help=f"for a rehearsal: {text}")
    given = parser.parse_args(argv)
    if given.limit_methods == 1:
        parser.error("--limit-methods 1; accepted: 2 or more")
    given.shapes = tuple(given.shapes)
    values: dict[str, Any] = {field.name: getattr(given, field.name) for field in dataclasses.fields(Settings)}
    return given, Settings(**values)


def main(argv: Sequence[str]) -> int:
    given, settings = parse(argv)
    for folder in (settings.data, settings.oracles):
        if not folder.is_dir():
            print(f"gpu: {str(folder)!r}: no such folder", file=sys.stderr)
            return 2
    campaign = Campaign(given.out, 60 * given.minutes)
    for part in given.parts:
        for _ in campaign.run(part, PARTS[part](settings)):
            write_whole(given.out / "summary.md", summary.write(records(given.out).values()).encode())
    states = {record.state for (part, _), record in records(given.out).items() if part in given.parts}
    print(f"{given.out / 'summary.md'}: {', '.join(sorted(states)) or 'nothing to do'}")
    return 1 if "failed" in states else 3 if states & {"out of time", "not begun"} else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
