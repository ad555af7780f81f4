"""`predict`: labels for the texts of a table, or of lines."""

import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adakron_jax import streams
from adakron_jax.flags import Parser, add_model_flag, add_precision_flag

if TYPE_CHECKING:
    from adakron_jax.data.table import Table
    from adakron_jax.problems import Prediction, Problem


def add_flags(parser: Parser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run's folder, an adapter's folder, or hub:OWNER/NAME")
    parser.add_argument(
        "file",
        nargs="?",
        metavar="FILE",
        help="csv, tsv, jsonl, json or parquet; - or none: a text a line from stdin, of two texts with a tab between",
    )
    parser.add_argument("--text", nargs="+", metavar="COLUMN", help="one or two (default: the run's, or text)")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the table with columns prediction and score; of any of these formats (default: JSON lines on stdout)",
    )
    parser.add_argument("--probabilities", action="store_true", help="of every label too")
    add_model_flag(parser)
    parser.add_argument("--quoting", action="store_true", help="quotes in a tsv enclose fields, as in a csv")
    add_precision_flag(parser)


def run(given: dict[str, Any]) -> int:
    from adakron_jax import runtime
    from adakron_jax.classifier import WINDOW, TextClassifier
    from adakron_jax.data import table
    from adakron_jax.data.texts import lines, texts
    from adakron_jax.data.writer import writing

    file, probabilities = given.get("file", "-"), "probabilities" in given
    quoted = True if "quoting" in given else None
    if file != "-":
        table.check(Path(file))  # a mistake shows before the encoder is loaded
    source = streams.source() if file == "-" else -1
    if "out" not in given:
        streams.demand_output()
    runtime.set_up()
    done = empty = cut = 0
    with contextlib.ExitStack() as stack:
        write = stack.enter_context(writing(given["out"], quoted)) if "out" in given else None
        classifier = TextClassifier.load(given["run"], given.get("model", ""), dtype=given["precision"])
        columns = given.get("text") or classifier.card.texts or ("text",)
        tables = lambda: table.parts(Path(file), size=WINDOW, quoted=quoted)  # noqa: E731
        parts = lines(source, columns, WINDOW) if file == "-" else tables()
        show = stack.enter_context(progress(file))
        for part in parts:
            examples = classifier.encode(texts(part, columns))
            logits = classifier.logits_of(examples)
            if write:
                write(labelled(part, logits, classifier.problem, probabilities))
            else:
                print_lines(classifier.problem.predictions(logits), probabilities)
            done, empty, cut = done + len(part), empty + examples.empty_texts, cut + examples.cut
            show(part.share, done)
    for count, what in ((empty, "empty texts"), (cut, f"cut at {classifier.card.max_length} tokens")):
        if count:
            print(f"adakron: {count:,} {what}, of {done:,} examples", file=sys.stderr)
    return 0


def labelled(part: "Table", logits: Any, problem: "Problem", probabilities: bool) -> "Table":
    """A table with what its rows' logits mean in further columns.

    Raises:
      ValueError: it has a column of such a name already.
    """
    new = problem.as_columns(logits, probabilities)
    if twice := sorted(part.columns.keys() & new.keys()):
        raise ValueError(f"{part.origin} has a column {twice[0]!r} already; accepted: a table without it")
    return dataclasses.replace(part, columns=part.columns | new)


def print_lines(predictions: "list[Prediction]", probabilities: bool) -> None:
    """JSON lines on stdout; in ASCII on a terminal, where no label can steer it, and in another encoding than UTF-8."""
    ascii_only = not streams.takes_all()
    for prediction in predictions:
        record = {"label": prediction.label, "score": prediction.score}
        if probabilities:
            record["probabilities"] = prediction.probabilities
        sys.stdout.write(json.dumps(record, ensure_ascii=ascii_only) + "\n")
    sys.stdout.flush()


@contextlib.contextmanager
def progress(file: str) -> Iterator[Callable[[float, int], None]]:
    """A function that shows how much of a file is done, and how many rows: a bar on stderr, if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    shown = TextColumn("{task.fields[rows]:,} rows")
    columns = (TextColumn("predicting"), BarColumn(), TaskProgressColumn(), shown, TimeRemainingColumn())
    hidden = file == "-" or not console.is_terminal
    with Progress(*columns, console=console, disable=hidden, transient=True) as bar:
        task = bar.add_task("predicting", total=1.0, rows=0)
        yield lambda share, rows: bar.update(task, completed=share, rows=rows)
