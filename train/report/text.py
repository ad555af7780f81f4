"""Tables in words, and as Markdown, CSV and LaTeX."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from train.data.glue import TASKS
from train.report.runs import Column
from train.report.tables import AVERAGE, CONFIDENCE, ORDER, Cell, PaperRow, Row, Table, differences, label, paper_rows

TASK_NAMES = {"cola": "CoLA", "sst2": "SST-2", "stsb": "STS-B", "average": "Average"}  # the others in capitals
METRIC_NAMES = {"f1": "F1", "accuracy_mismatched": "mismatched", "matthews": "Matthews", "": "of eight"}
METRIC_NAMES |= {"pearson": "Pearson", "spearman": "Spearman"}
BLOCKS = {"best": "Best epoch", "last": "Last epoch"}


def view(table: Table) -> dict[str, Any]:
    """A table in words: what Markdown, LaTeX and the page show alike."""
    return {
        "table": table,
        "title": title(table),
        "heads": [heading(column) for column in table.columns],
        "blocks": {which: list(lines(table, which)) for which in BLOCKS},
        "notes": list(notes(table)),
        "differences": list(compared(table)),
    }


def title(table: Table) -> str:
    config, words = table.config, [short(table.model)]
    words += [f"weights {table.fingerprint[:8]}"] if table.fingerprint else []
    words += [f"data {short(config.data)}"]
    limit = config.limit_train if not table.low_resource else "all"
    words += [f"first {limit:,} training examples"] if limit != "all" else []
    words += [f"first {config.limit_eval:,} development examples"] if config.limit_eval != "all" else []
    words += [settings(table.shared)] if table.shared else []
    return ", ".join(words) + (f" ({scarcity(table)})" if table.low_resource else "")


def scarcity(table: Table, task: str = "") -> str:
    """`low-resource: RTE 1,000, MRPC 2,000 training examples, split train`, of one task or all; empty of whole sets."""
    runs = [run for row in table.rows for run in row.runs if run.low_resource and task in ("", run.config.task)]
    told = {(run.config.task, run.config.limit_train) for run in runs if run.examples is not None}
    amounts: dict[str, list[str]] = {}
    for run in sorted(runs, key=lambda run: (ORDER.index(run.config.task), run.examples or 0)):
        asked = run.config.limit_train
        if run.examples is None and (run.config.task, asked) in told:
            continue  # it was to see what the others have seen
        unknown = "unknown" if asked == "all" else f"at most {asked:,}"
        amounts.setdefault(run.config.task, []).append(unknown if run.examples is None else f"{run.examples:,}")
    if not amounts:
        return ""
    counts = {heading((task, ""))[0]: " or ".join(dict.fromkeys(found)) for task, found in amounts.items()}
    if len(counts) > 1 and len(set(counts.values())) == 1:
        counts = {"each task": next(iter(counts.values()))}
    each = ", ".join(f"{name} {count}" for name, count in counts.items())
    return f"low-resource: {each} training examples, split {table.config.train_split}"


def short(text: str) -> str:
    """A model or data folder by its last part, whose path means nothing elsewhere."""
    return Path(text).name if text.startswith(("/", "~", ".")) else text.removeprefix("pkg:")


def settings(values: Mapping[str, Any]) -> str:
    shown = {key: f"{value:g}" if isinstance(value, float) else value for key, value in values.items()}
    if start := shown.get("init_from"):  # by its run's folder
        shown["init_from"] = Path(start).parent.name if Path(start).name == "adapter" else Path(start).name
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in shown.items())


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def numbered(noun: str, numbers: Sequence[int]) -> str:
    """Such as `seed 3`, `seeds 0, 1`."""
    return f"{noun}{'' if len(numbers) == 1 else 's'} {', '.join(map(str, numbers))}"


def heading(column: Column) -> tuple[str, str]:
    """(task, metric) in the words of a table's head."""
    task, metric = column
    matched = task == "mnli" and metric == "accuracy"
    return TASK_NAMES.get(task, task.upper()), "matched" if matched else METRIC_NAMES.get(metric, metric)


