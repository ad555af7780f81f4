"""The programs under measurement, and the process of each."""

import dataclasses
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


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
    "adakron": System("ours", "benchmarks.throughput.worker", "adakron"),
    "lora": System("ours", "benchmarks.throughput.worker", "lora"),
    "full": System("ours", "benchmarks.throughput.worker", "full"),
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
    printed = subprocess.run([peers, "-c", code, *wanted], capture_output=True, text=True, check=True)
    return json.loads(printed.stdout)


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
        """Sends a request of `protocol.serve`; RuntimeError if the process ends instead of answering."""
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
