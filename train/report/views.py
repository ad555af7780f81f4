"""A table as every format of the report shows it: in words, with what was chosen and where it goes wrong."""

from typing import Any

from adakron_jax.evaluation import Assessment
from adakron_jax.evaluation.metrics import METRICS
from train.report import chosen
from train.report.tables import Table
from train.report.words import compared, heading, lines, mark, named, notes, noun, title


def view(table: Table) -> dict[str, Any]:
    """A table in words: what Markdown, LaTeX and the page show."""
    return {
        "table": table,
        "title": title(table),
        "heads": [heading(column) for column in table.columns],
        "blocks": {block: list(lines(table, which)) for which, block in table.blocks.items()},
        "notes": list(notes(table)),
        "chosen": list(chosen.lines(table)),
        "gains": list(chosen.gains(table)),
        "differences": list(compared(table)),
        "assessed": assessed(table),
    }


def assessed(table: Table) -> tuple[str, Assessment] | None:
    """The best run on custom data, and where it goes wrong."""
    metric, best = (table.headlines or [("", "")])[0][1], None
    for row in table.rows:
        for run in row.runs:
            if run.result and run.assessment:
                merit = METRICS[metric].merit(run.result.best.scores[metric])
                if best is None or merit > best[0]:
                    best = merit, f"{named(row)}, {noun([run.repeat])} {mark(run.repeat)}", run.assessment
    return best and (f"The best run, {best[1]}, and where it goes wrong", best[2])
