"""Part 4: every method at its own learning rate, chosen on a part held out from training, then five seeds.

The development set is scored once a run, after its last epoch, and chooses nothing.
"""

import json
import statistics
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu.campaign import Figures, Step, records
from benchmarks.gpu.settings import Settings, split_of

# Task -> epochs, and seconds that a grid of its main methods needs at least.
TASKS = {"mrpc": (10, 60), "rte": (10, 60), "stsb": (8, 60), "sst2": (2, 120), "mnli": (5, 90), "qqp": (2, 90)}
METHODS = (
    ("adakron", "pfeiffer", "lora"),
    ("bitfit", "head", "full"),
    ("houlsby", "ia3", "compacter", "prefix"),
)
RATES = ("2e-4", "5e-4", "1e-3", "2e-3", "5e-3")
SEEDS = ("1", "2", "3", "4", "5")
HELD_OUT = ("--validation", "0.1")  # of the training set: chooses the rate
METRIC = {"mrpc": "f1", "stsb": "pearson", "qqp": "f1"}  # that a task is compared by; accuracy by default
FACTORS = ((4, 2), (8, 2), (16, 2), (24, 2), (32, 2), (2, 4), (4, 4), (8, 4), (12, 4))  # Table 3's
FACTOR_TASKS = ("mrpc", "rte")


def steps(settings: Settings) -> Iterator[Step]:
    """Of the main methods first, on every task; then of the others; then Table 3's factors."""
    tasks = [task for task in TASKS if (settings.data / task).is_dir()][: settings.limit_tasks or None]
    for number, group in enumerate(METHODS):
        methods = group[: settings.limit_methods or None]
        for task in tasks:
            yield from compare(settings, task, methods, f"{task}-{number}")
    for task in [task for task in FACTOR_TASKS if task in tasks]:
        yield from factors(settings, task)


def compare(settings: Settings, task: str, methods: Sequence[str], name: str) -> Iterator[Step]:
    """A grid of rates over the held-out part; then, for each method, a grid of seeds at the best of them."""
    seconds = TASKS[task][1]
    selection = settings.out.absolute() / "select" / name
    rates = RATES[: settings.limit_methods or None]
    words = [*grid(settings, task, selection), "--method", *methods, "--learning-rate", *rates, "--seed", "0"]
    yield Step(
        *(f"select-{name}", [*words, *HELD_OUT], seconds, partial(read_runs, selection), settings.environment),
        accepted=(0, 1),  # some of the highest rates diverge
    )
    for method, rate in chosen_rates(settings, task, name).items():
        final = settings.out.absolute() / "final" / task
        words = [*grid(settings, task, final), "--method", method, "--learning-rate", rate]
        words += ["--best-by", "last", "--seed", *SEEDS[: settings.limit_methods or None]]
        read = partial(read_runs, final, method=method)
        yield Step(f"final-{task}-{method}", words, seconds / 2, read, settings.environment)


def factors(settings: Settings, task: str) -> Iterator[Step]:
    """Table 3: AdaKron's factors over all seeds, at the rate that was chosen for 12 and 4."""
    chosen = chosen_rates(settings, task, f"{task}-0")
    for pair in FACTORS[: settings.limit_methods or None]:
        if "adakron" not in chosen:
            return
        name = f"factors-{task}-{pair[0]}-{pair[1]}"
        out = settings.out.absolute() / "factors" / task / f"{pair[0]}-{pair[1]}"
        words = [*grid(settings, task, out), "--method", "adakron", "--method.factors", *map(str, pair)]
        words += ["--learning-rate", chosen["adakron"], "--best-by", "last"]
        words += ["--seed", *SEEDS[: settings.limit_methods or None]]
        yield Step(name, words, 30, partial(read_runs, out), settings.environment)


def grid(settings: Settings, task: str, out: Path) -> list[str]:
    """Words of a grid whose runs of one method take their steps together."""
    words = [*settings.training(), "--task", task, "--train-split", split_of(settings.data, task), "--together"]
    words += ["--epochs", settings.epochs(TASKS[task][0]), "--batch-size", "32", "--precision", "bf16"]
    return [*words, "--out", str(out)]


def read_runs(folder: Path, printed: str, method: str = "") -> Figures:
    """The runs that have ended below a folder: method, fields, rate, seed, parameters, seconds and scores."""
    del printed
    runs = []
    for file in sorted(folder.glob("*/result.json")):
        result = json.loads(file.read_text(encoding="utf-8"))
        if method and result["method"]["name"] != method:
            continue
        scores = {key: value for key, value in result["best"].items() if key not in ("epoch", "step")}
        about = {key: result[key] for key in ("task", "method", "seed")}
        about |= {"learning_rate": rate_of(file.parent), "parameters": result["params"]["method"]}
        runs.append(about | {"seconds": result["seconds"]["total"], "together": result["together"], "scores": scores})
    return runs


def rate_of(run: Path) -> float:
    return tomllib.loads((run / "config.toml").read_text(encoding="utf-8"))["learning_rate"]


def chosen_rates(settings: Settings, task: str, name: str) -> dict[str, str]:
    """Of each method the rate that a selection has chosen; nothing before it has ended."""
    record = records(settings.out).get(("science", f"select-{name}"))
    if record is None or record.state != "done":
        return {}
    return best_rates(record.figures, METRIC.get(task, "accuracy"))


def best_rates(runs: Figures, metric: str) -> dict[str, str]:
    """Of each method the rate with the highest score, the lowest of equals."""
    best: dict[str, tuple[float, float]] = {}
    for run in sorted(runs, key=lambda run: run["learning_rate"]):
        name, score = run["method"]["name"], run["scores"][metric]
        if name not in best or score > best[name][0]:
            best[name] = score, run["learning_rate"]
    return {name: f"{rate:g}" for name, (_, rate) in best.items()}


def table(runs: Figures) -> Iterator[tuple[str, str, int, float, int, float, float]]:
    """Of each task and method: parameters, rate, how many seeds, mean and standard deviation of the metric."""
    groups: dict[tuple[str, str], Figures] = {}
    for run in runs:
        groups.setdefault((run["task"], run["method"]["name"]), []).append(run)
    for (task, method), group in groups.items():
        scores = [run["scores"][METRIC.get(task, "accuracy")] for run in group]
        spread = statistics.stdev(scores) if len(scores) > 1 else float("nan")
        yield task, method, group[0]["parameters"], group[0]["learning_rate"], len(scores), _mean(scores), spread


def paired(runs: Figures, first: str, second: str) -> dict[str, Mapping[str, Any]]:
    """Of each task the differences of two methods' scores, seed by seed: mean, its standard error, count."""
    scores = {
        (run["task"], run["method"]["name"], run["seed"]): run["scores"][METRIC.get(run["task"], "accuracy")]
        for run in runs
    }
    differences: dict[str, list[float]] = {}
    for (task, method, seed), score in scores.items():
        if method == first and (task, second, seed) in scores:
            differences.setdefault(task, []).append(score - scores[task, second, seed])
    return {
        task: {"mean": _mean(values), "error": _error(values), "seeds": len(values)}
        for task, values in differences.items()
    }


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values)


def _error(values: Sequence[float]) -> float:
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
