"""From measured answers to tables and targets: pure functions of what `benchmarks.throughput` collects.

Ratios are taken within a round, whose programs ran next to each other, and then their median over the rounds.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

MIB = 2**20

AUTHORS, DYNAMIC, WORST = 4.0, 1.5, 1.1  # times as fast: as the authors' recipe, as dynamic padding, in every task
EAGER, COMPILED, USED = 2.0, 1.2, 0.5  # on an accelerator: as PyTorch and as torch.compile; of one product's rate


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, lowest and highest."""
    return float(np.median(values)), min(values), max(values)


def geometric_mean(values: Iterable[float]) -> float:
    return math.exp(float(np.mean([math.log(value) for value in values])))


def rates(answers: Sequence[Mapping[str, Any]]) -> list[float]:
    """Examples a second of each round."""
    return [answer["examples"] / answer["seconds"] for answer in answers]


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median over the rounds of ours / theirs."""
    return float(np.median(np.asarray(ours) / np.asarray(theirs)))


def padding(answers: Sequence[Mapping[str, Any]]) -> float:
    """Share of padding among all positions of all rounds."""
    return 1 - sum(answer["tokens"] for answer in answers) / sum(answer["positions"] for answer in answers)


def peak(answers: Sequence[Mapping[str, Any]]) -> int:
    """Most bytes at the end of the rounds: of the accelerator's memory where there is one, or of the process."""
    return answers[-1]["device_bytes"] or answers[-1]["peak_bytes"]


def step_seconds(dense: Sequence[Mapping[str, Any]], rows: int) -> list[float]:
    """Seconds of a dense step in each round."""
    return [answer["seconds"] * rows / answer["examples"] for answer in dense]


def utilisation(its: Mapping[str, Any], rows: int) -> float:
    """Rate of a dense step's matrix products, as if it did nothing else, over that of one large product alone."""
    seconds = spread(step_seconds(its["steps"], rows))[0]
    return its["flops"] / seconds / max(answer["flops_per_second"] for answer in its["product"])


