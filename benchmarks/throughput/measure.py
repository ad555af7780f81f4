"""Rounds of measurement, taken in turn: starts, steps over real batches, dense steps, compilation by depth."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.data import tokenizer
from benchmarks import shapes
from benchmarks.throughput.examples import padded_length, write_examples
from benchmarks.throughput.settings import Settings
from benchmarks.throughput.systems import ROOT, SYSTEMS, Process
from train.data.glue import TASKS


class Bench:
    """Starts the systems on a task."""

    def __init__(self, settings: Settings, scratch: Path):
        self.settings, self.scratch = settings, scratch
        self.folder = shapes.locate(settings.model, scratch)
        self.encoder = EncoderConfig.from_folder(self.folder)
        self.tokenizer = tokenizer.Tokenizer(self.folder, self.encoder.vocab_size)
        self.examples = {task: self._write_examples(task) for task in settings.task}

    def _write_examples(self, task: str) -> Path:
        settings, path = self.settings, self.scratch / f"{task}.npz"
        batches = 1 + settings.rounds * settings.steps
        write_examples(
            path, settings.data, TASKS[task], "train", self.encoder, self.tokenizer, settings.batch_size, batches
        )
        return path

    def start(self, name: str, task: str, cache: Path) -> Process:
        """Starts a system, whose compiled steps and tokens are kept in `cache`, and waits for its first step."""
        system, settings, length = SYSTEMS[name], self.settings, padded_length(task)
        flags = {"method": system.method, "model": self.folder, "learning-rate": settings.learning_rate}
        flags |= {"precision": settings.precision}
        if system.needs:
            flags |= {"tokens": self.examples[task], "labels": TASKS[task].problem.outputs, "threads": settings.threads}
            flags |= {"length": length} if system.padded else {}
        else:
            flags |= {
                "task": task,
                "data": Path(settings.data).resolve() if Path(settings.data).is_dir() else settings.data,
            }
            flags |= {"batch-size": settings.batch_size, "max-length": length}
            flags |= {"out": tempfile.mkdtemp(dir=self.scratch)}
        interpreter = str(settings.peers.absolute()) if system.needs else sys.executable
        words = [word for flag, value in flags.items() for word in (f"--{flag}", str(value))]
        environment = {
            "JAX_COMPILATION_CACHE_DIR": str(cache / "programs"),
            "XDG_CACHE_HOME": str(cache),
            "OMP_NUM_THREADS": str(settings.threads),
            "TOKENIZERS_PARALLELISM": "false",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # the programs share an accelerator's memory
        }
        return Process(name, [interpreter, "-m", system.module, *words, *system.flags], environment)


def measure_starts(bench: Bench, names: Sequence[str]) -> dict[str, Any]:
    """Seconds to the first step of the first task: with nothing kept from before, and again, in turn."""
    task = bench.settings.task[0]

    def seconds(name: str) -> float:
        process = bench.start(name, task, bench.scratch / f"start-{name}")
        process.close()
        return process.start_seconds

    starts: dict[str, Any] = {}
    for name in names:
        starts[name] = {"cold": seconds(name), "warm": []}
        say(f"start of {name}: cold {starts[name]['cold']:.1f} s")
    for _ in range(bench.settings.rounds):
        for name in names:
            starts[name]["warm"].append(seconds(name))
            say(f"start of {name}: warm {starts[name]['warm'][-1]:.1f} s")
    return starts


def measure_real(bench: Bench, names: Sequence[str], task: str, cache: Path) -> dict[str, Any]:
    """Answers of every system over a task's batches, by name, one a round."""
    settings = bench.settings
    with running(bench, names, task, cache) as processes:
        for process in processes:
            process.ask("warm", settings.rounds * settings.steps)
            say(f"{task}: {process.name} is ready")
        by_system = _rounds(processes, task, settings.rounds, "real", settings.steps)
    for answers in zip(*by_system.values(), strict=True):
        if len({answer["tokens"] for answer in answers}) > 1:
            raise RuntimeError(f"{task}: the programs did not see the same batches")
    return by_system


def measure_dense(bench: Bench, names: Sequence[str], cache: Path) -> dict[str, Any]:
    """Of every system, by name: answers over dense inputs and for a matmul as in the FFN, one a round, and FLOPs."""
    settings, shape = bench.settings, {"rows": bench.settings.rows, "seq": bench.settings.seq}
    with running(bench, names, settings.task[0], cache) as processes:
        flops = {}
        for process in processes:
            process.ask("dense", 1, **shape)
            flops[process.name] = process.ask("count", 1, **shape)["flops"]
            say(f"dense: {process.name} is ready")
        steps = _rounds(processes, "dense", settings.rounds, "dense", 2, **shape)
        # On a CPU one of the FFN's shape; an accelerator would be done with it before it is asked for the next.
        ffn = (settings.rows * settings.seq, bench.encoder.hidden_size, bench.encoder.intermediate_size)
        sizes = (8192,) * 3 if any(process.first["device_bytes"] for process in processes) else ffn
        matmul = _rounds(processes, "matmul", settings.rounds, "matmul", 3, sizes=sizes)
    return {name: {"steps": steps[name], "matmul": matmul[name], "flops": flops[name]} for name in names}


@contextmanager
def running(bench: Bench, names: Sequence[str], task: str, cache: Path) -> Iterator[list[Process]]:
    """The systems' processes, started one after another, and ended."""
    processes: list[Process] = []
    try:
        for name in names:
            processes.append(bench.start(name, task, cache))
        yield processes
    finally:
        for process in processes:
            process.close()


def _rounds(
    processes: Sequence[Process], title: str, rounds: int, what: str, steps: int, **more: Any
) -> dict[str, Any]:
    """Answers by system, one a round; each round begins with another process.

    Answers of steps say in `elsewhere` how many processors were busy with something else meanwhile.
    """
    say(f"{title}: {rounds} rounds")
    answers: dict[str, Any] = {process.name: [] for process in processes}
    for number in range(rounds):
        first = number % len(processes)
        for process in (*processes[first:], *processes[:first]):
            before = busy_seconds()
            answer = process.ask(what, steps, **more)
            if "seconds" in answer:
                others = busy_seconds() - before - answer["processor_seconds"]
                answer["elsewhere"] = max(0.0, others) / answer["seconds"]
            answers[process.name].append(answer)
    say(f"{title}: done")
    return answers


def busy_seconds() -> float:
    """Seconds that the machine's processors have been busy, together, since it started; 0 where it does not say."""
    try:
        user, nice, system, *_ = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:])
    except OSError:
        return 0.0
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


def measure_depth(rows: int, seq: int, rounds: int) -> dict[str, Any]:
    """What `benchmarks.depth` prints."""
    words = [f"--{name}={value}" for name, value in (("rows", rows), ("seq", seq), ("rounds", rounds))]
    printed = subprocess.run(
        [sys.executable, "-m", "benchmarks.depth", *words], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(printed.stdout)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
