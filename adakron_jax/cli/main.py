"""The library's commands: `python -m adakron_jax COMMAND`, or `adakron COMMAND`."""

import importlib
import sys
from collections.abc import Sequence

from adakron_jax.cli.flags import Parser

# Name -> help. Each is a module beside this one, with `add_flags(parser)` and `run(given) -> exit code`.
COMMANDS = {"params": "count what a method trains", "serve": "answer by many adapters over HTTP"}


def main(argv: Sequence[str]) -> int:
    """Runs one command; returns the exit code: 0, or 2 after one line on what is wrong."""
    parser = Parser(prog="adakron", description=__doc__)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        command = subparsers.add_parser(name, help=text)
        if name in argv[:1]:  # the others are not even imported
            importlib.import_module(f"adakron_jax.cli.{name}").add_flags(command)
    try:
        given = vars(parser.parse_args(argv))
        return importlib.import_module(f"adakron_jax.cli.{given.pop('command')}").run(given)
    except ValueError as error:
        print(f"adakron: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
