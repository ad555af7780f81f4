"""A table in words, the same for every format of the report."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from adakron_jax.evaluation.metrics import METRICS
from train.data.glue import TASKS
from train.data.sources import table_name
from train.options.config import RunConfig
from train.output.predictions import TEST
from train.output.selection_file import in_words
from train.report.differences import CONFIDENCE, LEAST, Difference, differences
from train.report.paper import PaperRow, paper_rows
from train.report.runs import Column, Repeat
from train.report.tables import AVERAGE, Cell, Row, Table, label, rank

TASK_NAMES = {"cola": "CoLA", "sst2": "SST-2", "stsb": "STS-B", "average": "Average"}  # the others in capitals
METRIC_NAMES = {name: metric.title for name, metric in METRICS.items()}
METRIC_NAMES |= {"accuracy_mismatched": "mismatched", "": "of eight"}


def title(table: Table) -> str:
    config, words = table.config, [short(table.model)]
    words += [f"weights {table.fingerprint[:8]}"] if table.fingerprint else []
    words += [f"data {data_name(config)}"]
    words += [f"rows {table.data[:8]}"] if table.data else []
    limit = config.limit_train if not table.low_resource else "all"
    words += [f"first {limit:,} training examples"] if limit != "all" else []
    words += [f"first {config.limit_eval:,} development examples"] if config.limit_eval != "all" else []
    words += [settings(table.shared)] if table.shared else []
    words += [f"{selected(table)} selected"] if table.selected else []
    return ", ".join(words) + (f" ({scarcity(table)})" if table.low_resource else "")


def selected(table: Table) -> str:
    """Returns the fields whose values were chosen."""
    return " and ".join(name.replace("_", " ") for name in table.selected)


def scarcity(table: Table, task: str = "") -> str:
    """Returns `low-resource: RTE 1,000, MRPC 2,000 training examples, split train`, say; empty for whole sets."""
    runs = [run for run in table.runs if run.low_resource and task in ("", run.config.task)]
    told = {(run.config.task, run.config.limit_train) for run in runs if run.examples is not None}
    amounts: dict[str, list[str]] = {}
    for run in sorted(runs, key=lambda run: (rank(run)[:2], run.examples or 0)):
        asked = run.config.limit_train
        if run.examples is None and (run.config.task, asked) in told:
            continue  # runs with the same limit tell the number
        unknown = "unknown" if asked == "all" else f"at most {asked:,}"
        amounts.setdefault(run.config.task, []).append(unknown if run.examples is None else f"{run.examples:,}")
    if not amounts:
        return ""
    counts = {heading((task, ""))[0]: " or ".join(dict.fromkeys(values)) for task, values in amounts.items()}
    if len(counts) > 1 and len(set(counts.values())) == 1:
        counts = {"each task": next(iter(counts.values()))}
    amount = ", ".join(f"{name} {count}" for name, count in counts.items())
    return f"low-resource: {amount} training examples, split {table.config.train_split}"


def short(text: str) -> str:
    """Returns the last part of a model's or data's path, which means nothing elsewhere; other names as they are."""
    return Path(text).name if text.startswith(("/", "~", ".")) else text.removeprefix("pkg:")


def data_name(config: RunConfig) -> str:
    """Returns the name of the data; for custom data, that of the file without its folder."""
    return table_name(config.data) if config.custom_data else short(config.data)


def settings(values: Mapping[str, Any]) -> str:
    if start := values.get("init_from"):  # by its run's folder
        path = Path(start)
        values = {**values, "init_from": (path.parent if path.name == "adapter" else path).name}
    return in_words(values)


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def numbered(noun: str, numbers: Iterable[int]) -> str:
    """Returns, say, `seed 3` or `seeds 0, 1`."""
    known = list(dict.fromkeys(numbers))
    return f"{noun}{'' if len(known) == 1 else 's'} {', '.join(map(str, known))}"


def noun(repeats: Iterable[Repeat]) -> str:
    """Returns what distinguishes the runs of a cell: `seed` or `fold`."""
    return "fold" if any(isinstance(repeat, tuple) for repeat in repeats) else "seed"


def mark(repeat: Repeat) -> str:
    """Returns a seed, or `0.3` for fold 3 of seed 0."""
    return ".".join(map(str, repeat)) if isinstance(repeat, tuple) else str(repeat)


def heading(column: Column) -> tuple[str, str]:
    """Returns (task, metric) as in a table's head."""
    task, metric = column
    matched = task == "mnli" and metric == "accuracy"
    name = TASK_NAMES.get(task, task.upper() if task in TASKS else task)
    return name, "matched" if matched else METRIC_NAMES.get(metric, metric)


