"""Part 1: whether the numbers there are the numbers here."""

import json
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu.campaign import Figures, Step
from benchmarks.gpu.settings import Settings

CURVES = Path(__file__).with_name("mrpc_cpu.json")  # what `write_curves` made of the run below on a CPU
SEEDS = ("0", "1")
WORKERS = 8  # processes that the oracles, nearly all compilation, are divided among


def steps(settings: Settings) -> Iterator[Step]:
    """Oracles, packed against padded, and a run of MRPC against the CPU's."""
    words = ["-m", "pytest", "tests/test_oracles.py", "-q", "-o", "addopts=", "-o", "filterwarnings=default"]
    words += ["-n", str(WORKERS)] if settings.platform != "cpu" else []
    if settings.limit_cases:
        cases = sorted(path.parent.name for path in settings.oracles.glob("*/case.json"))
        words += ["-k", " or ".join(cases[: settings.limit_cases])]
    exact = {"JAX_DEFAULT_MATMUL_PRECISION": "float32", "ADAKRON_ORACLES": str(settings.oracles.absolute())}
    exact |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # the workers share the GPU's memory
    yield Step("oracles", words, 60, read_tests, settings.environment | exact)
    for precision in ("f32", "bf16"):
        words = ["-m", "benchmarks.gpu.packed", "--data", str(settings.data.absolute()), "--precision", precision]
        words += ["--examples", str(settings.limit_eval)] if settings.limit_eval else []
        yield Step(f"packed-{precision}", words, 30, environment=settings.environment)
    for precision in ("f32", "bf16"):
        out = settings.out.absolute() / "mrpc" / precision
        words = [*settings.training(), "--task", "mrpc", "--precision", precision, "--seed", *SEEDS]
        words += ["--epochs", "2", "--batch-size", "64", "--learning-rate", "1e-3", "--out", str(out)]
        yield Step(f"mrpc-{precision}", words, 60, partial(read_curves, out), settings.environment)


def read_tests(printed: str) -> Figures:
    """pytest's counts: `31 passed, 1 failed`."""
    return [{word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error|skipped)", printed)}]


def curve(run: Path) -> dict[str, Any]:
    """A run's training losses by step, and its scores by epoch."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = {str(record["step"]): record["loss"] for record in records if record["kind"] == "train"}
    scores = [record["accuracy"] for record in records if record["kind"] == "eval"]
    return {"loss": losses, "accuracy": scores}


def write_curves(out: Path) -> None:
    """Takes the runs in a folder, made by the command of `steps` on a CPU, for the reference."""
    curves = {seed: curve(out / f"mrpc-adakron-seed{seed}") for seed in SEEDS}
    CURVES.write_text(json.dumps(curves, indent=1) + "\n", encoding="utf-8")


def read_curves(out: Path, printed: str) -> Figures:
    """How far each seed's curve is from the CPU's; the same steps draw the same dropout there."""
    del printed
    reference = json.loads(CURVES.read_text(encoding="utf-8"))
    return [{"seed": int(seed), **apart(curve(out / f"mrpc-adakron-seed{seed}"), reference[seed])} for seed in SEEDS]


def apart(here: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, Any]:
    """The largest difference of losses over the first tenth of the steps and over all, and the scores of both.

    Rounding grows along a run: the first steps agree closely, the last only as two runs of one quality do.
    """
    steps = sorted(here["loss"].keys() & there["loss"].keys(), key=int)
    differences = [abs(here["loss"][step] - there["loss"][step]) for step in steps]
    early = differences[: max(1, len(differences) // 10)]
    return {
        "steps": len(steps),
        "early": max(early, default=float("nan")),
        "all": max(differences, default=float("nan")),
        "accuracy": here["accuracy"],
        "accuracy_cpu": there["accuracy"],
    }
