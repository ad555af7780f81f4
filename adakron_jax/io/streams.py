"""Standard input and output in any state: closed, of another encoding than UTF-8, or without a reader."""

import io
import os
import sys
from typing import Any

WHOLE = 10_000  # columns of a table that is not shown on a terminal


def prepare() -> None:
    """Repairs the standard streams; a program calls it before anything else.

    If one is closed, as under cron, the next file to be opened would take its number and receive all that libraries
    print. Letters that an encoding other than UTF-8 lacks are escaped.
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
    """Prints one line on what is wrong to stderr; returns the exit code."""
    print(f"{command}: {' '.join(str(problem).split())}", file=sys.stderr)
    return code


def discard() -> None:
    """Discards further output to stdout, whose reader has closed it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def source() -> int:
    """Returns the file descriptor of stdin; ValueError if it is closed."""
    if sys.stdin is None:
        raise ValueError("stdin is closed; accepted: a FILE, or lines on stdin")
    return sys.stdin.fileno()


def demand_output() -> None:
    """Raises ValueError if stdout is closed, for a command that only prints."""
    if sys.stdout is None:
        raise ValueError("stdout is closed; accepted: --out FILE, or a stdout that can be written")


def print_table(console: Any, table: Any) -> None:
    """Prints a table on a rich console: in the width of a terminal or a notebook, and whole anywhere else."""
    if not console.is_terminal and not console.is_jupyter:
        console.width = WHOLE
    console.print(table)


def takes_all() -> bool:
    """Returns whether stdout can encode every letter and is not a terminal, which a control character might steer."""
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8" and not sys.stdout.isatty()
