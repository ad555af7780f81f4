"""From measured answers to tables and targets: pure functions of what `benchmarks.throughput` collects.

Ratios are taken within a round, whose programs ran next to each other, and then their median over the rounds.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

MIB = 2**20

AUTHORS, DYNAMIC, WORST = 4.0, 1.5, 1.1  # times as fast: as the authors' recipe, as dynamic padding, in every task
EAGER, COMPILED, USED = 2.0, 1.2, 0.5  # on an accelerator: as PyTorch and as torch.compile; of one matmul's rate


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, lowest and highest."""
    return float(np.median(values)), min(values), max(values)


def geometric_mean(values: Iterable[float]) -> float:
    return math.exp(float(np.mean([math.log(value) for value in values])))


def rates(answers: Sequence[Mapping[str, Any]]) -> list[float]:
    """Examples a second of each round."""
    return [answer["examples"] / answer["seconds"] for answer in answers]


def ratio(ours: Sequence[float], peers: Sequence[float]) -> float:
    """The median over the rounds of ours / peers."""
    return float(np.median(np.asarray(ours) / np.asarray(peers)))


def padding(answers: Sequence[Mapping[str, Any]]) -> float:
    """Share of padding among all positions of all rounds."""
    return 1 - sum(answer["tokens"] for answer in answers) / sum(answer["positions"] for answer in answers)


def peak(answers: Sequence[Mapping[str, Any]]) -> int:
    """Most bytes at the end of the rounds: of the accelerator's memory where there is one, or of the process."""
    return answers[-1]["device_bytes"] or answers[-1]["peak_bytes"]


def step_seconds(dense: Sequence[Mapping[str, Any]], rows: int) -> list[float]:
    """Seconds of a dense step in each round."""
    return [answer["seconds"] * rows / answer["examples"] for answer in dense]


def utilisation(measured: Mapping[str, Any], rows: int) -> float:
    """A dense step's matmul FLOPs a second, over those of one large matmul alone."""
    seconds = spread(step_seconds(measured["steps"], rows))[0]
    return measured["flops"] / seconds / max(answer["flops_per_second"] for answer in measured["matmul"])


def targets(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The targets for which enough was measured: name, value, target, whether more is better, reached, tasks."""
    real, dense, settings, lines = figures["real"], figures["dense"], figures["settings"], []

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

    def speed(ours: Any, peers: Any) -> float:
        return ratio(rates(ours), rates(peers))

    def step(name: str) -> list[float]:
        return step_seconds(dense[name]["steps"], settings["rows"])

    rounds = [*(answers for by_name in real.values() for answers in by_name.values())]
    rounds += [measured["steps"] for measured in dense.values()]
    accelerated = any(answers[-1]["device_bytes"] for answers in rounds)
    eager, compiled = ("torch-adakron", EAGER if accelerated else 1.0), ("torch-compiled", COMPILED)
    for ours, peer, target in (
        ("adakron", "authors", AUTHORS),
        ("adakron", "torch-adakron", EAGER if accelerated else DYNAMIC),
        ("adakron", "adapters", DYNAMIC),
        ("lora", "peft-lora", DYNAMIC),
        ("full", "flax-full", DYNAMIC),
        *[("adakron", *compiled)] * accelerated,
    ):
        if ratios := by_task(speed, ours, peer):
            add(f"examples/s, {ours} over {peer}", target, True, geometric_mean(ratios.values()), ratios)
            if peer == "torch-adakron":
                add("the same, the worst task", WORST, True, min(ratios.values()))
    if ratios := by_task(lambda ours, peers: peak(ours) / peak(peers), "adakron", "torch-adakron"):
        add("peak memory, adakron over torch-adakron", 1.0, False, geometric_mean(ratios.values()), ratios)
    if shares := by_task(padding, "adakron"):
        add("padding of a batch, the worst task", 0.12, False, max(shares.values()), shares)
    for peer, target in (eager, *[compiled] * accelerated):
        if dense.keys() >= {"adakron", peer}:
            add(f"dense step, {peer}'s over adakron's", target, True, ratio(step(peer), step("adakron")))
    if accelerated and "adakron" in dense:
        used = utilisation(dense["adakron"], settings["rows"])
        add("dense step, its matmuls' rate over one matmul's", USED, True, used)
    if dense.keys() >= {"adakron", "full"}:
        add("dense step, adakron's over full's", 0.7, False, ratio(step("adakron"), step("full")))
    if "adakron" in figures["start"]:
        add("seconds to the first step, warm", 8.0, False, spread(figures["start"]["adakron"]["warm"])[0])
    if figures["depth"]:
        add("compiling, RoBERTa-large's step over BERT-base's", 1.3, False, figures["depth"]["ratio"])
    return lines


def show(figures: Mapping[str, Any]) -> str:
    """All figures as Markdown tables."""
    real, dense, start = figures["real"], figures["dense"], figures["start"]
    parts = []

    def table(title: str, header: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
        written = [header, ["---"] * len(header), *lines]
        parts.append("\n".join([f"**{title}**", "", *("| " + " | ".join(line) + " |" for line in written)]))

    def by_task(title: str, cell: Callable[[Sequence[Mapping[str, Any]]], str]) -> None:
        names = dict.fromkeys(name for answers in real.values() for name in answers)
        table(
            title,
            ["program", *real],
            ([f"`{n}`", *(cell(answers[n]) if n in answers else "-" for answers in real.values())] for n in names),
        )

    if real:
        by_task("Examples a second (lowest to highest round)", lambda answers: _with_range(rates(answers)))
        by_task("Padding", lambda answers: f"{100 * padding(answers):.1f} %")
        by_task("Peak memory", lambda answers: f"{peak(answers) / MIB:,.0f} MB")
        by_task("Compilations", lambda answers: str(answers[-1]["compilations"]))
    if dense:
        rows, seq = figures["settings"]["rows"], figures["settings"]["seq"]
        lines = []
        for name, measured in dense.items():
            seconds, flops = step_seconds(measured["steps"], rows), measured["flops"]
            line = [f"`{name}`", _with_range(seconds) + " s"]
            line += [f"{flops / 1e9:.0f} GFLOP", f"{100 * utilisation(measured, rows):.0f} %"] if flops else ["-", "-"]
            lines.append([*line, f"{max(answer['flops_per_second'] for answer in measured['matmul']) / 1e9:.0f}"])
        header = ["program", "step", "matmul FLOPs", "utilisation", "GFLOP/s of one matmul alone"]
        table(f"Dense steps, {rows} x {seq}", header, lines)
    if start:
        lines = ([f"`{n}`", f"{one['cold']:.1f} s", _with_range(one["warm"]) + " s"] for n, one in start.items())
        table("From the start of the process to the end of the first step", ["program", "cold", "warm"], lines)
    if figures["depth"]:
        seconds = figures["depth"]["seconds"].items()
        table("Compiling a step", ["encoder", "seconds"], ([name, _with_range(values)] for name, values in seconds))
    rounds = real | ({"dense": {name: measured["steps"] for name, measured in dense.items()}} if dense else {})
    if rounds:
        shares = (
            f"{name} {_with_range([one['elsewhere'] for answers in by_name.values() for one in answers])}"
            for name, by_name in rounds.items()
        )
        parts.append(f"Processors busy with other work meanwhile: {', '.join(shares)}.")
    if goals := targets(figures):
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
