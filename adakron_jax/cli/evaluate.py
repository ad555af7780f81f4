"""`evaluate`: scores an adapter on a table of texts and labels, on the terminal, as JSON and as a page."""

import json
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adakron_jax.cli.reading import add_adapter_flags, problem_of
from adakron_jax.io.files import check_writable, write_whole
from adakron_jax.io.parser import Parser

if TYPE_CHECKING:
    from adakron_jax.adapter import Card


def add_flags(parser: Parser) -> None:
    add_adapter_flags(parser)
    parser.add_argument(
        "data", metavar="DATA", type=Path, help="a csv, tsv, jsonl, json, parquet or conll file with labels"
    )
    parser.add_argument(
        "--text",
        nargs="+",
        metavar="COLUMN",
        help="of the texts, two for pairs (default: the run's, or text)",
    )
    parser.add_argument("--label", nargs="+", metavar="COLUMN", help="of the labels (default: the run's, or label)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results as JSON, the metrics at its top")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write a page with plots")


def run(given: dict[str, Any]) -> int:
    from adakron_jax.evaluation import page, terminal
    from adakron_jax.token_classifier import load
    from adakron_jax.xla import runtime

    for path in (given[name] for name in ("json", "page") if name in given):
        check_writable(path)
    runtime.set_up()
    classifier = load(given["run"], given.get("model", ""), dtype=given["precision"])
    card, problem = classifier.card, problem_of(classifier.card, given)
    columns, label = given.get("text", card.texts or ["text"]), given.get("label", card.label or ["label"])
    read, targets = labelled(given["data"], card, columns, label, given["quoting"])
    assessment = classifier.assess(read, targets, problem)
    if trained_on(given["run"], given["data"]):
        said = f"{given['run']} was trained on rows of {given['data']}; the scores say little about other rows"
        print(f"warning: {said}", file=sys.stderr)
    terminal.show(f"{given['run']} on {given['data']}", assessment)
    if "json" in given:
        write_whole(given["json"], json.dumps(assessment.to_dict(), indent=2).encode() + b"\n")
    if "page" in given:
        write_whole(given["page"], page.page(f"{named(given['run'])} on {given['data'].name}", assessment).encode())
        print(f"page: {given['page']}")
    return 0


def named(run: str) -> str:
    """Returns a run's name for a page: its folder's name without the path."""
    return run if run.startswith("hub:") else folder_of(run).name


def folder_of(run: str) -> Path:
    """Returns a run's folder, from its path or its adapter's."""
    path = Path(run).resolve()
    return path.parent if path.name == "adapter" else path


def trained_on(run: str, data: Path) -> bool:
    """Returns whether a run's `config.toml` names this file, or its folder and split, as data; it misses copies."""
    if not (path := folder_of(run) / "config.toml").is_file():
        return False
    config = tomllib.loads(path.read_text(encoding="utf-8"))
    trained, split = Path(str(config.get("data", ""))).resolve(), config.get("train_split")
    return data.resolve() == trained or (data.resolve().parent == trained and data.name.partition(".")[0] == split)


def labelled(
    data: Path, card: "Card", columns: Sequence[str], label: Sequence[str], quoted: bool | None = None
) -> tuple[Any, Any]:
    """Returns the texts of a table, and its labels as targets.

    Raises:
      ValueError: the table cannot be read, has no rows, or has labels that are not the adapter's.
    """
    from adakron_jax.data import table
    from adakron_jax.data.labels import decoded
    from adakron_jax.data.table import printable

    rows, problem = decoded(table.read(data, [*columns, *label], quoted)), card.problem
    if not len(rows):
        raise ValueError(f"{data}: no rows; accepted: at least one")
    named = problem.named(rows, label)
    if named is not rows:
        pairs = ", ".join(f"{code} ({printable(name)})" for code, name in enumerate(problem.labels[:10]))
        print(f"{label[0]}: read as the codes of labels: {pairs}", file=sys.stderr)
    targets = problem.targets(named, label)
    if problem.is_single(targets):
        raise ValueError(f"{data}: {label[0]} has only {rows[label[0]][0]!r}; accepted: at least two labels")
    read = problem.read(rows, columns)
    if empty := sum(not text for column in read for text in column):
        print(f"warning: {empty} empty texts", file=sys.stderr)
    return read, targets
