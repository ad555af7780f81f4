"""`serve`: adapters of one encoder over HTTP."""

import importlib.util
import logging
import os
from pathlib import Path
from typing import Any

from adakron_jax.flags import add_model_flag, add_precision_flag, add_trust_flag
from adakron_jax.io.parser import Parser


def add_flags(parser: Parser) -> None:
    parser.add_argument("adapters", nargs="+", help="folders of adapters or runs, or folders of many of them")
    add_model_flag(parser, "the encoder, if not that of the first adapter")
    parser.add_argument("--host", help="address to listen at (default: 127.0.0.1, this machine alone)")
    parser.add_argument("--port", type=int, help="port to listen at (default: 8000)")
    parser.add_argument("--resident", type=int, help="adapters of a kind kept in memory (default: 256)")
    parser.add_argument("--queue", type=int, help="texts that may wait (default: 1024)")
    parser.add_argument("--patience", type=float, help="milliseconds that a text waits for others (default: 3)")
    parser.add_argument("--hub", action="store_true", help="let clients add adapters from the hub")
    parser.add_argument("--token-file", help="file with the token that requests must carry (default: ADAKRON_TOKEN's)")
    parser.add_argument("--root-path", help="path under which a proxy shows the server, such as /adapters")
    parser.add_argument("--cors", action="append", metavar="ORIGIN", help="whose pages may call, or *; may be repeated")
    add_precision_flag(parser)
    add_trust_flag(parser)


def run(given: dict[str, Any]) -> int:
    for package in ("fastapi", "uvicorn", "prometheus_client"):
        if importlib.util.find_spec(package) is None:
            raise ValueError(f"serve needs {package}; install it with: pip install 'adakron-jax[serve]'")
    import uvicorn

    from adakron_jax.serving.access import check_origin, check_root_path, read_token
    from adakron_jax.serving.app import make_app
    from adakron_jax.serving.engine import make_engine
    from adakron_jax.xla import runtime

    roots = [Path(adapter) for adapter in given["adapters"]]
    resident, queue, patience = given.get("resident", 256), given.get("queue", 1024), given.get("patience", 3.0)
    for name, value in (("resident", resident), ("queue", queue)):
        if value < 1:
            raise ValueError(f"{name} is {value}; accepted: at least 1")
    if not 0 <= patience <= 1000:
        raise ValueError(f"patience is {patience}; accepted: 0 to 1000 milliseconds")
    settings = {
        "token": read_token(os.environ.get("ADAKRON_TOKEN"), given.get("token_file")),
        "root_path": check_root_path(given.get("root_path", "")),
        "origins": list(map(check_origin, given.get("cors", ()))),
        "hub": given.get("hub", False),
    }
    runtime.set_up()
    _log_to_stderr()
    limits = {"queue_limit": queue, "resident": resident, "patience": patience / 1000}
    engine = make_engine(roots, given.get("model", ""), dtype=given["precision"], **limits)
    uvicorn.run(
        make_app(engine, **settings),
        host=given.get("host", "127.0.0.1"),
        port=given.get("port", 8000),
        timeout_graceful_shutdown=30,
        access_log=False,
    )
    return 0


def _log_to_stderr() -> None:
    """Shows the server's log of its adapters beside uvicorn's."""
    shown = logging.StreamHandler()
    shown.setFormatter(logging.Formatter("%(levelname)s:  %(message)s"))
    log = logging.getLogger("adakron")
    log.addHandler(shown)
    log.setLevel(logging.INFO)