def scored(column: Column) -> str:
    """Returns a column in words, such as `RTE accuracy`."""
    return " ".join(heading(column))


def named(row: Row) -> str:
    return label(row.method) + (f" ({settings(row.departs)})" if row.departs else "")


def shown(cell: Cell) -> tuple[str, str]:
    """Returns a cell's score and what is below it: `91.2 ± 0.4`, `median 91.1 · 3 seeds`."""
    ran, wanted = len(cell.scores), len(cell.seeds)
    seeds = counted(ran, noun(cell.seeds)) if ran == wanted else f"{ran} of {counted(wanted, noun(cell.seeds))}"
    if not ran:
        return "—", seeds if wanted else "not run"
    score = f"{cell.mean:.1f}" + ("" if cell.std is None else f" ± {cell.std:.1f}") + (" †" if cell.collapsed else "")
    words = [f"median {cell.median:.1f}"] if ran > 1 else []
    return score, " · ".join([*words, seeds, *([f"{cell.collapsed} collapsed"] if cell.collapsed else [])])


def lines(table: Table, which: str) -> Iterator[dict[str, Any]]:
    """Yields the body of a table: each row of ours, and for the best epoch the paper's rows of the same method."""
    for row in table.rows:
        parameters = " to ".join(f"{count:,}" for count in sorted({*row.parameters[:1], *row.parameters[-1:]})) or "—"
        yield {
            "name": named(row),
            "parameters": parameters,
            "cells": [shown(row.cells[which][column]) for column in table.columns],
            "paper": False,
        }
        for paper in paper_rows(table, row.method) if which == "best" else []:
            cells = paper_cells(table, paper)
            if any(score for score, _ in cells):
                yield {"name": paper.text, "parameters": "", "cells": cells, "paper": True}


def paper_cells(table: Table, paper: PaperRow) -> list[tuple[str, str]]:
    scores = {(task, metric): paper.scores.get(task) for task, metric in table.published.items()}
    scores[AVERAGE] = paper.average
    by_column = [scores.get(column) for column in table.columns]
    return [("" if score is None else f"{score:.1f}", "") for score in by_column]


def notes(table: Table) -> Iterator[str]:
    """Yields what a reader must know before believing a table."""
    config = table.config
    where = f"the {config.choosing_rows}"
    over = "seeds and folds" if config.custom_data else "seeds"
    yield (
        f"Encoder {short(table.model)}, data {data_name(config)}, split {config.train_split}. Scores in percent on "
        f"{where}: mean ± sample standard deviation over {over}. Trained parameters exclude the head. Runs on other "
        "encoders, data or limits are in separate tables; no cell mixes settings."
    )
    if config.custom_data:
        examples = sorted({run.examples for run in table.runs if run.examples})
        yield (
            f"Texts in {' and '.join(config.text)}, labels in {', '.join(config.label)}; "
            f"{' or '.join(f'{count:,}' for count in examples) or 'an unknown number of'} training examples. Errors "
            "(RMSE, MAE) are in the unit of the labels; lower is better."
        )
    if table.selected:
        yield (
            f"Selected: for each task and method, {selected(table)} was chosen on training rows held out, by runs that "
            "saw nothing of the rows scored here; then every seed was trained on all training rows and scored once. "
            "Runs at other values are in another table."
        )
    if table.low_resource:
        tasks = dict.fromkeys(run.config.task for run in table.runs if run.low_resource)
        whole = ", ".join(f"{heading((task, ''))[0]} {TASKS[task].train_examples:,}" for task in tasks)
        yield f"L{scarcity(table)[1:]}, of {data_name(config)}; the whole training sets of GLUE have {whole}."
    if config.limit_eval != "all":
        yield f"Scores are of the first {config.limit_eval:,} examples of each development split."
    alike: dict[str, list[str]] = {}
    for row in table.rows:
        alike.setdefault("; ".join(_ways(row)), []).append(named(row))
    yield from (f"{', '.join(names)}: {ways}." for ways, names in alike.items())
    if not table.selected and any(run.config.best_by == "last" for run in table.runs):
        yield "Where the last epoch counts as the best, both tables show it."
    if any(cell.collapsed for row in table.rows for cell in row.cells["best"].values()):
        yield f"† Collapsed: a run of this cell ended with one prediction for all of {where}. It counts in the mean."
    if any(len(cell.scores) < len(cell.seeds) for row in table.rows for cell in row.cells["best"].values()):
        yield "— is missing. “2 of 3 seeds” is a mean of two: the third has no finished run of this method here."
    if any(column == AVERAGE for column in table.columns):
        used = ", ".join(scored((task, metric)) for task, metric in table.published.items())
        yield f"The average is the paper's: the mean of {used}; over seeds that have all eight."
    if not config.custom_data:
        yield _about_paper(table)


