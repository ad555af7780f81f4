"""Where the time of our step goes: what the host does, what the device does, and when the device waits.

    python -m benchmarks.gpu.profile --inputs FOLDER --data /path/to/glue --shape bert-base --task mrpc

One JSON line for dense steps and one for real batches: seconds of a step by kind of kernel, the kernels that take most,
and the share of time in which none runs.
"""

import argparse
import json
import re
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import jax

from benchmarks.gpu import rates
from benchmarks.throughput.protocol import Measured, Trainer, timed

# Kind of kernel by its name or its operation's, the first that fits.
KINDS = (
    ("copy", r"memcpy|memset|copy|transpose"),
    ("attention", r"fmha|flash|softmax|attention"),
    ("matmul", r"gemm|dot|matmul|cublas|cutlass|nvjet|wgmma"),
    ("random", r"threefry|random|rng"),
    ("reduction", r"reduce|norm"),
    ("elementwise", r""),
)
TOP = 15  # kernels that are listed


def kind_of(text: str) -> str:
    return next(kind for kind, pattern in KINDS if re.search(pattern, text.lower()))


def profile(trainer: Trainer, batches: Sequence[Measured]) -> dict[str, Any]:
    """The steps over some batches, whose shapes have been seen, under the profiler."""
    plain = timed(trainer, batches)["seconds"]
    begun = time.perf_counter()
    for one in batches:
        trainer.step(one.inputs)
    enqueued = time.perf_counter() - begun
    trainer.wait()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            timed(trainer, batches)
        events = list(kernels(next(Path(folder).rglob("*.xplane.pb"))))
    steps = len(batches)
    figures = {"steps": steps, "step_seconds": plain / steps, "enqueue_seconds": enqueued / steps}
    return figures | breakdown(events, steps)


def kernels(file: Path) -> Iterable[tuple[str, str, float, float]]:
    """Name, operation, start and end in seconds of all that ran on a device, or on a CPU's threads in its place."""
    planes = list(jax.profiler.ProfileData.from_file(str(file)).planes)
    devices = [plane for plane in planes if plane.name.startswith("/device:GPU")]
    for plane in devices or [plane for plane in planes if plane.name == "/host:CPU"]:
        for line in plane.lines:
            if devices and not line.name.startswith("Stream"):
                continue  # the same kernels again, by module and by name scope
            for event in line.events:
                about = {name: str(value) for name, value in event.stats if name in ("hlo_op", "tf_op", "name")}
                if not devices and "hlo_op" not in about:
                    continue
                operation = about.get("tf_op") or about.get("name") or about.get("hlo_op", "")
                yield event.name, operation, event.start_ns * 1e-9, event.end_ns * 1e-9


def breakdown(events: Sequence[tuple[str, str, float, float]], steps: int) -> dict[str, Any]:
    """Seconds of a step by kind and by kernel, and the share of the time, first to last, in which nothing ran."""
    if not events:
        return {"kernels": 0}
    by_kind: dict[str, float] = defaultdict(float)
    by_kernel: dict[str, float] = defaultdict(float)
    for name, operation, start, end in events:
        by_kind[kind_of(f"{name} {operation}")] += (end - start) / steps
        by_kernel[f"{name} {operation}".strip()[:120]] += (end - start) / steps
    first, last = min(start for *_, start, _ in events), max(end for *_, end in events)
    busy, reached = 0.0, first
    for *_, start, end in sorted(events, key=lambda event: event[2]):
        busy += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return {
        "kernels": len(events) / steps,
        "seconds_by_kind": _descending(by_kind),
        "idle": 1 - busy / (last - first),
        "top": _descending(by_kernel, TOP),
    }


def _descending(seconds: Mapping[str, float], most: int | None = None) -> dict[str, float]:
    return dict(sorted(seconds.items(), key=lambda item: -item[1])[:most])


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    rates.add_flags(parser)
    given = parser.parse_args(argv)
    trainer = rates.ours(given)(given.task[0])
    dense = Measured(trainer.dense(given.rows, given.seq), given.rows, 0, 0)
    real = list(islice(trainer.batches(), min(given.steps, 10)))
    for what, batches in (("dense", [dense] * min(given.steps, 5)), (given.task[0], real)):
        timed(trainer, batches)  # compiled before it is measured
        print(json.dumps({"shape": given.shape, "what": what, **profile(trainer, batches)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
