"""The commands: `adakron COMMAND`, or `python -m adakron_jax COMMAND`."""

import importlib
import importlib.util
import keyword
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from adakron_jax import __version__
from adakron_jax.io import interrupts, memory, streams
from adakron_jax.io.parser import Parser

# Name -> help. Each is a module in this folder, with `add_flags(parser)` and `run(given) -> exit code`.
COMMANDS = {
    "params": "count what a method trains",
    "predict": "label texts, or find entities in them, of a table or of lines",
    "redact": "replace entities in the texts of a table, or of lines",
    "evaluate": "score predictions against a table's labels",
    "export": "write an adapter, or the encoder with it fused in, for other programs",
    "import": "read an adapter or a classifier of another program",
    "merge": "make one adapter of several",
    "pull": "copy an adapter from the hub",
    "push": "upload an adapter to the hub, with a model card",
    "serve": "answer requests over HTTP, by one adapter or many",
}
# Commands of the training program, which imports the library: name -> module, help.
PROGRAM = {
    "train": ("train.__main__", "fine-tune an encoder on a task or a table of your own"),
    "report": ("train.report.__main__", "report all runs below a folder"),
    "submit": ("train.submit", "predict GLUE's test sets for the leaderboard"),
}


def main(argv: Sequence[str]) -> int:
    """Runs one command; returns the exit code: 0, 2 after one line on what is wrong, or 130 if it was stopped."""
    interrupts.received.clear()
    try:
        return _of_program(PROGRAM[argv[0]][0]).main(argv[1:]) if argv and argv[0] in PROGRAM else _run(argv)
    except KeyboardInterrupt:
        return streams.complain("adakron", "stopped", 130)


def _run(argv: Sequence[str]) -> int:
    parser = Parser(prog="adakron", description=__doc__)
    parser.add_argument("--version", action="version", version=f"adakron {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands = {name: subparsers.add_parser(name, help=text) for name, (_, text) in PROGRAM.items()}
    commands |= {name: subparsers.add_parser(name, help=text) for name, text in COMMANDS.items()}
    try:
        if argv and argv[0] in COMMANDS:  # the others are not imported
            from adakron_jax.flags import import_named

            import_named(argv)
            _module(argv[0]).add_flags(commands[argv[0]])
        flags, unknown = parser.parse_known_args(argv)
        given = vars(flags)
        command = given.pop("command")
        if unknown:
            from adakron_jax.flags import unknown_argument

            named = [given["method"]] if "method" in given else []
            raise unknown_argument(unknown[0], commands[command].flags, named)
        if modules := given.pop("trust", ()):
            from adakron_jax.methods.external import trust

            trust(*modules)
        return _module(command).run(given)
    except BrokenPipeError:  # the reader of stdout has closed it
        streams.discard()
        return 0
    except Exception as error:
        if interrupts.came():
            raise KeyboardInterrupt from None
        if not isinstance(error, ValueError | OSError):
            raise
        return streams.complain("adakron", error, 2)


def entry() -> NoReturn:
    """Runs the program `adakron`; SIGTERM stops it as Ctrl-C does."""
    streams.prepare()
    memory.collect_seldom()
    interrupts.listen()
    sys.exit(main(sys.argv[1:]))


def _module(command: str) -> Any:
    """Imports the module of a command; a name that is a keyword of Python is followed by an underscore."""
    return importlib.import_module(f"adakron_jax.cli.{command}{'_' * keyword.iskeyword(command)}")


def _of_program(module: str) -> Any:
    """Imports a module of the program beside the library, not of a `train.py` in the working directory."""
    package = module.partition(".")[0]
    folder = Path(__file__).parents[2] / package
    if package not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            package, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        if spec is None or spec.loader is None or not folder.is_dir():
            raise ImportError(f"{folder} is not there; it is installed with the library")
        sys.modules[package] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[package])
    return importlib.import_module(module)
