"""What every benchmark shares: work measured in turn, medians, tables, JSON.

The systems take turns in each round, so that whatever disturbs the machine disturbs all of them alike. A ratio is taken
within each round, in which the systems run close together; the figure is its median over the rounds.
"""

import argparse
import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from adakron_jax.io.files import write_whole
from benchmarks.peers.protocol import Clocks

ROOT = Path(__file__).parents[1]
PEERS = ROOT / ".venv-peers/bin/python"  # what `make bench-peers` makes


def timed(work: Callable[[], Any], clock: str = "seconds") -> float:
    """Returns the seconds of one call, by a clock of `Clocks`."""
    begun = Clocks.now()
    work()
    return begun.spent()[clock]


def parser(about: str | None, rounds: int) -> argparse.ArgumentParser:
    """Returns a parser with the flags of all benchmarks that compare programs."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mini", help="where GLUE is, as for `python -m train` (default: mini)")
    parser.add_argument("--rounds", type=int, default=rounds, help="(default: %(default)s)")
    meaning = "what to measure: seconds, or processor: the processor time of a program, for a busy machine"
    parser.add_argument("--clock", choices=Clocks._fields, default="seconds", help=f"{meaning} (default: seconds)")
    parser.add_argument("--peers", type=Path, default=PEERS, help="the peers' interpreter")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    return parser


def in_turn(
    systems: Mapping[str, Callable[[], Any]], rounds: int, measure: Callable[[Callable[[], Any]], Any] = timed
) -> dict[str, list[Any]]:
    """Returns what `measure` gives for each system, by default seconds, per round; each round starts with another."""
    names = list(systems)
    measured: dict[str, list[Any]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            measured[name].append(measure(systems[name]))
    return measured


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": median(values), "lowest": min(values), "highest": max(values)}


def ratio(values: Sequence[float], others: Sequence[float]) -> float:
    """Returns the median over the rounds of values / others."""
    return median(value / other for value, other in zip(values, others, strict=True))


def with_range(values: Sequence[float]) -> str:
    """Returns median, lowest and highest, as in a table."""
    digits = 2 if max(values) < 10 else 1 if max(values) < 100 else 0
    middle, low, high = (f"{value:,.{digits}f}" for value in spread(values).values())
    return f"{middle} ({low} to {high})"


def table(header: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    """Returns a Markdown table."""
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


def write_json(path: Path | None, figures: Any) -> None:
    """Writes the figures, if a path is given."""
    if path:
        write_whole(path, json.dumps(figures, indent=2).encode() + b"\n")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Process:
    """A measured program in its own process, which replies to requests by `benchmarks.peers.protocol`.

    Attributes:
      first: its first reply, when it was ready, `start_seconds` after it was started.

    Raises:
      RuntimeError: it ends instead of replying.
    """

    def __init__(
        self, module: str, settings: Mapping[str, Any], python: Path | str = sys.executable, **environment: str
    ):
        command = [str(python), "-W", "ignore", "-m", module, json.dumps(settings, default=str)]
        self.name, self.log = module, tempfile.TemporaryFile("w+")  # noqa: SIM115
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.log, "text": True}
        begun = time.perf_counter()
        self.process = subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, **pipes)
        self.first = self._reply()
        self.start_seconds = time.perf_counter() - begun

    def ask(self, what: str = "once", **more: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        print(json.dumps({"ask": what, **more}), file=self.process.stdin, flush=True)
        return self._reply()

    def _reply(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        if line := self.process.stdout.readline():
            return json.loads(line)
        code = self.process.wait()
        self.log.seek(0)
        said = self.log.read().strip().splitlines()[-15:]
        killed = ["killed, perhaps because memory ran out"] if code == -signal.SIGKILL else []
        raise RuntimeError("\n".join([f"{self.name} ended with exit code {code}; its last output:", *said, *killed]))

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *about: object) -> None:
        """Ends the process."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.log.close()


def predict_beside(
    local: Mapping[str, Callable[[], Any]],
    peers: Mapping[str, Mapping[str, Any]],
    rounds: int,
    python: Path,
    clock: str = "seconds",
) -> dict[str, list[float]]:
    """Returns the seconds of our work and of peers, once a round; `peers` has each one's own settings for `predict`."""
    with contextlib.ExitStack() as stack:
        systems: dict[str, Callable[[], float]] = {}
        for name, work in local.items():
            work()  # compiles
            systems[name] = functools.partial(timed, work, clock)
        for name, differing in peers.items():
            settings = {"threads": len(os.sched_getaffinity(0)), "batch_size": 64, **differing}
            process = stack.enter_context(Process("benchmarks.peers.predict", settings, python.absolute()))
            systems[name] = lambda process=process: process.ask()[clock]
        return in_turn(systems, rounds, lambda system: system())


def available(needs: Mapping[str, Sequence[str]], python: Path) -> tuple[list[str], dict[str, str]]:
    """Returns the programs whose packages an interpreter has, and the packages' versions; prints what is left out."""
    versions: dict[str, str] = {}
    if any(needs.values()) and python.exists():
        code = "import importlib.metadata, json; every = importlib.metadata.distributions(); "
        code += "print(json.dumps({package.name: package.version for package in every}))"
        versions = json.loads(subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout)
    for name, packages in needs.items():
        if not versions.keys() >= set(packages):
            say(f"left out: {name}, which needs {', '.join(packages)} in {python} (make bench-peers)")
    names = [name for name, packages in needs.items() if versions.keys() >= set(packages)]
    return names, {package: versions[package] for name in names for package in needs[name]}


def machine() -> dict[str, Any]:
    """Returns what was measured on: the processor, the usable cores, and the load."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    return {"processor": model, "cores": len(os.sched_getaffinity(0)), "load": os.getloadavg()[0]}
