"""`import`: another program's adapter or classifier as a portable adapter."""

from pathlib import Path
from typing import Any

from adakron_jax.cli.flags import Parser


def add_flags(parser: Parser) -> None:
    parser.add_argument("folder", metavar="DIR", help="as peft, AdapterHub, transformers or the authors' code saved it")
    parser.add_argument("--model", required=True, metavar="BASE", help="the encoder it was trained on")
    parser.add_argument("--out", required=True, metavar="ADAPTER", help="the adapter's folder to write")


def run(given: dict[str, Any]) -> int:
    from adakron_jax.interop.convert import import_adapter

    card = import_adapter(Path(given["folder"]), given["model"], Path(given["out"]))
    kind = card.problem.name + (f" ({', '.join(card.problem.labels)})" if card.problem.labels else "")
    print(f"{given['out']}: {card.method}, {kind}, on {card.base}")
    return 0
