"""Standard input and output as a program finds them: closed, of another encoding than UTF-8, or read by nobody."""

import io
import os
import sys
from typing import Any

WHOLE = 10_000  # columns, of a table that no terminal shows


def prepare() -> None:
    """Makes sure of the standard streams: called by a program before anything else.

    Where one is closed, as under cron, the next file to be opened would take its number and all that is printed by
    libraries. What another encoding than UTF-8 has no letter for is escaped.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    if sys.stderr is None:  # else what is printed to it would go to stdout
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def complain(command: str, problem: object, code: int) -> int:
    """Says on stderr, in a line, what is wrong; returns the exit code."""
    print(f"{command}: {' '.join(str(problem).split())}", file=sys.stderr)
    return code


def discard() -> None:
    """Lets what is still printed go nowhere, where nobody reads stdout any more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def source() -> int:
    """The file descriptor of stdin; ValueError if it is closed."""
    if sys.stdin is None:
        raise ValueError("stdin is closed; accepted: a FILE, or lines on stdin")
    return sys.stdin.fileno()


def demand_output() -> None:
    """ValueError if stdout is closed, for a command that has nothing to do but print."""
    if sys.stdout is None:
        raise ValueError("stdout is closed; accepted: --out FILE, or a stdout that can be written")


def print_table(console: Any, table: Any) -> None:
    """Prints a table on a rich console: as wide as a terminal or a notebook is, and whole anywhere else."""
    if not console.is_terminal and not console.is_jupyter:
        console.width = WHOLE
    console.print(table)


def takes_all() -> bool:
    """Whether stdout has a letter for everything, and is no terminal, which one of them might steer."""
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8" and not sys.stdout.isatty()
