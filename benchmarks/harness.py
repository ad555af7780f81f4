"""What every benchmark shares: work measured in turn, medians, tables, JSON.

Rounds are taken in turn, so that what disturbs the machine disturbs all systems alike. A ratio is taken within each
round, whose systems ran next to each other; then its median over the rounds.
"""

import argparse
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


def timed(work: Callable[[], Any]) -> float:
    """Seconds of one call."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def add_clock(parser: argparse.ArgumentParser) -> None:
    meaning = "what seconds are: seconds, or processor: the time that a program takes of processors, on a busy machine"
    parser.add_argument("--clock", choices=Clocks._fields, default="seconds", help=f"{meaning} (default: seconds)")


def add_peers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peers", type=Path, default=PEERS, help="the peers' interpreter")


def in_turn(
    systems: Mapping[str, Callable[[], Any]], rounds: int, measure: Callable[[Callable[[], Any]], Any] = timed
) -> dict[str, list[Any]]:
    """Of each system what `measure` gives, its seconds by default, once a round; each round begins with another."""
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
    """The median over the rounds of values / others."""
    return median(value / other for value, other in zip(values, others, strict=True))


def with_range(values: Sequence[float]) -> str:
    """Median, lowest and highest, as a table shows them."""
    digits = 2 if max(values) < 10 else 1 if max(values) < 100 else 0
    middle, low, high = (f"{value:,.{digits}f}" for value in spread(values).values())
    return f"{middle} ({low} to {high})"


def table(header: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    """Markdown."""
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


def write_json(path: Path | None, figures: Any) -> None:
    """Writes the figures whole, where a path is given."""
    if path:
        write_whole(path, json.dumps(figures, indent=2).encode() + b"\n")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Process:
    """A measured program in a process of its own, which answers requests by `benchmarks.peers.protocol`.

    Attributes:
      first: what it said when it was ready, `start_seconds` after it was started.

    Raises:
      RuntimeError: it ends instead of answering.
    """

    def __init__(self, module: str, flags: Mapping[str, Any], python: Path | str = sys.executable, **environment: str):
        words = [word for name, value in flags.items() for word in (f"--{name}", *([] if value is True else [value]))]
        command = [str(python), "-W", "ignore", "-m", module, *map(str, words)]
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
        killed = ["killed, perhaps for want of memory"] if code == -signal.SIGKILL else []
        raise RuntimeError("\n".join([f"{self.name} ended with exit code {code}; the last it said:", *said, *killed]))

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


def installed(packages: Sequence[str], python: Path = PEERS) -> dict[str, str | None]:
    """Version of each package by an interpreter; None of one that is not there."""
    code = """if True:
        import importlib.metadata, json, sys
        def version(name):
            try:
                return importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                return None
        print(json.dumps({name: version(name) for name in sys.argv[1:]}))"""
    if not packages or not python.exists():
        return dict.fromkeys(packages)
    printed = subprocess.run([python, "-c", code, *packages], capture_output=True, text=True, check=True)
    return json.loads(printed.stdout)


def machine() -> dict[str, Any]:
    """What was measured on: processor, cores that may be used, how busy it was."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    return {"processor": model, "cores": len(os.sched_getaffinity(0)), "load": os.getloadavg()[0]}
