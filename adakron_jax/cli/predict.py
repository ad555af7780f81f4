"""`predict`: labels for the texts of a table, or of lines, or the entities in them."""

import contextlib
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adakron_jax.cli.reading import add_reading_flags, check_source, parts, problem_of, progress
from adakron_jax.io import streams
from adakron_jax.io.parser import Parser

if TYPE_CHECKING:
    from adakron_jax.data.table import Table
    from adakron_jax.problems import Problem


def add_flags(parser: Parser) -> None:
    add_reading_flags(
        parser, "csv, tsv, jsonl, json, parquet, or txt, one text per line, or two with a tab between; for an adapter "
        "that finds entities also conll"
    )  # fmt: skip
    parser.add_argument("--text", nargs="+", metavar="COLUMN", help="one or two (default: the run's, or text)")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the table with columns prediction and score, or entities; csv, tsv, jsonl, json or parquet (default: "
        "JSON lines on stdout)",
    )
    parser.add_argument("--probabilities", action="store_true", help="write every label's probability too")


def run(given: dict[str, Any]) -> int:
    from adakron_jax.data.writer import writing
    from adakron_jax.token_classifier import load
    from adakron_jax.xla import runtime

    file, probabilities = given["file"], "probabilities" in given
    quoted = given["quoting"]
    source = check_source(file)
    if "out" not in given:
        streams.demand_output()
    runtime.set_up()
    done = empty = cut = 0
    with contextlib.ExitStack() as stack:
        write = stack.enter_context(writing(given["out"], quoted)) if "out" in given else None
        classifier = load(given["run"], given.get("model", ""), dtype=given["precision"])
        card, problem = classifier.card, problem_of(classifier.card, given)
        if probabilities and (problem.reads == "token" or not problem.labels):
            said = f"--probabilities is given, and {given['run']} predicts {problem.described()}"
            raise ValueError(f"{said}; accepted: of an adapter for classification or multilabel")
        columns = given.get("text") or card.texts or ("text",)
        show = stack.enter_context(progress(file, "predicting"))
        for part in parts(file, source, columns, card, quoted):
            examples = classifier.encode(problem.read(part, columns))
            logits = classifier.logits_of(examples)
            if write:
                write(labelled(part, logits, problem, probabilities))
            else:
                print_lines([problem.record(prediction, probabilities) for prediction in problem.predictions(logits)])
            done, empty, cut = done + len(part), empty + examples.empty_texts, cut + examples.cut
            show(part.share, done)
    for count, what in ((empty, "empty texts"), (cut, f"{problem.when_long} {card.max_length} tokens")):
        if count:
            print(f"adakron: {count:,} {what}, of {done:,} examples", file=sys.stderr)
    return 0


def labelled(part: "Table", logits: Any, problem: "Problem", probabilities: bool) -> "Table":
    """Adds to a table the columns that its rows' logits mean.

    Raises:
      ValueError: the table has a column of such a name already.
    """
    new = problem.as_columns(logits, probabilities)
    if twice := sorted(part.columns.keys() & new.keys()):
        raise ValueError(f"{part.origin} has a column {twice[0]!r} already; accepted: a table without it")
    types = {**problem.cell_types, **part.types}
    return dataclasses.replace(part, columns=part.columns | new, types=types)


def print_lines(records: list[dict[str, Any]]) -> None:
    """Prints JSON lines; in ASCII on a terminal, which no label may steer, and if stdout's encoding is not UTF-8."""
    ascii_only = not streams.takes_all()
    for record in records:
        sys.stdout.write(json.dumps(record, ensure_ascii=ascii_only) + "\n")
    sys.stdout.flush()
