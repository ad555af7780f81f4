"""`summary.md`: what a campaign's figures say."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks.gpu import science, speed
from benchmarks.gpu.campaign import Record

PEAK = 989e12  # dense bf16 FLOPs a second of an H100 SXM and an H200, by NVIDIA's data sheets


def write(records: Iterable[Record]) -> str:
    """The whole summary as Markdown."""
    by_part: dict[str, list[Record]] = {}
    for record in records:
        by_part.setdefault(record.part, []).append(record)
    lines = ["# Figures of a GPU campaign"]
    for part, known in by_part.items():
        lines += ["", f"## {part}", ""]
        rows = [(r.step, r.state, f"{r.seconds:.0f}", r.said.replace("|", "/")) for r in known]
        lines += _table(("step", "state", "seconds", "said"), rows)
        lines += [line for view in _VIEWS.get(part, ()) for line in view(known)]
    return "\n".join(lines) + "\n"


def correct(records: Sequence[Record]) -> Iterator[str]:
    yield ""
    for record in records:
        yield from (f"* {record.step}: {_words(figures)}" for figures in record.figures)


def rates(records: Sequence[Record]) -> Iterator[str]:
    """A table of dense steps, one of real batches, and what was aimed at."""
    lines = [figures for record in records for figures in record.figures if "system" in figures]
    figures = {(line["system"], line["shape"], line["what"]): line for line in lines}
    matmul = max((line["flops_per_second"] for line in lines if line["what"] == "matmul"), default=float("nan"))
    dense = [line for line in lines if line["what"] == "dense"]
    yield ""
    header = ("shape", "dense", "step", "rows/s", "TFLOP/s", "of one matmul", "of the peak", "memory", "first steps")
    yield from _table(header, (_dense(line, matmul) for line in dense))
    yield ""
    header = ("shape", "task", "program", "examples/s", "step", "host", "padding", "memory", "shapes", "first steps")
    yield from _table(header, (_real(line) for line in lines if "padding" in line))
    together = [line for record in records if record.step == "together" for line in record.figures]
    reached = ((words, f"{value:.2f}", f"{aim:g}", "yes" if value >= aim else "no") for words, value, aim in
               speed.aims(figures, together))  # fmt: skip
    yield ""
    yield from _table(("aim", "measured", "at least", "reached"), reached)


def profiles(records: Sequence[Record]) -> Iterator[str]:
    """Where a step's time goes."""
    for record in records:
        for figures in record.figures if record.step.endswith("-profile") else ():
            kinds = {kind: f"{1e3 * seconds:.2f} ms" for kind, seconds in figures.get("seconds_by_kind", {}).items()}
            about = f"{figures['shape']}, {figures['what']}: {1e3 * figures['step_seconds']:.2f} ms a step"
            yield ""
            yield f"* {about}, {1e3 * figures['enqueue_seconds']:.2f} ms to enqueue it, {_words(kinds)}, " + (
                f"idle {figures['idle']:.0%}" if kinds else "no kernel was seen"
            )


def methods(records: Sequence[Record]) -> Iterator[str]:
    """Scores of every method at its rate, and AdaKron's less its peers', seed by seed."""
    final = [run for record in records if record.step.startswith("final-") for run in record.figures]
    yield ""
    header = ("task", "method", "parameters", "rate", "seeds", "mean", "deviation")
    rows = science.table(final)
    yield from _table(
        header, ((t, m, f"{p:,}", f"{r:g}", str(n), f"{mean:.4f}", f"{dev:.4f}") for t, m, p, r, n, mean, dev in rows)
    )
    for peer in ("pfeiffer", "lora"):
        differences = science.paired(final, "adakron", peer)
        yield ""
        yield from (
            f"* {task}: adakron less {peer} {one['mean']:+.4f} +- {one['error']:.4f} over {one['seeds']} seeds"
            for task, one in differences.items()
        )


def bank(records: Sequence[Record]) -> Iterator[str]:
    """Sentences a second by how many adapters they draw from, relative to one alone."""
    lines = [line for record in records for line in record.figures if "adapters" in line]
    yield ""
    rows = ((line["adapters"], f"{line['sentences_per_second']:,.0f}", f"{line['relative']:.2f}") for line in lines)
    yield from _table(("adapters", "sentences/s", "of one alone"), rows)


_VIEWS = {"correct": (correct,), "speed": (rates, profiles), "adapters": (bank,), "science": (methods,)}


def _dense(line: Mapping[str, Any], matmul: float) -> Sequence[str]:
    rate = line["flops"] / line["step_seconds"]
    shares = [f"{rate / 1e12:.0f}", f"{rate / matmul:.0%}", f"{rate / PEAK:.0%}"] if rate else ["-", "-", "-"]
    step, rows = f"{1e3 * line['step_seconds']:.2f} ms", f"{line['rows_per_second']:,.0f}"
    return line["shape"], line["system"], step, rows, *shares, _memory(line), f"{line['first_seconds']:.0f} s"


def _real(line: Mapping[str, Any]) -> Sequence[str]:
    return (
        *(line["shape"], line["what"], line["system"], f"{line['examples_per_second']:,.0f}"),
        *(f"{1e3 * line['step_seconds']:.2f} ms", f"{1e3 * line['host_seconds']:.2f} ms", f"{line['padding']:.0%}"),
        *(_memory(line), str(line["shapes"]), f"{line['first_seconds']:.0f} s"),
    )


def _memory(line: Mapping[str, Any]) -> str:
    return f"{line['device_bytes'] / 2**30:.1f} GiB"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    for row in (header, ["---"] * len(header), *rows):
        yield "| " + " | ".join(row) + " |"


def _words(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )
