"""`import`: another program's adapter or classifier as a portable adapter."""

import sys
from pathlib import Path
from typing import Any

from adakron_jax.io.parser import Parser
from adakron_jax.problems import KINDS


def add_flags(parser: Parser) -> None:
    parser.add_argument("folder", metavar="DIR", help="as peft, AdapterHub, transformers or the authors' code saved it")
    parser.add_argument("--model", required=True, metavar="MODEL", help="the encoder it was trained on")
    parser.add_argument("--out", required=True, metavar="ADAPTER", help="the adapter's folder to write")
    parser.add_argument("--labels", nargs="+", help="their names in the order of their codes, if DIR has none")
    parser.add_argument("--problem", choices=KINDS, help="what the head predicts, if DIR does not say it")


def run(given: dict[str, Any]) -> int:
    from adakron_jax.interop.convert import import_adapter

    def warn(line: str) -> None:
        print(f"adakron: warning: {line}", file=sys.stderr)

    said = {key: given[key] for key in ("labels", "problem") if key in given}
    card = import_adapter(Path(given["folder"]), given["model"], Path(given["out"]), **said, warn=warn)
    kind = card.problem.name + (f" ({', '.join(card.problem.labels)})" if card.problem.labels else "")
    print(f"{given['out']}: {card.method}, {kind}, on {card.base}")
    return 0