def _ways(row: Row) -> Iterator[str]:
    """Yields how each task was trained: `RTE: 80 epochs, batch 32, learning rate 0.0005, best epoch by f1, seed 0`."""
    ways: dict[str, list[str]] = {}
    for task in dict.fromkeys(run.config.task for run in row.runs):
        runs = [run.config for run in row.runs if run.config.task == task]
        first, seeds = runs[0], numbered("seed", [run.seed for run in runs])
        seeds += f", {numbered('fold', [run.fold for run in runs])} of {first.folds}" if first.folds > 1 else ""
        length, learning_rate = counted(first.epochs, "epoch"), f"{first.learning_rate:g}"
        chosen = next((run.result.best_by for run in row.runs if run.result and run.config == first), first.best_by)
        best = "is the last" if chosen == "last" else f"by {chosen}"
        best = f"scored after epoch {first.evaluate_once}" if first.evaluate_once else f"best epoch {best}"
        way = f"{length}, batch {first.batch_size}, learning rate {learning_rate}, {best}, {seeds}"
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
        f"The paper's scores ({table.named}) are shown with the best epoch, for the one metric that it prints of a "
        "task; they are of one run. Methods without such a row are not in its tables."
    )


def compared(table: Table) -> Iterator[tuple[str, str, str]]:
    """Yields (task and metric, the pair, the difference) in words; one line for all pairs without a common seed."""
    lacking: dict[tuple[str, str], list[str]] = {}
    for pair in differences(table):
        task, left, right = pair.column[0], named(pair.left), named(pair.right)
        if unlike := ", ".join(_unlike(pair, task)):
            right += f" ({unlike})"
        what = scored(pair.column) + (", test part" if pair.which == TEST else "")
        if pair.mean is None:
            lacking.setdefault((what, left), []).append(right)
        else:
            yield what, f"{left} − {right}", _difference(pair, pair.mean)
    for (what, left), rights in lacking.items():
        lack = "cannot be computed: no common seed has ended"
        yield what, f"{left} − {'each of ' if len(rights) > 1 else ''}{', '.join(rights)}", lack


def _unlike(pair: Difference, task: str) -> Iterator[str]:
    """Yields how the training of a pair differs: `80 and 3 epochs`, `batches of 32 and 16`."""
    for name, words in (("epochs", "{} and {} epochs"), ("batch_size", "batches of {} and {}")):
        values = [", ".join(map(str, row.values(name, task))) for row in (pair.left, pair.right)]
        if values[0] != values[1]:
            yield words.format(*values)


def _difference(pair: Difference, mean: float) -> str:
    """Returns, say, `+1.2 [+0.3, +2.0], 3 common seeds; over 872 examples [−0.4, +2.7], McNemar p 0.031, 0.2, 0.8`."""
    seeds = counted(len(pair.seeds), f"common {noun(pair.seeds)}")
    words = f"{signed(mean)}{_interval(pair.interval) if pair.interval else ''}, {seeds}"
    if (over := pair.examples) is None:
        return words
    tests = f", McNemar p {', '.join(f'{p:.2g}' for p in over.p_values)}" if over.p_values else ""
    return f"{words}; over {over.examples:,} examples{_interval(over.interval)}{tests}"


def _interval(bounds: tuple[float, float]) -> str:
    return f" [{signed(bounds[0])}, {signed(bounds[1])}]"


def signed(value: float) -> str:
    text = f"{value:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")


ABOUT_DIFFERENCES = (
    "Mean difference, in points or in an error's unit, over common seeds, with the "
    f"{100 * CONFIDENCE:.0f} % percentile interval of a bootstrap over seeds, at least {LEAST}. It covers the "
    "variation of seeds, not of examples; with a handful of seeds it is too narrow. Over examples: the interval of the "
    "same mean when the evaluated examples are drawn anew, and for each common seed the p-value of McNemar's exact "
    "test on the examples that one method alone predicts rightly."
)