def targets(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The targets for which enough was measured: name, value, target, whether more is better, reached, tasks."""
    real, dense, settings, lines = found["real"], found["dense"], found["settings"], []

    def add(name: str, target: float, more: bool, value: float, tasks: Mapping[str, float] | None = None) -> None:
        reached = value >= target if more else value <= target
        line = {"name": name, "value": value, "target": target, "more": more, "reached": reached, "tasks": tasks or {}}
        lines.append(line)

    def by_task(measure: Callable[..., float], *names: str) -> dict[str, float]:
        return {
            task: measure(*(answers[name] for name in names))
            for task, answers in real.items()
            if answers.keys() >= set(names)
        }

    def speed(ours: Any, theirs: Any) -> float:
        return ratio(rates(ours), rates(theirs))

    def step(name: str) -> list[float]:
        return step_seconds(dense[name]["steps"], settings["rows"])

    answers = [*(each for its in real.values() for each in its.values()), *(its["steps"] for its in dense.values())]
    accelerated = any(each[-1]["device_bytes"] for each in answers)
    eager, compiled = ("torch-adakron", EAGER if accelerated else 1.0), ("torch-compiled", COMPILED)
    for ours, theirs, target in (
        ("adakron", "authors", AUTHORS),
        ("adakron", "torch-adakron", EAGER if accelerated else DYNAMIC),
        ("adakron", "adapters", DYNAMIC),
        ("lora", "peft-lora", DYNAMIC),
        ("full", "flax-full", DYNAMIC),
        *[("adakron", *compiled)] * accelerated,
    ):
        if ratios := by_task(speed, ours, theirs):
            add(f"examples/s, {ours} over {theirs}", target, True, geometric_mean(ratios.values()), ratios)
            if theirs == "torch-adakron":
                add("the same, the worst task", WORST, True, min(ratios.values()))
    if ratios := by_task(lambda ours, theirs: peak(ours) / peak(theirs), "adakron", "torch-adakron"):
        add("peak memory, adakron over torch-adakron", 1.0, False, geometric_mean(ratios.values()), ratios)
    if shares := by_task(padding, "adakron"):
        add("padding of a batch, the worst task", 0.12, False, max(shares.values()), shares)
    for theirs, target in (eager, *[compiled] * accelerated):
        if dense.keys() >= {"adakron", theirs}:
            add(f"dense step, {theirs}'s over adakron's", target, True, ratio(step(theirs), step("adakron")))
    if accelerated and "adakron" in dense:
        used = utilisation(dense["adakron"], settings["rows"])
        add("dense step, its products' rate over one product's", USED, True, used)
    if dense.keys() >= {"adakron", "full"}:
        add("dense step, adakron's over full's", 0.7, False, ratio(step("adakron"), step("full")))
    if "adakron" in found["start"]:
        add("seconds to the first step, warm", 8.0, False, spread(found["start"]["adakron"]["warm"])[0])
    if found["depth"]:
        add("compiling, RoBERTa-large's step over BERT-base's", 1.3, False, found["depth"]["ratio"])
    return lines


def show(found: Mapping[str, Any]) -> str:
    """All figures as Markdown tables."""
    real, dense, start = found["real"], found["dense"], found["start"]
    parts = []

    def table(title: str, header: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
        written = [header, ["---"] * len(header), *lines]
        parts.append("\n".join([f"**{title}**", "", *("| " + " | ".join(line) + " |" for line in written)]))

    def by_task(title: str, cell: Callable[[Sequence[Mapping[str, Any]]], str]) -> None:
        names = dict.fromkeys(name for answers in real.values() for name in answers)
        table(
            title,
            ["program", *real],
            ([f"`{n}`", *(cell(each[n]) if n in each else "-" for each in real.values())] for n in names),
        )

    if real:
        by_task("Examples a second (lowest to highest round)", lambda answers: _with_range(rates(answers)))
        by_task("Padding", lambda answers: f"{100 * padding(answers):.1f} %")
        by_task("Peak memory", lambda answers: f"{peak(answers) / MIB:,.0f} MB")
        by_task("Compilations", lambda answers: str(answers[-1]["compilations"]))
    if dense:
        rows, seq = found["settings"]["rows"], found["settings"]["seq"]
        lines = []
        for name, its in dense.items():
            seconds, flops = step_seconds(its["steps"], rows), its["flops"]
            line = [f"`{name}`", _with_range(seconds) + " s"]
            line += [f"{flops / 1e9:.0f} GFLOP", f"{100 * utilisation(its, rows):.0f} %"] if flops else ["-", "-"]
            lines.append([*line, f"{max(answer['flops_per_second'] for answer in its['product']) / 1e9:.0f}"])
        header = ["program", "step", "its products", "utilisation", "GFLOP/s of one product alone"]
        table(f"Dense steps, {rows} x {seq}", header, lines)
    if start:
        lines = ([f"`{n}`", f"{its['cold']:.1f} s", _with_range(its["warm"]) + " s"] for n, its in start.items())
        table("From the start of the process to the end of the first step", ["program", "cold", "warm"], lines)
    if found["depth"]:
        seconds = found["depth"]["seconds"].items()
        table("Compiling a step", ["encoder", "seconds"], ([name, _with_range(values)] for name, values in seconds))
    rounds = real | ({"dense": {name: its["steps"] for name, its in dense.items()}} if dense else {})
    if rounds:
        shares = (
            f"{name} {_with_range([one['elsewhere'] for answers in each.values() for one in answers])}"
            for name, each in rounds.items()
        )
        parts.append(f"Processors busy with other work meanwhile: {', '.join(shares)}.")
    if goals := targets(found):
        table(
            "Targets",
            ["what", "measured", "target", "reached", "by task"],
            (
                [
                    line["name"],
                    f"{line['value']:.2f}",
                    f"{'at least' if line['more'] else 'at most'} {line['target']:g}",
                    "yes" if line["reached"] else "no",
                    ", ".join(f"{task} {value:.2f}" for task, value in line["tasks"].items()),
                ]
                for line in goals
            ),
        )
    return "\n\n".join(parts)


def _with_range(values: Sequence[float]) -> str:
    digits = 2 if max(values) < 10 else 1 if max(values) < 100 else 0
    middle, low, high = (f"{value:.{digits}f}" for value in spread(values))
    return f"{middle} ({low} to {high})"
