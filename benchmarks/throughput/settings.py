"""The command line of `benchmarks.throughput`."""

import argparse
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adakron_jax.cli.flags import Parser
from benchmarks import shapes
from benchmarks.throughput.systems import ROOT, SYSTEMS
from train.data.glue import TASKS

PARTS = {
    "start": "the time to the first step of the first task, cold and warm",
    "real": "steps over every task's batches",
    "dense": "steps without padding",
    "depth": "compiling deeper encoders",
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """The command line.

    Raises:
      ValueError: a value is out of range; it is named with what is accepted.
    """

    model: str
    data: str
    task: list[str]
    system: list[str]
    part: list[str]
    rounds: int
    steps: int
    batch_size: int
    rows: int
    seq: int
    threads: int
    learning_rate: float
    precision: str
    peers: Path
    cache: Path | None
    json: Path | None

    def __post_init__(self):
        for name in ("rounds", "steps", "batch_size", "rows", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; accepted: at least 1")
        if self.seq < 8:
            raise ValueError(f"seq is {self.seq}; accepted: at least 8")
        if self.threads > (cpus := len(os.sched_getaffinity(0))):
            raise ValueError(f"threads is {self.threads}; accepted: at most {cpus}, the processors here")
        if self.json is not None and not self.json.parent.is_dir():
            raise ValueError(f"json is {str(self.json)!r}: no folder {self.json.parent}")


def parse(argv: Sequence[str], description: str | None = None) -> Settings:
    """The settings of a command line; ValueError says in one line what is not accepted."""
    parser = Parser(prog="python -m benchmarks.throughput", description=description)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    defaults: dict[str, Any] = {}

    def option(name: str, default: Any, text: str, **more: Any) -> None:
        defaults[name] = default
        shown = "" if default is None else f" (default: {' '.join(map(str, default)) if 'nargs' in more else default})"
        add(f"--{name.replace('_', '-')}", help=text + shown, **more)

    add("--model", required=True, help=f"a hub id, a folder, pkg:NAME, or {shapes.ACCEPTED}")
    add("--data", required=True, help="hub, mini, or a folder with TASK/SPLIT.parquet|tsv|csv|jsonl")
    option("task", ["rte", "mrpc", "stsb", "sst2"], "GLUE tasks", nargs="+", choices=TASKS)
    option("system", [name for name in SYSTEMS if name != "torch-compiled"], "programs", nargs="+", choices=SYSTEMS)
    what = "; ".join(f"{name}: {text}" for name, text in PARTS.items())
    option("part", list(PARTS), f"what to measure, {what}", nargs="+", choices=PARTS)
    option("rounds", 5, "of every figure, taken in turn", type=int)
    option("steps", 4, "of a round", type=int)
    option("batch_size", 64, "examples of a step", type=int)
    option("rows", 32, "of the dense inputs", type=int)
    option("seq", 128, "tokens of a row of the dense inputs", type=int)
    option("threads", len(os.sched_getaffinity(0)), "processors of every program", type=int)
    option("learning_rate", 4e-4, "of every program", type=float)
    option("precision", "f32", "of our programs and PyTorch's; Flax's is f32", choices=("f32", "bf16"))
    option("peers", ROOT / ".venv-peers/bin/python", "the peers' interpreter", type=Path)
    option("cache", None, "keeps compiled programs from one measurement to the next here", type=Path)
    option("json", None, "where every figure is written, beside those already there", type=Path)
    return Settings(**(defaults | vars(parser.parse_args(argv))))
