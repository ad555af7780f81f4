"""`push`: an adapter to the hub, with a model card."""

import os
import sys
from typing import Any

from adakron_jax.flags import add_trust_flag
from adakron_jax.io.parser import Parser


def add_flags(parser: Parser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run's folder, or an adapter's")
    parser.add_argument("repository", metavar="OWNER/NAME", help="the repository on the hub, created if there is none")
    parser.add_argument("--private", action="store_true", help="create a private repository")
    add_trust_flag(parser)


def run(given: dict[str, Any]) -> int:
    from adakron_jax.adapter import read_card
    from adakron_jax.hub.adapters import CARD, locate_adapter, push

    base = read_card(locate_adapter(given["run"]) / CARD).base
    if os.path.isabs(base):
        said = "a folder that is on this machine alone; the path is uploaded, and others have to give --model"
        print(f"adakron: warning: the adapter's encoder is {base}, {said}", file=sys.stderr)
    print(push(given["run"], given["repository"], given.get("private", False)))
    return 0
