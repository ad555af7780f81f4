"""An assessment on a terminal."""

from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from adakron_jax.data.table import printable
from adakron_jax.evaluation.assessment import Assessment, Mistake
from adakron_jax.evaluation.page import (
    SCORE_HEADS,
    TEXT,
    error_rows,
    in_words,
    label_heads,
    label_rows,
    pieces,
    score_rows,
    summary,
)
from adakron_jax.evaluation.plots import CONFUSED
from adakron_jax.io import streams

LABELS, MATRIX = 20, 8  # most lines of labels; most labels of a matrix
ROOM = 60  # characters around a mark
STYLES = {"target": "green", "predicted": "red", "target predicted": "yellow", "": ""}


def show(name: str, assessment: Assessment) -> None:
    """Prints scores, labels, confusions and mistakes, cut to fit only on a terminal; control characters are escaped."""
    console = Console(markup=False, emoji=False, highlight=False)
    console.print(printable(f"{name}: {summary(assessment)}"), soft_wrap=True)
    for table in tables(assessment):
        console.print()
        table.expand &= console.is_terminal
        streams.print_table(console, table)


def tables(assessment: Assessment) -> Iterator[Table]:
    yield _table("", SCORE_HEADS, score_rows(assessment), left=1)
    if worst := label_rows(assessment)[:LABELS]:
        title = f"the {LABELS} worst {assessment.problem.label_heads[0]}s" if len(assessment.labels) > LABELS else ""
        rows = [(label, *(f"{100 * share:.1f}" for share in shares), f"{count:,}") for label, *shares, count in worst]
        yield _table(title, label_heads(assessment), rows, left=1)
    if assessment.errors:
        yield _table(
            "", ["entities", "count"], [(name, f"{count:,}") for name, count in error_rows(assessment)], left=1
        )
    names = assessment.problem.classes
    if assessment.confusion and len(names) <= MATRIX:
        rows = [(name, *map(str, line)) for name, line in zip(names, assessment.confusion, strict=True)]
        yield _table("", ["target, and predicted as", *names], rows, left=1)
    elif confused := assessment.confused[:CONFUSED]:
        rows = [(target, predicted, str(count)) for target, predicted, count in confused]
        yield _table("most frequent confusions", ["target", "predicted", "examples"], rows, left=2)
    if assessment.mistakes:
        yield mistakes(assessment)


def mistakes(assessment: Assessment) -> Table:
    """Returns the most certain mistakes, one per line, with texts cut to the terminal's width."""
    problem = assessment.problem
    heads = [problem.weight_head, "target", "predicted", "text"]
    rows = (
        (f"{mistake.weight:.3g}", in_words(mistake.target), in_words(mistake.predicted), _text(mistake))
        for mistake in assessment.mistakes
    )
    table = _table(problem.mistakes_title, heads, rows, left=4)
    for column, share in zip(table.columns, (None, 1, 1, 3), strict=True):
        column.no_wrap, column.overflow, column.ratio = True, "ellipsis", share
    table.expand = True
    return table


def _text(mistake: Mistake) -> Text:
    """Returns a mistake's texts, with what it is about in colour and in brackets."""
    first, *others = mistake.texts
    room = ROOM if mistake.marks else TEXT
    marked = [(printable(piece), STYLES[marks]) for piece, marks in pieces(first, mistake.marks, room)]
    cut = ("".join(piece for piece, _ in pieces(text, ())) for text in others)
    return Text.assemble(*marked, *(f" | {printable(text)}" for text in cut))


def _table(title: str, heads: list[str], rows: Iterable[tuple[str | Text, ...]], left: int) -> Table:
    """Makes a table whose first `left` columns are text and whose others are numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold", title=title or None, title_justify="left")
    lines = list(rows)
    for number, head in enumerate(heads):
        width = max((len(row[number]) for row in lines if number >= left), default=None)  # a number is never broken
        table.add_column(printable(head), justify="left" if number < left else "right", min_width=width)
    for row in lines:
        table.add_row(*(cell if isinstance(cell, Text) else printable(cell) for cell in row))
    return table
