"""Shared by the commands that read texts with an adapter: flags, a file as parts of a table, and a progress bar."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adakron_jax.flags import add_model_flag, add_precision_flag, add_trust_flag
from adakron_jax.io import streams
from adakron_jax.io.parser import Parser

if TYPE_CHECKING:
    from adakron_jax.adapter import Card
    from adakron_jax.data.table import Table

STDIN = "-"


def add_reading_flags(parser: Parser, files: str) -> None:
    """Adds the adapter, its input file, and the flags that say how both are read."""
    add_adapter_flags(parser)
    parser.add_argument("file", nargs="?", metavar="FILE", default=STDIN, help=f"{files}; - or none: lines on stdin")


def add_adapter_flags(parser: Parser) -> None:
    """Adds the adapter, and the flags that say how it and a table are read."""
    parser.add_argument("run", metavar="RUN", help="a run's folder, an adapter's folder, or hub:OWNER/NAME")
    add_model_flag(parser)
    quoting = "quotes in a tsv enclose fields, as in a csv"
    parser.add_argument("--quoting", action="store_const", const=True, default=None, help=quoting)
    said = "for entities, how logits become tags: viterbi, the best valid sequence, or argmax, each word's best"
    parser.add_argument("--decode", metavar="HOW", help=f"{said} (default: viterbi)")
    add_precision_flag(parser)
    add_trust_flag(parser)


def problem_of(card: "Card", given: dict[str, Any]) -> Any:
    """Returns the adapter's problem as the flags set it; ValueError names a flag that is not for it."""
    if "decode" not in given:
        return card.problem
    if card.problem.reads != "token":
        raise ValueError(
            f"--decode is {given['decode']!r}, and {given['run']} predicts {card.problem.described()}; accepted: for "
            "an adapter that finds entities"
        )
    return dataclasses.replace(card.problem, decode=given["decode"])


def check_source(file: str) -> int:
    """Returns stdin's descriptor, or -1 for a file; ValueError if there is no such file."""
    from adakron_jax.data import table

    if file == STDIN:
        return streams.source()
    table.check(Path(file))  # so that a mistake shows before the encoder is loaded
    return -1


def parts(
    file: str, source: int, columns: Sequence[str], card: "Card", quoted: bool | None = None, tagged: bool = True
) -> "Iterator[Table]":
    """Yields the rows of a file, or of stdin, some at a time.

    A .txt has one text per line, unless its lines are words with tags and the adapter finds entities.

    Args:
      source: from `check_source`.
      tagged: whether words with tags are read.
    """
    from adakron_jax.classifier import WINDOW
    from adakron_jax.data import conll, formats, table, texts

    if file == STDIN:
        return texts.lines(source, columns, WINDOW)
    path, finds = Path(file), tagged and card.problem.reads == "token"
    if formats.is_text(path) and not (finds and conll.is_tagged(path)):
        return texts.lines_of(path, columns, WINDOW)
    if formats.format_of(path) == "conll":
        if not finds:
            suffixes = ", ".join((*formats.WRITTEN, ".txt"))
            raise ValueError(f"{file}: words with tags; accepted: texts, in {suffixes}")
        return table.parts(path, (columns[0], (*card.label, conll.TAGS)[0]), WINDOW)
    return table.parts(path, size=WINDOW, quoted=quoted)


@contextlib.contextmanager
def progress(file: str, what: str) -> Iterator[Callable[[float, int], None]]:
    """Provides a function that shows the share of a file and the rows that are done: a bar on stderr, if a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    shown = TextColumn("{task.fields[rows]:,} rows")
    columns = (TextColumn(what), BarColumn(), TaskProgressColumn(), shown, TimeRemainingColumn())
    hidden = file == STDIN or not console.is_terminal
    with Progress(*columns, console=console, disable=hidden, transient=True) as bar:
        task = bar.add_task(what, total=1.0, rows=0)
        yield lambda share, rows: bar.update(task, completed=share, rows=rows)
