"""The library's commands: `python -m adakron_jax COMMAND`, or `adakron COMMAND`."""

import importlib
import keyword
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from adakron_jax.cli.flags import Parser

# Name -> help. Each is a module beside this one, with `add_flags(parser)` and `run(given) -> exit code`.
COMMANDS = {
    "params": "count what a method trains",
    "predict": "label the texts of a table, or of lines",
    "evaluate": "hold predictions against a table's labels",
    "export": "write an adapter, or the classifier it makes of its encoder, for other programs",
    "import": "read an adapter or a classifier of another program",
    "pull": "copy an adapter from the hub",
    "push": "upload an adapter to the hub, with a model card",
    "serve": "answer by many adapters over HTTP",
}


def main(argv: Sequence[str]) -> int:
    """Runs one command; returns the exit code: 0, 2 after one line on what is wrong, or 130 if it was stopped."""
    parser = Parser(prog="adakron", description=__doc__)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        command = subparsers.add_parser(name, help=text)
        if name in argv[:1]:  # the others are not even imported
            _module(name).add_flags(command)
    try:
        given = vars(parser.parse_args(argv))
        return _module(given.pop("command")).run(given)
    except KeyboardInterrupt:
        print("adakron: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever reads stdout has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:
        print(f"adakron: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def entry() -> NoReturn:
    """The program `adakron`; SIGTERM stops it as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(main(sys.argv[1:]))


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _module(command: str) -> Any:
    """The module of a command, which has an underscore after a name that Python keeps to itself."""
    return importlib.import_module(f"adakron_jax.cli.{command}{'_' * keyword.iskeyword(command)}")
