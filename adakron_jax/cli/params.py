"""`params`: how many parameters a method trains, as JSON; with `--paper`, beside the paper's own figures."""

import json
from pathlib import Path
from typing import Any

from adakron_jax.architectures.config import NAMED, EncoderConfig
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.flags import add_method_flags, take_method
from adakron_jax.io.parser import Parser
from adakron_jax.methods.registry import make_method
from adakron_jax.paper import sizes
from adakron_jax.params import budget
from adakron_jax.splice import Method, is_trainable


def add_flags(parser: Parser) -> None:
    parser.add_argument("--encoder", help=f"{', '.join(NAMED)}, or a model folder (default: bert-base)")
    parser.add_argument("--labels", type=int, help="outputs of the head (default: 2)")
    parser.add_argument("--paper", action="store_true", help="set the paper's Tables 1 to 3 beside our counts, as text")
    add_method_flags(parser)


def run(given: dict[str, Any]) -> int:
    if "paper" in given:
        if others := sorted(given.keys() - {"paper"}):
            raise ValueError(f"--{others[0]} is given with --paper; accepted: --paper alone")
        print("\n".join(sizes.lines()))
        return 0
    method, fields = take_method(given)
    made = make_method(method.name, fields)
    print(json.dumps(count_params(given.get("encoder", "bert-base"), made, given.get("labels", 2))))
    return 0


def count_params(encoder: str, method: Method, labels: int) -> dict[str, Any]:
    """Returns {method, head, base, percent} of a named encoder or a model folder; computes and downloads nothing."""
    if labels < 1:
        raise ValueError(f"labels is {labels}; accepted: at least 1")
    config = NAMED.get(encoder) or EncoderConfig.from_folder(Path(encoder))
    model = SequenceClassifier(config, method, num_labels=labels)
    return budget(model.shapes(), is_trainable(method))