def named(row: Row) -> str:
    return label(row.method) + (f" ({settings(row.departs)})" if row.departs else "")


def shown(cell: Cell) -> tuple[str, str]:
    """A cell's score and what stands below it: `91.2 ± 0.4`, `median 91.1 · 3 seeds`."""
    found, wanted = len(cell.scores), len(cell.seeds)
    seeds = counted(found, "seed") if found == wanted else f"{found} of {counted(wanted, 'seed')}"
    if not found:
        return "—", seeds if wanted else "not run"
    score = f"{cell.mean:.1f}" + ("" if cell.std is None else f" ± {cell.std:.1f}") + (" †" if cell.collapsed else "")
    words = [f"median {cell.median:.1f}"] if found > 1 else []
    return score, " · ".join([*words, seeds, *([f"{cell.collapsed} collapsed"] if cell.collapsed else [])])


def lines(table: Table, which: str) -> Iterator[dict[str, Any]]:
    """The body of a table, a row of ours and then the paper's of the same; those have but a best epoch."""
    for row in table.rows:
        parameters = " to ".join(f"{count:,}" for count in sorted({*row.parameters[:1], *row.parameters[-1:]})) or "—"
        yield {
            "name": named(row),
            "parameters": parameters,
            "cells": [shown(row.cells[which][column]) for column in table.columns],
            "paper": False,
        }
        for its in paper_rows(table, row.method) if which == "best" else []:
            cells = _published(table, its)
            if any(score for score, _ in cells):
                yield {"name": its.text, "parameters": "", "cells": cells, "paper": True}


def _published(table: Table, its: PaperRow) -> list[tuple[str, str]]:
    scores = {(task, metric): its.scores.get(task) for task, metric in table.published.items()}
    scores[AVERAGE] = its.average
    found = [scores.get(column) for column in table.columns]
    return [("" if score is None else f"{score:.1f}", "") for score in found]


def notes(table: Table) -> Iterator[str]:
    """What a reader must know before believing a table."""
    config = table.config
    yield (
        f"Encoder {short(table.model)}, data {short(config.data)}, split {config.train_split}. Scores in percent on "
        "the development set: mean ± sample standard deviation over seeds. Trained parameters leave out the "
        "head. Runs on other encoders, data or limits stand in tables of their own; no cell mixes settings."
    )
    if table.low_resource:
        tasks = dict.fromkeys(run.config.task for row in table.rows for run in row.runs if run.low_resource)
        whole = ", ".join(f"{heading((task, ''))[0]} {TASKS[task].train_examples:,}" for task in tasks)
        yield f"L{scarcity(table)[1:]}, of {short(config.data)}; all of GLUE's are {whole}."
    if config.limit_eval != "all":
        yield f"Scores are of the first {config.limit_eval:,} examples of each development split."
    alike: dict[str, list[str]] = {}
    for row in table.rows:
        alike.setdefault("; ".join(_ways(row)), []).append(named(row))
    yield from (f"{', '.join(names)}: {ways}." for ways, names in alike.items())
    if any(run.config.best_by == "last" for row in table.rows for run in row.runs):
        yield "Where the last epoch counts as the best, both tables show it."
    if any(cell.collapsed for row in table.rows for cell in row.cells["best"].values()):
        yield "† Collapsed: a run of this cell ended with one answer for every example. It counts in the mean."
    if any(len(cell.scores) < len(cell.seeds) for row in table.rows for cell in row.cells["best"].values()):
        yield "— is missing. “2 of 3 seeds” is a mean of two: the third has no finished run of this method here."
    if any(column == AVERAGE for column in table.columns):
        used = ", ".join(" ".join(heading((task, metric))) for task, metric in table.published.items())
        yield f"The average is the paper's: the mean of {used}; over seeds that have all eight."
    yield _about_paper(table)


