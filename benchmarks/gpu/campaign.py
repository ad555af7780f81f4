"""Steps of a campaign, one process each: run under a clock, recorded as they end, skipped where they are done."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).parents[2]
FILE = "figures.jsonl"
GRACE = 20.0  # seconds that a step has to save what it has when its time is up

Figures = list[dict[str, Any]]
State = Literal["done", "failed", "out of time", "not begun"]


def json_lines(printed: str) -> Figures:
    """The JSON objects among some lines; one that a killed process left half is none."""
    figures = []
    for line in printed.splitlines():
        if line.startswith("{"):
            with suppress(ValueError):
                figures.append(json.loads(line))
    return figures


@dataclasses.dataclass(frozen=True)
class Step:
    """A process that measures something.

    Attributes:
      name: unique within its part.
      words: after the interpreter.
      seconds: that it needs at least; with less left it is not begun.
      read: from what it has printed to its figures.
      environment: of its own, besides the campaign's.
      again: to be run by every call, since others need its files.
      accepted: exit codes of one that is done.
    """

    name: str
    words: Sequence[str]
    seconds: float
    read: Callable[[str], Figures] = json_lines
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    again: bool = False
    accepted: tuple[int, ...] = (0,)


@dataclasses.dataclass(frozen=True)
class Record:
    """How a step went: one line of `figures.jsonl`."""

    part: str
    step: str
    state: State
    seconds: float
    figures: Figures
    said: str = ""


def records(folder: Path) -> dict[tuple[str, str], Record]:
    """The last record of every step of a campaign."""
    file = folder / FILE
    if not file.is_file():
        return {}
    written = (Record(**values) for values in json_lines(file.read_text(encoding="utf-8")))
    return {(record.part, record.step): record for record in written}


class Campaign:
    """A folder with `figures.jsonl`, a log of each step, and a deadline."""

    def __init__(self, folder: Path, seconds: float, clock: Callable[[], float] = time.monotonic):
        self.folder, self.clock = folder, clock
        self.deadline = clock() + seconds
        self.file = folder / FILE
        if self.file.is_file() and not self.file.read_bytes().endswith(b"\n"):
            with self.file.open("a") as file:
                print(file=file)  # after what a killed campaign left half
        (folder / "logs").mkdir(parents=True, exist_ok=True)

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - self.clock()

    def add(self, record: Record) -> None:
        with self.file.open("a", encoding="utf-8") as file:
            print(json.dumps(dataclasses.asdict(record)), file=file, flush=True)

    def run(self, part: str, steps: Iterable[Step], interpreter: str = sys.executable) -> Iterator[Record]:
        """Runs the steps of a part that are not done, as far as time allows; yields a record when it is written."""
        for step in steps:
            earlier = records(self.folder).get((part, step.name))
            if earlier and earlier.state == "done" and not step.again:
                continue
            if self.left < step.seconds:
                said = f"{max(self.left, 0):.0f} s left, {step.seconds:.0f} needed"
                record = Record(part, step.name, "not begun", 0.0, earlier.figures if earlier else [], said)
            else:
                record = self.attempt(part, step, interpreter)
            self.add(record)
            print(f"{part} {step.name}: {record.state}, {record.seconds:.0f} s {record.said}", file=sys.stderr)
            yield record

    def attempt(self, part: str, step: Step, interpreter: str) -> Record:
        """Runs a step, at most until the deadline, then asks it to stop, and ends it if it does not."""
        begun, log = self.clock(), self.folder / "logs" / f"{part}-{step.name}"
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(self.folder.absolute() / "compiled")}
        with log.with_suffix(".out").open("w+", encoding="utf-8") as out, log.with_suffix(".err").open("w+") as errors:
            process = subprocess.Popen(
                [interpreter, *step.words],
                cwd=ROOT,
                env=environment | dict(step.environment),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                start_new_session=True,
            )
            code = _wait(process, max(self.left - GRACE, 0.0))
            out.seek(0)
            errors.seek(0)
            printed, complaints = out.read(), errors.read().strip().splitlines()
        said = "" if code is None or code in step.accepted else (complaints or [f"exit code {code}"])[-1][:200]
        state: State = "out of time" if code is None else "done" if code in step.accepted else "failed"
        try:
            figures = step.read(printed)
        except (OSError, ValueError, KeyError) as error:
            state, figures, said = "failed", [], said or f"no figures: {error!r}"
        return Record(part, step.name, state, self.clock() - begun, figures, said)


def _wait(process: subprocess.Popen, seconds: float) -> int | None:
    """A process's exit code; None if it had to be ended."""
    for patience, number in ((seconds, signal.SIGTERM), (GRACE, signal.SIGKILL)):
        try:
            code = process.wait(patience)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, number)
        else:
            return code if number == signal.SIGTERM else None
    process.wait()
    return None
