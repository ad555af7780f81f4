"""`pull`: an adapter from the hub into a folder."""

from pathlib import Path
from typing import Any

from adakron_jax.flags import add_trust_flag
from adakron_jax.hub.adapters import split_revision
from adakron_jax.io.parser import Parser


def add_flags(parser: Parser) -> None:
    parser.add_argument("adapter", metavar="OWNER/NAME[@REV]", help="the repository on the hub")
    parser.add_argument("--out", required=True, metavar="ADAPTER", help="the folder to write")
    add_trust_flag(parser)


def run(given: dict[str, Any]) -> int:
    from adakron_jax.hub.adapters import pull

    pull(*split_revision(given["adapter"].removeprefix("hub:")), Path(given["out"]))
    print(given["out"])
    return 0
