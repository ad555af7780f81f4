"""A tiny run of the program, and the contents of its folder that must be the same whatever happens to it."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from benchmarks.shapes import write_tiny

ROOT = Path(__file__).parents[2]
STEPS, EPOCHS = 8, 3  # steps per epoch, and epochs per run
LAST = STEPS * EPOCHS
# Keys of result.json that describe the last process, and the digest.
UNEQUAL = ("seconds", "throughput", "compilations", "together", "sha256")


class Ended(NamedTuple):
    """How a call of the program ended; `code` is None if it raised an exception, which `err` then holds."""

    code: int | None
    out: str
    err: str


@contextmanager
def surroundings(scratch: Path) -> Iterator[Path]:
    """Yields a tiny encoder's folder, with caches of tokens and compiled steps for all runs below `scratch`."""
    write_tiny(scratch / "model")
    places = {"XDG_CACHE_HOME": scratch / "cache", "JAX_COMPILATION_CACHE_DIR": scratch / "compiled"}
    with mock.patch.dict(os.environ, {name: str(path) for name, path in places.items()}):
        yield scratch / "model"


def words(model: Path, out: Path, **more: Any) -> list[str]:
    """Returns the command line of a run of LAST steps."""
    flags: dict[str, Any] = {"task": "sst2", "data": "mini", "model": model, "epochs": EPOCHS, "learning-rate": "1e-3"}
    flags |= {"batch-size": 8, "limit-train": 8 * STEPS, "limit-eval": 32, "max-length": 64, "out": out} | more
    several = {name: value if isinstance(value, tuple | list) else [value] for name, value in flags.items()}
    return [word for name, values in several.items() for word in (f"--{name}", *map(str, values))]


def call(argv: Sequence[str]) -> Ended:
    """Runs the program in this process."""
    from train.__main__ import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(argv)
        except Exception as error:  # a bug, which the caller counts
            return Ended(None, out.getvalue(), f"{type(error).__name__}: {error}")
    return Ended(code, out.getvalue(), err.getvalue())


def start(argv: Sequence[str], before: Sequence[str] = ()) -> subprocess.Popen:
    """Starts the program in its own process; `before` is put in front of its command."""
    words, pipe = [*before, sys.executable, "-m", "train", *argv], subprocess.PIPE
    return subprocess.Popen(words, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)


def stopped(argv: Sequence[str], folder: Path, step: int) -> Ended:
    """Runs the program in this process, and tells it to stop once it has recorded a step."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.is_set():
            if any(record["step"] >= step for record in journal(folder)):
                os.kill(os.getpid(), signal.SIGTERM)
                return
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        return call(argv)
    finally:
        ended.set()
        watcher.join()


def journal(folder: Path) -> list[dict[str, Any]]:
    """Returns the complete lines of a journal that is perhaps still being written."""
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []
    return [json.loads(line) for line in lines]


def outcome(folder: Path) -> Mapping[str, Any]:
    """Returns what must be equal: the adapter's two files and the journal as bytes, and the result without times."""
    files = ("adapter/adapter.safetensors", "adapter/adapter.json", "metrics.jsonl")
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    result = {key: value for key, value in result.items() if key not in UNEQUAL}
    return {name: (folder / name).read_bytes() for name in files} | {"result.json": result}


def differences(folder: Path, expected: Mapping[str, Any]) -> list[str]:
    """Returns the names of what differs or is missing."""
    try:
        now = outcome(folder)
    except (OSError, ValueError) as error:
        return [str(error)]
    return [name for name in expected if now[name] != expected[name]]
