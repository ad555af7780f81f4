"""Runs grouped into tables, rows and cells, and what is computed of them.

A table holds runs of one encoder on the same data, a row those of one method, a cell those of one task, which differ
in their seed alone.
"""

import dataclasses
import math
import statistics
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from adakron_jax.cli import paper
from adakron_jax.config import BERT_BASE, EncoderConfig
from adakron_jax.methods import AdaKron
from adakron_jax.splice import Method
from train.data.glue import SUITES
from train.options.config import RunConfig
from train.options.recipes import RECIPES, family, paper_encoder, read_recipe
from train.report.runs import Column, Run, metrics

SCORES = Path(__file__).with_name("paper_scores.toml")
EIGHT = SUITES["glue"]
ORDER = (*EIGHT, "wnli")
EPOCHS = ("best", "last")
RESAMPLES, CONFIDENCE = 9999, 0.95
_DATA = ("data", "train_split", "limit_train", "limit_eval")
_FREE = {*_DATA, "task", "model", "method", "seed", "recipe", "out", "resume", "mesh", "accumulate"}
SETTINGS = [field.name for field in dataclasses.fields(RunConfig) if field.name not in _FREE]

AVERAGE: Column = ("average", "")


@dataclasses.dataclass(frozen=True)
class Cell:
    """Scores of one column by seed, in percent; `seeds` are all that the table has of this task."""

    scores: Mapping[int, float]
    seeds: frozenset[int]
    collapsed: int = 0

    @property
    def mean(self) -> float:
        return statistics.fmean(self.scores.values())

    @property
    def std(self) -> float | None:
        """The sample's standard deviation (n − 1), which one seed does not have."""
        return statistics.stdev(self.scores.values()) if len(self.scores) > 1 else None

    @property
    def median(self) -> float:
        return statistics.median(self.scores.values())


@dataclasses.dataclass(frozen=True)
class Row:
    """A method's runs; `cells` at their `best` and their `last` epoch. `departs` tells rows of one method apart."""

    method: Method
    departs: Mapping[str, Any]
    runs: list[Run]
    cells: Mapping[str, Mapping[Column, Cell]]

    @property
    def parameters(self) -> list[int]:
        """What the method trains, without the head."""
        return sorted({run.result.params.method for run in self.runs if run.result})

    def epochs(self, task: str) -> list[int]:
        return sorted({run.config.epochs for run in self.runs if run.config.task == task})


@dataclasses.dataclass(frozen=True)
class PaperRow:
    """A row of the paper's tables: task -> score in percent, of the task's published metric."""

    text: str
    scores: Mapping[str, float]
    average: float | None


@dataclasses.dataclass(frozen=True)
class Table:
    """Runs of one encoder on the same data. `published` is the metric of the paper's score of each of its tasks."""

    model: str
    fingerprint: str
    config: RunConfig
    named: str | None
    shared: Mapping[str, Any]
    columns: list[Column]
    rows: list[Row]
    published: Mapping[str, str]

    @property
    def low_resource(self) -> bool:
        return any(run.low_resource for row in self.rows for run in row.runs)

    @property
    def comparable(self) -> bool:
        """Whether the paper's scores are of this encoder, and of the whole of the data."""
        return self.named is not None and not self.low_resource and self.config.limit_eval == "all"


@dataclasses.dataclass(frozen=True)
class Difference:
    """The mean difference of two rows over common seeds, in points; `interval` needs two seeds or more."""

    left: Row
    right: Row
    column: Column
    seeds: list[int]
    mean: float | None
    interval: tuple[float, float] | None


def label(method: Method) -> str:
    """A method and the fields that tell it from its kin: `adakron 12x4`, `lora 8 targets=query,key`."""
    words = [method.name]
    for field in dataclasses.fields(method):
        value = getattr(method, field.name)
        if field.name in ("factors", "r"):
            words.append("x".join(map(str, value)) if isinstance(value, tuple) else str(value))
        elif value != field.default:
            words.append(f"{field.name}={','.join(map(str, value)) if isinstance(value, tuple) else value}")
    return " ".join(words)


