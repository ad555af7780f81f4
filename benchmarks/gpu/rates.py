"""One program's speed: a large matmul, dense steps, and steps over real batches of several tasks, in one process.

    python -m benchmarks.gpu.rates adakron --inputs FOLDER --shape bert-base --task sst2 mrpc

`--inputs` is what `benchmarks.gpu.inputs` wrote. Every figure is a JSON line as soon as it is there.
"""

import argparse
import copy
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.gpu.settings import BATCH, split_of
from benchmarks.throughput.protocol import Measured, Trainer, matmul_rate, timed

LENGTHS = {"rte": 256}  # tokens that a task's examples are padded to where all are; others to 128
LABELS = 3  # of every task: as many as any has
LEARNING_RATE = "1e-4"

Open = Callable[[str], Trainer]


def ours(given: argparse.Namespace) -> Open:
    """The program itself, opened on a task."""
    from benchmarks.throughput.worker import Ours
    from train.engine.shared import Shared
    from train.options.model import Pretrained

    shared = Shared(Pretrained(str(given.inputs / given.shape)))

    def open_task(task: str) -> Trainer:
        flags: dict[str, Any] = {"task": task, "data": given.data, "train-split": split_of(given.data, task), "seed": 0}
        flags |= {"model": given.inputs / given.shape, "method": "adakron", "precision": given.precision}
        flags |= {"batch-size": BATCH, "max-length": LENGTHS.get(task, 128), "learning-rate": LEARNING_RATE}
        flags |= {"limit-eval": 8, "epochs": 1}
        return Ours([word for name, value in flags.items() for word in (f"--{name}", str(value))], shared)

    return open_task


def peer(*flags: str, padded: bool = False) -> Callable[[argparse.Namespace], Open]:
    """PyTorch with flags of its own, built once and opened on any task."""

    def built(given: argparse.Namespace) -> Open:
        from benchmarks.peers import torch_bert

        words: dict[str, Any] = {
            "method": "adakron",
            "model": given.inputs / given.shape,
            "tokens": "none",
            "labels": LABELS,
        }
        words |= {"learning-rate": LEARNING_RATE, "threads": given.threads, "precision": given.precision}
        words |= {"length": 128} if padded else {}
        argv = [word for name, value in words.items() for word in (f"--{name}", str(value))]
        trainer = torch_bert.Torch(torch_bert.parse([*argv, *flags]))

        def open_task(task: str) -> Trainer:
            opened = copy.copy(trainer)
            opened.args = argparse.Namespace(**vars(trainer.args))
            opened.args.tokens = given.inputs / f"{task}.npz"
            opened.args.length = LENGTHS.get(task, 128) if padded else None
            return opened

        return open_task

    return built


SYSTEMS: dict[str, Callable[[argparse.Namespace], Open]] = {
    "adakron": ours,
    "torch-eager": peer(),
    "torch-compiled": peer("--compile", padded=True),
    "torch-grouped": peer("--compile", "--grouped"),
}


def dense(trainer: Trainer, rows: int, seq: int, steps: int) -> dict[str, Any]:
    """Seconds of a step over rows full of tokens, the median of three rounds, and its matmul FLOPs."""
    one = Measured(trainer.dense(rows, seq), rows, rows * seq, rows * seq)
    first = timed(trainer, [one] * 2)["seconds"]
    seconds = [timed(trainer, [one] * steps)["seconds"] / steps for _ in range(3)]
    step = statistics.median(seconds)
    figures = {"rows": rows, "seq": seq, "first_seconds": first, "step_seconds": step, "all_step_seconds": seconds}
    return figures | {"rows_per_second": rows / step, "flops": trainer.flops(one.inputs)}


def real(trainer: Trainer, steps: int) -> dict[str, Any]:
    """Examples a second over real batches, laying them out included, once every shape among them has been seen."""
    shapes = {one.positions: one for one in islice(trainer.batches(), steps)}
    first = timed(trainer, shapes.values())["seconds"]
    answer = timed(trainer, islice(trainer.batches(), steps))
    padding = 1 - answer["tokens"] / answer["positions"]
    figures = {"steps": steps, "shapes": len(shapes), "first_seconds": first, "padding": padding}
    return figures | {
        "step_seconds": answer["seconds"] / steps,
        "host_seconds": answer["processor_seconds"] / steps,
        "examples_per_second": answer["examples"] / answer["seconds"],
        "tokens_per_second": answer["tokens"] / answer["seconds"],
    }


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--inputs", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="the folder of GLUE that the inputs are from")
    parser.add_argument("--shape", required=True)
    parser.add_argument("--task", nargs="+", required=True)
    parser.add_argument("--precision", choices=("f32", "bf16"), default="bf16")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--seq", type=int, default=128)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--matmul", type=int, default=8192, help="the size of the large matmul")
    parser.add_argument("--threads", type=int, default=8)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", choices=SYSTEMS)
    add_flags(parser)
    given = parser.parse_args(argv)
    begun = time.monotonic()
    open_task = SYSTEMS[given.system](given)
    trainer = open_task(given.task[0])

    def say(what: str, **figures: Any) -> None:
        about = {"system": given.system, "shape": given.shape, "what": what}
        state = {"device_bytes": trainer.device_bytes(), "compilations": trainer.compilations}
        print(json.dumps(about | figures | state), flush=True)

    say("start", seconds=time.monotonic() - begun)
    flops = matmul_rate(trainer, (given.matmul,) * 3, 10)
    say("matmul", size=given.matmul, flops_per_second=flops)
    say("dense", **dense(trainer, given.rows, given.seq, given.steps))
    for task in given.task:
        trainer = open_task(task)
        say(task, **real(trainer, given.steps))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
