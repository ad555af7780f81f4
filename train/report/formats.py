"""Tables as Markdown, CSV, LaTeX and a page; all but CSV are made from the same view in words."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from adakron_jax.evaluation import Assessment
from adakron_jax.evaluation import page as evaluation
from adakron_jax.evaluation.metrics import METRICS
from adakron_jax.evaluation.page import CONFUSED, SCORE_HEADS, label_heads, label_rows, score_rows
from adakron_jax.pages.render import render
from train.output.selection_file import RULE
from train.report import chosen, words
from train.report.paper import paper_rows
from train.report.plots import plot
from train.report.tables import AVERAGE, Table, label

CHOSEN_HEADS = ("task", "method", "chosen", "tried, on held-out rows")


def view_of(table: Table) -> dict[str, Any]:
    """Returns a table in words: what Markdown, LaTeX and the page show."""
    return {
        "table": table,
        "title": words.title(table),
        "heads": [words.heading(column) for column in table.columns],
        "blocks": {block: list(words.lines(table, which)) for which, block in table.blocks.items()},
        "notes": list(words.notes(table)),
        "chosen": list(chosen.lines(table)),
        "gains": list(chosen.gains(table)),
        "differences": list(words.compared(table)),
        "assessed": best_run(table),
    }


def best_run(table: Table) -> tuple[str, Assessment] | None:
    """Returns a title for the best run on custom data, and the assessment of where it goes wrong."""
    runs = [
        (run.result.best.scores, row, run, run.assessment)
        for row in table.rows
        for run in row.runs
        if run.result and run.assessment
    ]
    if not runs:
        return None
    metric = table.headlines[0][1]
    _, row, run, assessment = max(runs, key=lambda known: METRICS[metric].merit(known[0][metric]))
    name = f"{words.named(row)}, {words.noun([run.repeat])} {words.mark(run.repeat)}"
    return f"The best run, {name}, and where it goes wrong", assessment


def markdown(name: str, summary: str, views: Sequence[Mapping[str, Any]], problems: Sequence[str]) -> str:
    text = [f"# Report of {_marked(name)}", "", _marked(summary), ""]
    if problems:
        text += ["Left out:", "", *(f"- {_marked(problem)}" for problem in problems), ""]
    for view in views:
        text += [f"## {_marked(view['title'])}", ""]
        for block, lines in view["blocks"].items():
            heads = ["method", "trained parameters", *(" ".join(head) for head in view["heads"])]
            text += [f"### {block}", "", _row(heads), _row(["---", *["---:"] * (len(heads) - 1)])]
            for line in lines:
                cells = [f"{score} ({detail})" if detail else score for score, detail in line["cells"]]
                text.append(_row([_marked(line["name"]), line["parameters"], *cells]))
            text.append("")
        text += [*(f"- {_marked(note)}" for note in view["notes"]), ""]
        if view["chosen"]:
            text += ["### What was chosen, and from what", "", RULE, "", _row(CHOSEN_HEADS), _row(["---"] * 4)]
            text += [*(_row([_marked(word) for word in line]) for line in view["chosen"]), ""]
            text += [*(f"- {_marked(gain)}" for gain in view["gains"]), ""]
        if view["differences"]:
            text += ["### Paired differences", "", words.ABOUT_DIFFERENCES, ""]
            text += [*(f"- {_marked(': '.join(line))}" for line in view["differences"]), ""]
        if view["assessed"]:
            text += _assessed(*view["assessed"])
    return "\n".join(text)


def _assessed(title: str, assessment: Assessment) -> Iterator[str]:
    """Yields the lines on a run's scores with their intervals, its labels, and its most frequent confusions."""
    yield from (f"### {_marked(title)}", "", _row(SCORE_HEADS), _row(["---", "---:", "---:"]))
    yield from map(_row, score_rows(assessment))
    if assessment.labels:
        yield from ("", _row(label_heads(assessment)), _row(["---", *["---:"] * 4]))
        for label, *shares, support in label_rows(assessment):
            yield _row([_marked(label), *(f"{100 * share:.1f}" for share in shares), f"{support:,}"])
    if confused := assessment.confused[:CONFUSED]:
        yield from ("", "Most frequent confusions, target and prediction:", "")
        yield from (f"- {_marked(f'{target}, {predicted}: {count}')}" for target, predicted, count in confused)
    yield ""


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _marked(text: str) -> str:
    """Escapes text, so that Markdown leaves it as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", " ".join(text.split()))


FIELDS = (
    *("encoder", "data", "rows", "train_split", "limit_train", "train_examples", "low_resource", "limit_eval"),
    *("method", "settings", "selected", "epochs", "epoch", "task", "metric", "mean", "std", "median"),
    *("seeds_found", "seeds_wanted", "seeds", "collapsed", "parameters", "paper"),
)


def comma_separated(tables: Sequence[Table]) -> str:
    """Returns a line per cell, with scores at full precision, in percent or in their unit; missing fields are empty."""
    out = io.StringIO()
    writer = csv.DictWriter(out, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(line for table in tables for which in table.blocks for line in _records(table, which))
    return out.getvalue()


def _records(table: Table, which: str) -> Iterator[dict[str, Any]]:
    config = table.config
    for row in table.rows:
        papers = [words.paper_cells(table, paper) for paper in paper_rows(table, row.method)] if which == "best" else []
        for number, column in enumerate(table.columns):
            cell, published = row.cells[which][column], [cells[number][0] for cells in papers if cells[number][0]]
            runs = [run for run in row.runs if column == AVERAGE or run.config.task == column[0]]
            examples = {str(run.examples) for run in runs if run.examples is not None and column != AVERAGE}
            yield {
                "encoder": words.short(table.model),
                "data": words.data_name(config),
                "rows": table.data[:8],
                "train_split": config.train_split,
                "limit_train": config.limit_train,
                "train_examples": " ".join(sorted(examples)),
                "low_resource": "yes" if any(run.low_resource for run in runs) else "no",
                "limit_eval": config.limit_eval,
                "method": label(row.method),
                "settings": words.settings({**table.shared, **row.departs}),
                "selected": " ".join(dict.fromkeys(run.choice.words(run.choice.best) for run in runs if run.choice)),
                "epochs": " ".join(map(str, row.values("epochs", column[0]))),
                "epoch": which,
                "task": column[0],
                "metric": column[1],
                "mean": cell.mean if cell.scores else None,
                "std": cell.std,
                "median": cell.median if cell.scores else None,
                "seeds_found": len(cell.scores),
                "seeds_wanted": len(cell.seeds),
                "seeds": " ".join(map(words.mark, sorted(cell.scores))),
                "collapsed": cell.collapsed,
                "parameters": " ".join(map(str, row.parameters)),
                "paper": " ".join(published),
            }


_TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "±": r"$\pm$"}
_TEX |= {"·": r"$\cdot$", "†": r"\dag{}", "—": "--", "“": "``", "”": "''"} | {sign: f"\\{sign}" for sign in "&%$#_{}"}


def _tex(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in text)


def latex(name: str, views: Sequence[Mapping[str, Any]]) -> str:
    """Returns tables for `\\input`, which need the package booktabs."""
    text = [f"% {' '.join(name.split())}; needs \\usepackage{{booktabs}}"]
    for view in views:
        for block, lines in view["blocks"].items():
            heads = view["heads"]
            text += [r"\begin{table}", r"\centering", rf"\caption{{{_tex(view['title'])}. {block}.}}"]
            text += [rf"\begin{{tabular}}{{l{'r' * (1 + len(heads))}}}", r"\toprule"]
            text += [" & ".join(["", "parameters", *(_tex(task) for task, _ in heads)]) + r" \\"]
            text += [" & ".join(["", "", *(_tex(metric) for _, metric in heads)]) + r" \\", r"\midrule"]
            for line in lines:
                scores = [_tex(score) for score, _ in line["cells"]]
                text += [" & ".join([_tex(line["name"]), _tex(line["parameters"]), *scores]) + r" \\"]
                if not line["paper"]:
                    details = [rf"{{\scriptsize {_tex(detail)}}}" for _, detail in line["cells"]]
                    text += [" & ".join(["", "", *details]) + r" \\"]
            text += [r"\bottomrule", r"\end{tabular}", r"\par\smallskip\footnotesize", _tex(" ".join(view["notes"]))]
            text += [r"\end{table}", ""]
    return "\n".join(text)


def page(name: str, summary: str, views: Sequence[Mapping[str, Any]], problems: Sequence[str]) -> str:
    """Returns the report as an HTML page, with plots."""
    drawn = []
    for number, view in enumerate(views):
        table, tasks, salt = view["table"], [task for task, _ in view["heads"]], f"table{number}"
        title, assessment = view["assessed"] or ("", None)
        drawn.append(
            {
                **view,
                "plots": list(plot(table, salt)),
                "curves": list(chosen.curves(table, f"{salt}-chosen")),
                "spans": [(task, tasks.count(task)) for task in dict.fromkeys(tasks)],
                "assessed_title": title,
                "assessed": assessment and evaluation.view(assessment, f"{salt}-run"),
            }
        )
    said = {"name": name, "summary": summary, "problems": problems}
    template = Path(__file__).with_name("page.html.jinja")
    return render(template, views=drawn, rule=RULE, about_differences=words.ABOUT_DIFFERENCES, **said)
