"""The protocol between a measured process and `benchmarks.harness.Process`: JSON lines, a reply to each request.

Every process measures by this code, whatever interpreter runs it, so it needs only the standard library and NumPy.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol, TextIO

import numpy as np

UNLABELLED = -100  # the label that PyTorch's loss takes for a token without one


class Measured(NamedTuple):
    """A batch ready for the step, and its size.

    Attributes:
      inputs: whatever the step takes.
      examples: the number of examples in the batch.
      tokens: the number of their tokens.
      positions: the number of tokens and padding.
    """

    inputs: Any
    examples: int
    tokens: int
    positions: int


class Clocks(NamedTuple):
    """What two clocks show: the time, and the processor time that all threads of this process have taken."""

    seconds: float
    processor: float

    @classmethod
    def now(cls) -> "Clocks":
        return cls(time.perf_counter(), time.process_time())

    def spent(self) -> dict[str, float]:
        """Returns, by the name of each clock, the seconds since."""
        return {name: now - then for name, now, then in zip(self._fields, Clocks.now(), self, strict=True)}


class Trainer(Protocol):
    """A training program under measurement."""

    @property
    def compilations(self) -> int:
        """The compilations of the training step so far."""
        ...

    def batches(self) -> Iterator[Measured]:
        """Yields batches without end, from the first on; the same examples in every program."""
        ...

    def dense(self, rows: int, seq: int) -> Any:
        """Returns inputs of rows full of tokens, one example per row."""

    def step(self, inputs: Any) -> None:
        """Takes a training step, which may still be running when this returns."""

    def wait(self) -> None:
        """Waits until all steps are done."""

    def device_bytes(self) -> int:
        """Returns the peak memory on an accelerator so far; 0 without one."""
        ...


def settings() -> SimpleNamespace:
    """Returns the settings that `benchmarks.harness.Process` starts a program with."""
    return SimpleNamespace(**json.loads(sys.argv[1]))


def over_stdio(serve: Callable[[Iterable[str], TextIO], None]) -> None:
    """Serves on stdin and stdout, which carries only replies, whatever the libraries print."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.stdin, replies)


def serve_trainer(make: Callable[[], Trainer], requests: Iterable[str], replies: TextIO) -> None:
    """Makes the program, takes its first step, reports it, and replies to requests until there are no more.

    A request is `{"ask": ..., "steps": n, ...}`. `real`: steps over the next n batches. `warm`: a step over one batch
    of each shape that the first n `real` steps will take. `dense`: n steps over dense inputs of `rows` x `seq`.
    """

    def say(reply: dict[str, Any]) -> None:
        state = {"peak_bytes": trainer.device_bytes() or bytes_held(), "compilations": trainer.compilations}
        print(json.dumps(reply | state), file=replies, flush=True)

    trainer = make()
    batches = trainer.batches()
    trainer.step(next(batches).inputs)
    trainer.wait()
    say({})
    for line in requests:
        request = json.loads(line)
        steps = request["steps"]
        if request["ask"] == "warm":
            shapes = {batch.positions: batch for batch in islice(trainer.batches(), 1, 1 + steps)}
            # A program that compiles nothing needs no step for every shape.
            say(timed(trainer, islice(shapes.values(), None if trainer.compilations else 1)))
        elif request["ask"] == "dense":
            rows, seq = request["rows"], request["seq"]
            say(timed(trainer, [Measured(trainer.dense(rows, seq), rows, rows * seq, rows * seq)] * steps))
        else:
            say(timed(trainer, islice(batches, steps)))


def timed(trainer: Trainer, batches: Iterable[Measured]) -> dict[str, Any]:
    """Returns the seconds of a step over each batch, making the batches included, and the sizes of the batches."""
    examples = tokens = positions = 0
    begun = Clocks.now()
    for batch in batches:
        trainer.step(batch.inputs)
        examples, tokens, positions = examples + batch.examples, tokens + batch.tokens, positions + batch.positions
    trainer.wait()
    return begun.spent() | {"examples": examples, "tokens": tokens, "positions": positions}


def bytes_held(what: str = "VmHWM", process: str = "self") -> int:
    """Returns the peak memory of a process, or what it holds now (`VmRSS`); getrusage's figure is inherited."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(what))


def serve_rounds(work: Callable[[], Any], requests: Iterable[str], replies: TextIO) -> None:
    """Does the work once to warm up, and then once for every request; replies with its seconds."""
    work()
    print(json.dumps({"ready": True}), file=replies, flush=True)
    for _ in requests:
        begun = Clocks.now()
        work()
        print(json.dumps(begun.spent()), file=replies, flush=True)


def padded_batches(
    file: Path, length: int | None, grouped: bool = False
) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray, Measured]]:
    """Yields padded batches of the examples that `benchmarks.training` wrote, without end.

    Args:
      file: arrays `tokens`, `token_types`, `offsets`, `labels`, and `order`: the examples of each batch, -1 for none.
      length: the length that every example is padded to; None for that of the batch's longest.
      grouped: whether batches have examples of similar length, padded to a multiple of 8.

    Yields:
      The inputs by the names that Hugging Face's models take [examples, length], the labels of examples or of tokens,
      as in the file, and the sizes.
    """
    with np.load(file) as archive:
        arrays = {name: archive[name] for name in archive.files}
    offsets, order = arrays["offsets"], arrays["order"]
    if grouped:
        order = by_length(order, np.diff(offsets))
    while True:
        for ids in order:
            ids = ids[ids >= 0]
            lengths = offsets[ids + 1] - offsets[ids]
            longest = int(lengths.max())
            seq = length or (-(-longest // 8) * 8 if grouped else longest)
            mask = np.arange(seq) < lengths[:, None]
            source = np.where(mask, offsets[ids][:, None] + np.arange(seq), 0)
            inputs = {
                "input_ids": np.where(mask, arrays["tokens"][source], arrays["pad_id"]),
                "attention_mask": mask.astype(arrays["tokens"].dtype),
                "token_type_ids": np.where(mask, arrays["token_types"][source], 0),
            }
            of_tokens = len(arrays["labels"]) == len(arrays["tokens"])
            labels = np.where(mask, arrays["labels"][source], UNLABELLED) if of_tokens else arrays["labels"][ids]
            yield inputs, labels, Measured(None, len(ids), int(lengths.sum()), len(ids) * seq)


def by_length(order: np.ndarray, lengths: np.ndarray, group: int = 50) -> np.ndarray:
    """Returns the same examples in batches of similar length: sorted within `group` batches, which are then shuffled.

    Args:
      order: the examples of each batch, -1 for none [batches, size].
    """
    rng, groups = np.random.default_rng(0), []
    for start in range(0, len(order), group):
        ids = order[start : start + group].ravel()
        ids = ids[np.argsort(-np.where(ids < 0, 0, lengths[ids]), kind="stable")]
        groups.append(rng.permutation(ids.reshape(-1, order.shape[1])))
    return np.concatenate(groups)


def dense_inputs(rows: int, seq: int) -> dict[str, np.ndarray]:
    """Returns inputs without padding, of tokens that every vocabulary has, by Hugging Face's names [rows, seq]."""
    tokens = np.random.default_rng(0).integers(5, 60, (rows, seq))
    return {"input_ids": tokens, "attention_mask": np.ones_like(tokens), "token_type_ids": np.zeros_like(tokens)}
