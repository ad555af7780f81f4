"""What a measured process and the driver say to each other: JSON lines, one request and one answer at a time.

Every process measures by this code, whichever interpreter runs it, so it needs the standard library and NumPy only.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TextIO

import numpy as np


class Measured(NamedTuple):
    """A batch ready for the step, and its size.

    Attributes:
      inputs: whatever the step takes.
      examples: in the batch.
      tokens: of these examples.
      positions: tokens and padding.
    """

    inputs: Any
    examples: int
    tokens: int
    positions: int


class Trainer(Protocol):
    """A training program under measurement."""

    @property
    def compilations(self) -> int:
        """Of the training step so far."""
        ...

    def batches(self) -> Iterator[Measured]:
        """Batches without end, from the first one on; the same examples in every program."""
        ...

    def dense(self, rows: int, seq: int) -> Any:
        """Inputs of rows full of tokens, one example a row."""
        ...

    def step(self, inputs: Any) -> None:
        """Takes one training step; it may still be going on when this returns."""
        ...

    def wait(self) -> None:
        """Returns when all steps are done."""
        ...

    def matmul(self, m: int, k: int, n: int) -> Callable[[], None]:
        """A function that multiplies matrices [m, k] and [k, n] of the program's precision, and waits."""
        ...

    def flops(self, inputs: Any) -> int:
        """Matmul FLOPs of a step; 0 where the program cannot count them."""
        ...

    def device_bytes(self) -> int:
        """Most memory taken on an accelerator so far; 0 without one."""
        ...


def over_stdio(make: Callable[[], Trainer]) -> None:
    """`serve` on stdin and stdout, where nothing but answers goes, whatever the libraries print."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(make, sys.stdin, answers)


def serve(make: Callable[[], Trainer], requests: Iterable[str], answers: TextIO) -> None:
    """Makes the program, takes its first step, says so, and answers requests until there are no more.

    A request is `{"ask": ..., "steps": n, ...}`. `real`: steps over the next n batches. `warm`: steps over those that
    the first n `real` ones will visit, one for each shape. `dense`: n steps over dense inputs of `rows` x `seq`.
    `count`: matmul FLOPs of such a step. `matmul`: n of matrices of the `sizes` m, k, n.
    """

    def say(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    trainer = make()
    batches = trainer.batches()
    trainer.step(next(batches).inputs)
    trainer.wait()
    say(_state(trainer))
    for line in requests:
        request = json.loads(line)
        steps = request["steps"]
        if request["ask"] == "warm":
            shapes = {one.positions: one for one in islice(trainer.batches(), 1, 1 + steps)}
            # What compiles nothing needs no step for every shape.
            answer = timed(trainer, islice(shapes.values(), None if trainer.compilations else 1))
        elif request["ask"] == "dense":
            rows, seq = request["rows"], request["seq"]
            one = Measured(trainer.dense(rows, seq), rows, rows * seq, rows * seq)
            answer = timed(trainer, [one] * steps)
        elif request["ask"] == "count":
            answer = {"flops": trainer.flops(trainer.dense(request["rows"], request["seq"]))}
        elif request["ask"] == "matmul":
            answer = {"flops_per_second": matmul_rate(trainer, request["sizes"], steps)}
        else:
            answer = timed(trainer, islice(batches, steps))
        say(answer | _state(trainer))


def timed(trainer: Trainer, batches: Iterable[Measured]) -> dict[str, Any]:
    """Seconds of a step over each batch, making the batches included, and what was in them."""
    examples = tokens = positions = 0
    begun, processor = time.perf_counter(), time.process_time()
    for one in batches:
        trainer.step(one.inputs)
        examples, tokens, positions = examples + one.examples, tokens + one.tokens, positions + one.positions
    trainer.wait()
    seconds, processor = time.perf_counter() - begun, time.process_time() - processor
    return {
        "seconds": seconds,
        "processor_seconds": processor,
        "examples": examples,
        "tokens": tokens,
        "positions": positions,
    }


def matmul_rate(trainer: Trainer, sizes: tuple[int, int, int], times: int) -> float:
    """FLOPs a second of the framework's own matmul, the best of `times`."""
    m, k, n = sizes
    once = trainer.matmul(m, k, n)
    once()
    seconds = []
    for _ in range(times):
        begun = time.perf_counter()
        once()
        seconds.append(time.perf_counter() - begun)
    return 2 * m * k * n / min(seconds)


def _state(trainer: Trainer) -> dict[str, Any]:
    return {
        "peak_bytes": peak_bytes(),
        "device_bytes": trainer.device_bytes(),
        "compilations": trainer.compilations,
    }


def peak_bytes() -> int:
    """Most memory that this process has held at once."""
    try:
        # Not getrusage's figure, which a process inherits from the one that started it.
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else 1024 * most


def padded_batches(
    file: Path, length: int | None, grouped: bool = False
) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray, Measured]]:
    """Padded batches of the examples that the driver wrote down, without end.

    Args:
      file: arrays as `write_examples` lays them down, and `order`: the examples of each batch, -1 for none.
      length: that every example is padded to; None for that of the batch's longest.
      grouped: batches of examples of similar length, padded to a multiple of 8.

    Yields:
      The inputs by the names that Hugging Face's models take [examples, length], the labels, and the sizes.
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
            yield inputs, arrays["labels"][ids], Measured(None, len(ids), int(lengths.sum()), len(ids) * seq)


def by_length(order: np.ndarray, lengths: np.ndarray, group: int = 50) -> np.ndarray:
    """The same examples in batches of similar length: sorted within `group` batches, which then come in any order.

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
    """Inputs without padding: ordinary words, by the names that Hugging Face's models take [rows, seq]."""
    tokens = np.random.default_rng(0).integers(1000, 28000, (rows, seq))
    return {"input_ids": tokens, "attention_mask": np.ones_like(tokens), "token_type_ids": np.zeros_like(tokens)}


def answer_rounds(work: Callable[[], Any]) -> None:
    """Does the work once to warm up; from then on once for every line on stdin, answered by its seconds."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    work()
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for _ in sys.stdin:
        begun = time.perf_counter()
        work()
        print(json.dumps({"seconds": time.perf_counter() - begun}), file=answers, flush=True)