def _ways(row: Row) -> Iterator[str]:
    """How each task was trained: `RTE, MRPC: 80 epochs, batch 32, rate 0.0005, best epoch by accuracy, seeds 0, 1`."""
    ways: dict[str, list[str]] = {}
    for task in dict.fromkeys(run.config.task for run in row.runs):
        runs = [run.config for run in row.runs if run.config.task == task]
        first, seeds = runs[0], numbered("seed", [run.seed for run in runs])
        length, rate = counted(first.epochs, "epoch"), f"{first.learning_rate:g}"
        best = "is the last" if first.best_by == "last" else f"by {first.best_by}"
        way = f"{length}, batch {first.batch_size}, rate {rate}, best epoch {best}"
        way += f", {seeds}"
        early = sum(run.result.stopped_early for run in row.runs if run.result and run.config.task == task)
        way += f", {early} of them stopped early" if early else ""
        ways.setdefault(way, []).append(heading((task, ""))[0])
    return (f"{', '.join(tasks)}: {way}" for way, tasks in ways.items())


def _about_paper(table: Table) -> str:
    if table.named is None:
        return "The paper's scores are of BERT-base and RoBERTa-large, not of this encoder, so none is shown."
    if not table.comparable:
        return "The paper's scores are of the whole training and development sets, so none is shown."
    return (
        f"The paper's scores ({table.named}) stand at the best epoch, under the one metric it prints of a task; they "
        "are of one run. Methods without such a row are not in its tables."
    )


def compared(table: Table) -> Iterator[tuple[str, str, str]]:
    """(task and metric, the pair, the difference) in words; one line for all that lack seeds in common alike."""
    lacking: dict[tuple[str, str, int], list[str]] = {}
    for each in differences(table):
        task, left, right = each.column[0], named(each.left), named(each.right)
        epochs = [", ".join(map(str, row.epochs(task))) for row in (each.left, each.right)]
        right += f" ({epochs[0]} and {epochs[1]} epochs)" if epochs[0] != epochs[1] else ""
        what = " ".join(heading(each.column))
        if each.interval is None or each.mean is None:
            lacking.setdefault((what, left, len(each.seeds)), []).append(right)
            continue
        low, high = each.interval
        seeds = counted(len(each.seeds), "common seed")
        yield what, f"{left} − {right}", f"{_signed(each.mean)} [{_signed(low)}, {_signed(high)}], {seeds}"
    for (what, left, seeds), rights in lacking.items():
        lack = f"cannot be computed: {counted(seeds, 'common seed')}, and two are needed"
        yield what, f"{left} − {'each of ' if len(rights) > 1 else ''}{', '.join(rights)}", lack


def _signed(value: float) -> str:
    text = f"{value:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")


ABOUT_DIFFERENCES = (
    f"Mean difference in points at the best epoch, over common seeds, with the {100 * CONFIDENCE:.0f} % percentile "
    "interval of a bootstrap. It tells seeds apart, not data sets; with a handful of seeds it is too narrow."
)


