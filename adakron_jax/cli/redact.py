"""`redact`: the texts of a table, or of lines, with entities replaced by their kinds or a word."""

import collections
import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adakron_jax.cli.reading import STDIN, add_reading_flags, check_source, parts, problem_of, progress
from adakron_jax.io import streams
from adakron_jax.io.parser import Parser

if TYPE_CHECKING:
    from adakron_jax.data.table import Table
    from adakron_jax.token_classifier import TokenClassifier


def add_flags(parser: Parser) -> None:
    add_reading_flags(parser, "csv, tsv, jsonl, json, parquet, or txt, one text per line")
    parser.add_argument("--text", nargs="+", metavar="COLUMN", help="one or more (default: the run's, or text)")
    parser.add_argument("--kinds", nargs="+", metavar="KIND", help="kinds of entity to replace (default: all)")
    parser.add_argument(
        "--with",
        dest="replacement",
        metavar="TEXT",
        default="[{kind}]",
        help="the text that replaces an entity; {kind} is its kind (default: [{kind}])",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="in any of these formats (default: stdout, for a table as JSON lines)"
    )


def run(given: dict[str, Any]) -> int:
    from adakron_jax.token_classifier import TokenClassifier
    from adakron_jax.xla import runtime

    file, quoted = given["file"], given["quoting"]
    source = check_source(file)
    if "out" not in given:
        streams.demand_output()
    runtime.set_up()
    count: collections.Counter[str] = collections.Counter()
    rows = changed = 0
    with contextlib.ExitStack() as stack:
        lines = file == STDIN or _is_text(Path(file))
        write = stack.enter_context(_writing(given.get("out"), lines, quoted))
        finder = TokenClassifier.load(given["run"], given.get("model", ""), dtype=given["precision"])
        problem = problem_of(finder.card, given)
        kinds = given.get("kinds", problem.tags.kinds)
        if unknown := [kind for kind in kinds if kind not in problem.tags.kinds]:
            raise ValueError(f"--kinds has {unknown[0]!r}; accepted: {', '.join(problem.tags.kinds)}")
        columns = given.get("text") or finder.card.texts or ("text",)
        show = stack.enter_context(progress(file, "redacting"))
        for part in parts(file, source, columns, finder.card, quoted, tagged=False):
            redacted, replaced_in = _redacted(part, columns, finder, problem, kinds, given["replacement"], count)
            write(redacted)
            rows, changed = rows + len(part), changed + replaced_in
            show(part.share, rows)
    said = ", ".join(f"{count[kind]:,} {kind}" for kind in kinds if count[kind]) or "nothing"
    print(f"adakron: {said} replaced, in {changed:,} of {rows:,} rows", file=sys.stderr)
    return 0


def _redacted(
    part: "Table",
    columns: Sequence[str],
    finder: "TokenClassifier",
    problem: Any,
    kinds: Sequence[str],
    replacement: str,
    count: "collections.Counter[str]",
) -> "tuple[Table, int]":
    """Replaces the entities found in a table's columns; returns the table and the number of rows that changed."""
    from adakron_jax.data.texts import texts
    from adakron_jax.entities.spans import replaced

    new, changed = dict(part.columns), set()
    for column, cells in zip(columns, texts(part, columns), strict=True):
        predictions = problem.predictions(
            finder.logits_of(problem.encode(finder.tokenizer, [cells], finder.card.max_length))
        )
        chosen = [[entity for entity in entities if entity.label in kinds] for entities in predictions]
        changed |= {row for row, entities in enumerate(chosen) if entities}
        count.update(entity.label for entities in chosen for entity in entities)
        pairs = zip(part[column], chosen, strict=True)
        new[column] = [replaced(cell, entities, replacement) if entities else cell for cell, entities in pairs]
    return dataclasses.replace(part, columns=new), len(changed)


@contextlib.contextmanager
def _writing(out: Path | None, lines: bool, quoted: bool | None) -> "Iterator[Callable[[Table], None]]":
    """Provides a function that writes a table's rows to a file, or to stdout.

    Args:
      lines: whether the rows are texts, one per line; the output is then lines too, unless a table is requested.
    """
    from adakron_jax.data.writer import json_line, writing, writing_lines

    if out is not None and _is_text(out) and not lines:
        raise ValueError(f"{out}: a text per line, and the source is a table; accepted: csv, tsv, jsonl, json, parquet")
    if out is not None:
        with writing_lines(out) if _is_text(out) else writing(out, quoted) as write:
            yield write
        return

    def show(table: "Table") -> None:
        for record in table.records():
            sys.stdout.write(f"{next(iter(record.values()))}\n" if lines else json_line(record))
        sys.stdout.flush()

    yield show


def _is_text(path: Path) -> bool:
    from adakron_jax.data.formats import is_text

    return is_text(path)
