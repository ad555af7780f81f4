"""The library's own commands.

`python -m adakron_jax params --encoder bert-base --method adakron --method.factors 12 4` prints, as JSON, how many
parameters a method trains; `params --paper` sets the paper's own figures beside such counts.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adakron_jax import paper
from adakron_jax.config import NAMED, EncoderConfig
from adakron_jax.encoder import SequenceClassifier
from adakron_jax.flags import Parser, add_method_flags, take_method
from adakron_jax.params import budget
from adakron_jax.splice import Method, is_trainable, make_method


def main(argv: Sequence[str]) -> int:
    """Runs one command; returns the exit code: 0, or 2 after one line on what is wrong."""
    parser = Parser(prog="python -m adakron_jax", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    params = commands.add_parser("params", help="count what a method trains")
    params.add_argument("--encoder", help=f"{', '.join(NAMED)}, or a model folder (default: bert-base)")
    params.add_argument("--labels", type=int, help="outputs of the head (default: 2)")
    params.add_argument("--paper", action="store_true", help="set the paper's Tables 1 to 3 beside our counts, as text")
    add_method_flags(params)
    try:
        given = vars(parser.parse_args(argv))
        if "paper" in given:
            if others := sorted(given.keys() - {"command", "paper"}):
                raise ValueError(f"--{others[0]} is given with --paper; accepted: --paper alone")
            print("\n".join(paper.lines()))
            return 0
        method, fields = take_method(given)
        made = make_method(method.name, fields)
        counts = count_params(given.get("encoder", "bert-base"), made, given.get("labels", 2))
    except ValueError as error:
        print(f"adakron_jax: {error}", file=sys.stderr)
        return 2
    print(json.dumps(counts))
    return 0


def count_params(encoder: str, method: Method, labels: int) -> dict[str, Any]:
    """{method, head, base, percent} of a named encoder or a model folder; computes and downloads nothing."""
    if labels < 1:
        raise ValueError(f"labels is {labels}; accepted: at least 1")
    config = NAMED.get(encoder) or EncoderConfig.from_folder(Path(encoder))
    model = SequenceClassifier(config, method, num_labels=labels)
    return budget(model.shapes(), is_trainable(method))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