def tabulate(runs: Sequence[Run]) -> list[Table]:
    """Groups runs into tables, rows and cells.

    Raises:
      ValueError: two runs claim one cell with one seed; all such folders are named.
    """
    encoders, prints = {}, {}
    for run in runs:
        if run.encoder is not None:
            encoders[run.config.model] = run.encoder
            prints.setdefault(run.config.model, set()).add(run.fingerprint)
    tables: dict[Any, dict[Any, list[Run]]] = {}
    claims: dict[Any, list[str]] = {}
    keys, sizes = [], {}
    for run in runs:
        config, known = run.config, prints.get(run.config.model, {""})
        # A run without its adapter has the weights that the others of its encoder have, if they agree.
        base = run.fingerprint or (min(known) if len(known) == 1 else "unknown")
        keys.append((config.model, base, *(getattr(config, name) for name in _DATA)))
        sizes.setdefault((keys[-1], config.task), set()).update({run.examples} - {None})
    for run, key in zip(runs, keys, strict=True):
        config = run.config
        ways = departures(config, encoders.get(config.model, BERT_BASE))
        if len(sizes[key, config.task]) > 1:  # the split's file was another one in between
            ways["train_examples"] = run.examples
        departs = tuple(ways.items())
        tables.setdefault(key, {}).setdefault((config.method, departs), []).append(run)
        claims.setdefault((key, config.method, departs, config.task, config.seed), []).append(run.folder)
    if twice := [" and ".join(folders) for folders in claims.values() if len(folders) > 1]:
        raise ValueError(f"runs that claim the same cell with the same seed: {'; '.join(twice)}")
    return [
        _table(model, base if len(prints.get(model, ())) > 1 else "", encoders.get(model), rows)
        for (model, base, *_), rows in sorted(tables.items(), key=lambda item: tuple(map(str, item[0])))
    ]


def departures(config: RunConfig, encoder: EncoderConfig) -> dict[str, Any]:
    """Where a run's settings are not those of the named recipe for its task and method, else of the paper's."""
    recipe = config.recipe if config.recipe in ("paper", "fast") else "paper"
    known = {field.name: field.default for field in dataclasses.fields(RunConfig)}
    known |= {"recipe": "paper"} | read_recipe(recipe, config.task, encoder, config.method.name)
    values = {"recipe": recipe} | {name: getattr(config, name) for name in SETTINGS}
    return {name: value for name, value in values.items() if value != known[name]}


def _table(model: str, base: str, encoder: EncoderConfig | None, found: Mapping[Any, list[Run]]) -> Table:
    runs = [run for those in found.values() for run in those]
    tasks = [task for task in ORDER if any(run.config.task == task for run in runs)]
    columns = [(task, metric) for task in tasks for metric in metrics(task)]
    columns += [AVERAGE] if set(EIGHT) <= set(tasks) else []
    seeds = {task: frozenset(run.config.seed for run in runs if run.config.task == task) for task in tasks}
    published = {
        task: next(iter(recipe["published"]))
        for task in EIGHT
        for recipe in [tomllib.loads((RECIPES / f"{task}.toml").read_text("utf-8"))[family(encoder or BERT_BASE)]]
    }
    ways = [departs for _, departs in found]
    shared = [setting for setting in ways[0] if all(setting in way for way in ways)]
    rows = [
        Row(method, departs, those, {which: _cells(those, which, columns, seeds, published) for which in EPOCHS})
        for method, departs, those in _parted(found, shared)
    ]
    rows.sort(key=lambda row: (row.method.name, row.parameters or [0], label(row.method), str(row.departs)))
    return Table(
        model, base, runs[0].config, encoder and paper_encoder(encoder), dict(shared), columns, rows, published
    )


