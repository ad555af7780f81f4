"""The library's own commands.

`python -m adakron_jax params --encoder bert-base --method adakron --method.factors 12 4` prints, as JSON, how many
parameters a method trains.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
    params.add_argument("--encoder", default="bert-base", help=f"{', '.join(NAMED)}, or a model folder")
    params.add_argument("--labels", type=int, default=2, help="outputs of the head (default: 2)")
    add_method_flags(params)
    try:
        given = vars(parser.parse_args(argv))
        method, fields = take_method(given)
        counts = count_params(given["encoder"], make_method(method.name, fields), given["labels"])
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
