"""From measured answers to tables and targets: pure functions of what `benchmarks.throughput` collects.

Ratios are taken within a round, whose programs ran next to each other, and then their median over the rounds.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

MIB = 2**20

AUTHORS, DYNAMIC, WORST = 4.0, 1.5, 1.1  # times as fast: as the authors' recipe, as dynamic padding, in every task


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
    """Most bytes of the process at the end of the rounds."""
    return answers[-1]["peak_bytes"]


def step_seconds(dense: Sequence[Mapping[str, Any]], rows: int) -> list[float]:
    """Seconds of a dense step in each round."""
    return [answer["seconds"] * rows / answer["examples"] for answer in dense]


def targets(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The targets whose programs were measured: name, value, target, whether more is better, and reached."""
    tasks, rows = found["tasks"], found["settings"]["rows"]
    first = next(iter(tasks.values()))
    there = first["real"].keys()
    rows_of: list[dict[str, Any]] = []

    def add(name: str, value: float, target: float, more: bool, by_task: Mapping[str, float] | None = None) -> None:
        reached = value >= target if more else value <= target
        line = {"name": name, "value": value, "target": target, "more": more, "reached": reached}
        rows_of.append(line | ({"tasks": dict(by_task)} if by_task else {}))

    def by_task(measure: Callable[[Mapping[str, Any]], float]) -> dict[str, float]:
        return {task: measure(answers["real"]) for task, answers in tasks.items()}

    def dense(name: str) -> list[float]:
        return step_seconds(first["dense"][name], rows)

    if {"adakron", "authors"} <= there:
        speed = by_task(lambda real: ratio(rates(real["adakron"]), rates(real["authors"])))
        add("examples/s, adakron over the authors' recipe", geometric_mean(speed.values()), AUTHORS, True, speed)
    if {"adakron", "torch-adakron"} <= there:
        speed = by_task(lambda real: ratio(rates(real["adakron"]), rates(real["torch-adakron"])))
        add("examples/s, adakron over PyTorch", geometric_mean(speed.values()), DYNAMIC, True, speed)
        add("the same, the worst task", min(speed.values()), WORST, True)
        add("dense step, PyTorch's over adakron's", ratio(dense("torch-adakron"), dense("adakron")), 1.0, True)
        memory = by_task(lambda real: peak(real["adakron"]) / peak(real["torch-adakron"]))
        add("peak memory, adakron over PyTorch", geometric_mean(memory.values()), 1.0, False, memory)
    for ours, theirs in (("adakron", "adapters"), ("lora", "peft-lora"), ("full", "flax-full")):
        if {ours, theirs} <= there:
            speed = by_task(lambda real, a=ours, b=theirs: ratio(rates(real[a]), rates(real[b])))
            add(f"examples/s, {ours} over {theirs}", geometric_mean(speed.values()), DYNAMIC, True, speed)
    if "adakron" in there:
        share = by_task(lambda real: padding(real["adakron"]))
        add("padding of a batch, the worst task", max(share.values()), 0.12, False, share)
    if {"adakron", "full"} <= there:
        add("dense step, adakron's over full's", ratio(dense("adakron"), dense("full")), 0.7, False)
    if "adakron" in found["starts"]:
        warm = spread(found["starts"]["adakron"]["warm"])[0]
        add("seconds to the first step, warm", warm, 8.0, False)
    if found["depth"]:
        add("compiling, RoBERTa-large's step over BERT-base's", found["depth"]["ratio"], 1.3, False)
    return rows_of


def show(found: Mapping[str, Any]) -> str:
    """All figures as Markdown tables."""
    names = list(next(iter(found["tasks"].values()))["real"])
    rows = found["settings"]["rows"]
    parts = []

    def table(title: str, header: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
        written = [header, ["---"] * len(header), *lines]
        parts.append("\n".join([f"**{title}**", "", *("| " + " | ".join(line) + " |" for line in written)]))

    def over_tasks(name: str, cell: Callable[[Sequence[Mapping[str, Any]]], str]) -> list[str]:
        return [cell(answers["real"][name]) for answers in found["tasks"].values()]

    tasks = list(found["tasks"])
    table(
        "Examples a second (lowest to highest round)",
        ["program", *tasks],
        ([f"`{name}`", *over_tasks(name, lambda answers: _with_range(rates(answers)))] for name in names),
    )
    table(
        "Padding",
        ["program", *tasks],
        ([f"`{name}`", *over_tasks(name, lambda answers: f"{100 * padding(answers):.1f} %")] for name in names),
    )
    table(
        "Peak memory of the process",
        ["program", *tasks],
        ([f"`{name}`", *over_tasks(name, lambda answers: f"{peak(answers) / MIB:,.0f} MB")] for name in names),
    )
    first = next(iter(found["tasks"].values()))
    columns = [f"dense step, {rows} x {found['settings']['seq']}", "its matrix products", "rate in the step"]
    columns += ["rate of one alone", "compilations"]
    columns += ["first step, cold", "first step, warm"] if found["starts"] else []
    lines = []
    for name in names:
        rate = max(answer["flops_per_second"] for answer in first["product"][name])
        seconds, flops = step_seconds(first["dense"][name], rows), first["flops"][name]
        line = [f"`{name}`", _with_range(seconds) + " s"]
        line += [f"{flops / 1e9:.0f} GFLOP", f"{flops / spread(seconds)[0] / 1e9:.0f} GFLOP/s"] if flops else ["-", "-"]
        line.append(f"{rate / 1e9:.0f} GFLOP/s")
        line.append(" ".join(over_tasks(name, lambda answers: str(answers[-1]["compilations"]))))
        if found["starts"]:
            start = found["starts"][name]
            line += [f"{start['cold']:.1f} s", _with_range(start["warm"]) + " s"]
        lines.append(line)
    table("Steps and starts", ["program", *columns], lines)
    busy = {task: answers["real"] for task, answers in found["tasks"].items()} | {"dense": first["dense"]}
    shares = (
        f"{name} {_with_range([a['elsewhere'] for r in rounds.values() for a in r])}" for name, rounds in busy.items()
    )
    parts.append(f"Processors busy with other work meanwhile: {', '.join(shares)}.")
    table(
        "Targets",
        ["what", "measured", "target", "reached", "by task"],
        (
            [
                line["name"],
                f"{line['value']:.2f}",
                f"{'at least' if line['more'] else 'at most'} {line['target']:g}",
                "yes" if line["reached"] else "no",
                ", ".join(f"{task} {value:.2f}" for task, value in line.get("tasks", {}).items()),
            ]
            for line in found["targets"]
        ),
    )
    return "\n\n".join(parts)


def _with_range(values: Sequence[float]) -> str:
    digits = 2 if max(values) < 10 else 1 if max(values) < 100 else 0
    middle, low, high = (f"{value:.{digits}f}" for value in spread(values))
    return f"{middle} ({low} to {high})"
