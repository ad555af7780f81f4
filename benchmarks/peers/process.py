"""A peer's process, beside which ours is measured in turn."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-peers/bin/python"


@contextmanager
def peer(module: str, flags: Mapping[str, Any], python: Path = PYTHON) -> Iterator[Callable[[], float]]:
    """A process of `benchmarks.peers.MODULE`, ready; called, it does its work once and gives the seconds.

    Raises:
      ValueError: it does not start.
    """
    flags = {**flags, "threads": len(os.sched_getaffinity(0))}
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    command = [str(python), "-W", "ignore", "-m", f"benchmarks.peers.{module}", *words]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        asked, answers = process.stdin, process.stdout
        if not answers.readline():
            raise ValueError(f"{python}: {module} did not start; accepted: what `make bench-peers` makes")

        def once() -> float:
            asked.write("\n")
            asked.flush()
            return json.loads(answers.readline())["seconds"]

        yield once
        asked.close()