def markdown(name: str, summary: str, views: Sequence[Mapping[str, Any]], problems: Sequence[str]) -> str:
    text = [f"# Report of {_marked(name)}", "", _marked(summary), ""]
    if problems:
        text += ["Left out:", "", *(f"- {_marked(problem)}" for problem in problems), ""]
    for view in views:
        text += [f"## {_marked(view['title'])}", ""]
        for which, block in BLOCKS.items():
            heads = ["method", "trained parameters", *(" ".join(head) for head in view["heads"])]
            text += [f"### {block}", "", _row(heads), _row(["---", *["---:"] * (len(heads) - 1)])]
            for line in view["blocks"][which]:
                cells = [f"{score} ({detail})" if detail else score for score, detail in line["cells"]]
                text.append(_row([_marked(line["name"]), line["parameters"], *cells]))
            text.append("")
        text += [*(f"- {_marked(note)}" for note in view["notes"]), ""]
        if view["differences"]:
            text += ["### Paired differences", "", ABOUT_DIFFERENCES, ""]
            text += [*(f"- {_marked(': '.join(each))}" for each in view["differences"]), ""]
    return "\n".join(text)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _marked(text: str) -> str:
    """Text that Markdown leaves as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", " ".join(text.split()))


def comma_separated(tables: Sequence[Table]) -> str:
    """One line a cell, scores in percent at full precision, an empty field for what is not there."""
    found = [line for table in tables for which in BLOCKS for line in _records(table, which)]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(found[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return out.getvalue()


def _records(table: Table, which: str) -> Iterator[dict[str, Any]]:
    config = table.config
    for row in table.rows:
        theirs = [_published(table, its) for its in paper_rows(table, row.method)] if which == "best" else []
        for number, column in enumerate(table.columns):
            cell, published = (
                row.cells[which][column],
                [score for (score, _) in (its[number] for its in theirs) if score],
            )
            its_runs = [run for run in row.runs if column == AVERAGE or run.config.task == column[0]]
            examples = {str(run.examples) for run in its_runs if run.examples is not None and column != AVERAGE}
            yield {
                "encoder": short(table.model),
                "data": short(config.data),
                "train_split": config.train_split,
                "limit_train": config.limit_train,
                "train_examples": " ".join(sorted(examples)),
                "low_resource": "yes" if any(run.low_resource for run in its_runs) else "no",
                "limit_eval": config.limit_eval,
                "method": label(row.method),
                "settings": settings({**table.shared, **row.departs}),
                "epochs": " ".join(map(str, row.epochs(column[0]))),
                "epoch": which,
                "task": column[0],
                "metric": column[1],
                "mean": cell.mean if cell.scores else None,
                "std": cell.std,
                "median": cell.median if cell.scores else None,
                "seeds_found": len(cell.scores),
                "seeds_wanted": len(cell.seeds),
                "seeds": " ".join(map(str, sorted(cell.scores))),
                "collapsed": cell.collapsed,
                "parameters": " ".join(map(str, row.parameters)),
                "paper": " ".join(published),
            }


_TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "±": r"$\pm$"}
_TEX |= {"·": r"$\cdot$", "†": r"\dag{}", "—": "--", "“": "``", "”": "''"} | {sign: f"\\{sign}" for sign in "&%$#_{}"}


def _tex(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in text)


def latex(name: str, views: Sequence[Mapping[str, Any]]) -> str:
    """Tables for `\\input`; they need the package booktabs."""
    text = [f"% {' '.join(name.split())}; needs \\usepackage{{booktabs}}"]
    for view in views:
        for which, block in BLOCKS.items():
            heads = view["heads"]
            text += [r"\begin{table}", r"\centering", rf"\caption{{{_tex(view['title'])}. {block}.}}"]
            text += [rf"\begin{{tabular}}{{l{'r' * (1 + len(heads))}}}", r"\toprule"]
            text += [" & ".join(["", "parameters", *(_tex(task) for task, _ in heads)]) + r" \\"]
            text += [" & ".join(["", "", *(_tex(metric) for _, metric in heads)]) + r" \\", r"\midrule"]
            for line in view["blocks"][which]:
                scores = [_tex(score) for score, _ in line["cells"]]
                text += [" & ".join([_tex(line["name"]), _tex(line["parameters"]), *scores]) + r" \\"]
                if not line["paper"]:
                    details = [rf"{{\scriptsize {_tex(detail)}}}" for _, detail in line["cells"]]
                    text += [" & ".join(["", "", *details]) + r" \\"]
            text += [r"\bottomrule", r"\end{tabular}", r"\par\smallskip\footnotesize", _tex(" ".join(view["notes"]))]
            text += [r"\end{table}", ""]
    return "\n".join(text)
