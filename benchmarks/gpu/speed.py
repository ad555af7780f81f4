"""Part 2: steps a second, ours and PyTorch's, and where a step's time goes."""

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu.campaign import Figures, Step
from benchmarks.gpu.settings import MODEL, Settings

TASKS = ("mrpc", "sst2", "rte", "mnli")
SYSTEMS = ("adakron", "torch-eager", "torch-compiled", "torch-grouped")
SECONDS = {"bert-base": 60, "roberta-large": 100}  # that a system needs at least
# Times as fast as a peer: dense, and over real batches.
DENSE = {"bert-base": {"torch-eager": 2.0, "torch-compiled": 1.2}}
REAL = {"torch-eager": 4.0, "torch-compiled": 2.5, "torch-grouped": 1.3}
ROWS = {"bert-base": 8500, "roberta-large": 2900}  # of 128 tokens, dense, a second
TOGETHER = 4.0  # times as fast eight runs as one, one after another


def steps(settings: Settings) -> Iterator[Step]:
    """The encoders' inputs; each program on each shape; the profile; runs together."""
    tasks = [task for task in TASKS if (settings.data / task).is_dir()][: settings.limit_tasks or None]
    data, inputs = str(settings.data.absolute()), str(settings.out.absolute() / "inputs")
    words = ["-m", "benchmarks.gpu.inputs", "--out", inputs, "--data", data, "--shape", *settings.shapes]
    words += ["--task", *tasks, "--layers", str(settings.limit_layers)]
    yield Step("inputs", words, 20, environment={"JAX_PLATFORMS": "cpu"}, again=True)

    measured = ["--inputs", inputs, "--data", data]
    measured += ["--rows", str(settings.limit_rows)] if settings.limit_rows else []
    measured += ["--steps", str(settings.limit_steps), "--matmul", "512"] if settings.limit_steps else []
    for shape in settings.shapes:
        for system in SYSTEMS:
            words = ["-m", "benchmarks.gpu.rates", system, "--shape", shape, "--task", *tasks, *measured]
            yield Step(f"{shape}-{system}", words, SECONDS.get(shape, 60), environment=settings.environment)
        words = ["-m", "benchmarks.gpu.profile", "--shape", shape, "--task", tasks[0], *measured]
        yield Step(f"{shape}-profile", words, SECONDS.get(shape, 60) / 2, environment=settings.environment)

    file = settings.out.absolute() / "together.json"
    words = ["-m", "benchmarks.together", "--model", MODEL, "--precision", "bf16", "--json", str(file)]
    words += ["--runs", "1", str(min(8, settings.limit_rows or 8)), "--rows", str(settings.limit_rows or 8)]
    yield Step("together", [*words, "--seq", "128"], 40, partial(read_together, file), settings.environment)


def read_together(file: Path, printed: str) -> Figures:
    del printed
    return [{"runs": int(runs), **figures} for runs, figures in json.loads(file.read_text(encoding="utf-8")).items()]


def aims(
    figures: Mapping[tuple[str, str, str], Mapping[str, Any]], together: Figures
) -> Iterator[tuple[str, float, float]]:
    """What was aimed at: words, the value measured, and the least value that reaches it.

    Args:
      figures: of (system, shape, what), as `benchmarks.gpu.rates` prints them.
      together: of runs together, as `benchmarks.together` writes them.
    """
    for (system, shape, what), line in figures.items():
        if system != "adakron":
            continue
        if what == "dense" and shape in ROWS:
            yield f"{shape}, dense: rows a second", line["rows_per_second"], ROWS[shape]
        for peer, factor in (DENSE.get(shape, {}) if what == "dense" else REAL).items():
            other = figures.get((peer, shape, what))
            if other and what not in ("start", "matmul"):
                per = "rows_per_second" if what == "dense" else "examples_per_second"
                yield f"{shape}, {what}: times as fast as {peer}", line[per] / other[per], factor
    for line in together:
        if line["runs"] == 8:
            yield "8 runs together: times as fast as one after another", 1 / line["ratio"], TOGETHER