def _parted(
    found: Mapping[Any, list[Run]], shared: Iterable[Any]
) -> Iterator[tuple[Method, dict[str, Any], list[Run]]]:
    """One row a method if each of its tasks ran in one way; else one row a way, so that no cell mixes two."""
    for method in dict.fromkeys(method for method, _ in found):
        ways = {departs: runs for (its, departs), runs in found.items() if its == method}
        tasks = [task for runs in ways.values() for task in {run.config.task for run in runs}]
        parts = ways if len(tasks) > len(set(tasks)) else {(): [run for runs in ways.values() for run in runs]}
        for departs, runs in parts.items():
            its = {name: value for name, value in departs if (name, value) not in shared}
            yield method, its, sorted(runs, key=lambda run: (ORDER.index(run.config.task), run.config.seed))


def _cells(
    runs: Sequence[Run],
    which: str,
    columns: Iterable[Column],
    seeds: Mapping[str, frozenset[int]],
    published: Mapping[str, str],
) -> dict[Column, Cell]:
    cells = {}
    for task, metric in columns:
        if (task, metric) != AVERAGE:
            ended = {run.config.seed: run.result for run in runs if run.result and run.config.task == task}
            scores = {seed: 100.0 * result.evaluation(which).scores[metric] for seed, result in ended.items()}
            cells[task, metric] = Cell(scores, seeds[task], sum(result.collapsed for result in ended.values()))
    if AVERAGE in columns:  # of eight scores, each as the paper's table has it, of every seed that has all eight
        eight = [cells[task, published[task]] for task in EIGHT]
        common = frozenset.intersection(*(frozenset(cell.scores) for cell in eight))
        scores = {seed: statistics.fmean(cell.scores[seed] for cell in eight) for seed in sorted(common)}
        cells[AVERAGE] = Cell(scores, frozenset.union(*(cell.seeds for cell in eight)))
    return cells


def paper_rows(table: Table, method: Method) -> list[PaperRow]:
    """The paper's rows of a method on a table's encoder; none where its scores are of something else."""
    if not table.comparable:
        return []
    data, found = tomllib.loads(SCORES.read_text(encoding="utf-8")), []
    for row in paper.ROWS:
        if row.encoder != table.named or row.method != method:
            continue
        if row.table == 3 and isinstance(method, AdaKron):
            (score,) = (its["score"] for its in data["table3"]["rte"] if tuple(its["factors"]) == method.factors)
            found.append(PaperRow(f"paper, Table 3: {row.system}", {"rte": score}, None))
            continue
        theirs = [its for its in data["row"] if (its["table"], its["system"]) == (row.table, row.system)]
        if theirs:
            scores = dict(zip(data["tasks"], theirs[0]["scores"], strict=True))
            source = f", from {theirs[0]['source']}" if "source" in theirs[0] else ""
            found.append(PaperRow(f"paper, Table {row.table}: {row.system}{source}", scores, theirs[0]["average"]))
        else:  # the configurations' own
            scores = {
                task: tomllib.loads((RECIPES / f"{task}.toml").read_text("utf-8"))[row.encoder]["published"][metric]
                for task, metric in table.published.items()
            }
            average = round(statistics.fmean(scores.values()), 1)
            found.append(PaperRow(f"paper, Table {row.table}: {row.system}", scores, average))
    return found


def differences(table: Table) -> list[Difference]:
    """AdaKron's best epochs (of several rows the paper's, else the first) minus every other row's, seed by seed."""
    ranked = sorted(table.rows, key=lambda row: (row.method != AdaKron(), row.method.name != AdaKron.name))
    found = []
    for task in dict.fromkeys(task for task, _ in table.columns if task != AVERAGE[0]):
        column = (task, table.published.get(task, metrics(task)[0]))
        ran = sorted((row for row in ranked if row.epochs(task)), key=lambda row: not row.cells["best"][column].scores)
        for other in ran[1:]:
            left, right = ran[0].cells["best"][column].scores, other.cells["best"][column].scores
            seeds = sorted(left.keys() & right.keys())
            values = [left[seed] - right[seed] for seed in seeds]
            mean = statistics.fmean(values) if values else None
            found.append(Difference(ran[0], other, column, seeds, mean, interval(values)))
    return found


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The bootstrap's percentile interval of a mean, the same in every report; None of fewer than two values."""
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return None
    import numpy as np
    from scipy import stats

    found = stats.bootstrap(
        (np.asarray(values),),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)
