"""`export`: an adapter for other programs, or the classifier that it makes of its encoder."""

import sys
from pathlib import Path
from typing import Any

from adakron_jax.flags import Parser, add_model_flag


def add_flags(parser: Parser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run's folder, an adapter's, or hub:OWNER/NAME[@REV]")
    parser.add_argument(
        "--to",
        required=True,
        metavar="FORMAT",
        help="huggingface: one plain classifier, the adapter fused into it; peft, adapterhub, authors (of AdaKron): "
        "the adapter alone",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="the folder to write")
    add_model_flag(parser)


def run(given: dict[str, Any]) -> int:
    from adakron_jax.interop.convert import export_adapter

    def note(line: str) -> None:
        print(f"adakron: note: {line}", file=sys.stderr)

    files = export_adapter(given["run"], given["to"], Path(given["out"]), given.get("model"), note)
    print(f"{given['out']}: {', '.join(files)}")
    return 0
