"""Runs grouped into tables, rows and cells, and what is computed from them.

A table holds runs of one encoder on the same data, all of them at selected values or none; a row holds those of one
method, and a cell those of one task, which differ only in their seed or fold. Custom data are the same if their
fingerprints are, whatever their paths.
"""

import dataclasses
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from adakron_jax.architectures.config import BERT_BASE, EncoderConfig
from adakron_jax.splice import Method
from train.data.glue import SUITES
from train.data.task import metric_of
from train.options.config import RunConfig
from train.options.recipes import TABLE, family, paper_encoder, published_scores, read_recipe
from train.output.selection_file import Choice
from train.report.runs import Column, Repeat, Run

EIGHT = SUITES["glue"]
ORDER = (*EIGHT, "wnli")
BLOCKS = {"best": "Best epoch", "last": "Last epoch", "test": "Test part, scored once with the best epoch"}
_DATA = ("data", "text", "label", "problem", "train_split", "limit_train", "limit_eval")
_FREE = {*_DATA, "task", "model", "method", "seed", "fold", "recipe", "out", "resume", "mesh", "accumulate"}
_DECIDED = ("best_by", "evaluate_once", "score_test", "validation", "test")  # set by a selection
SETTINGS = [field.name for field in dataclasses.fields(RunConfig) if field.name not in _FREE]

AVERAGE: Column = ("average", "")


@dataclasses.dataclass(frozen=True)
class Cell:
    """Scores of one column by seed, scaled by `Metric.scale`; `seeds` are all that the table has for this task.

    With data that are cut into folds, (seed, fold) takes the place of the seed.
    """

    scores: Mapping[Repeat, float]
    seeds: frozenset[Repeat]
    collapsed: int = 0

    @property
    def mean(self) -> float:
        return statistics.fmean(self.scores.values())

    @property
    def std(self) -> float | None:
        """The sample standard deviation (n − 1); None for a single seed."""
        return statistics.stdev(self.scores.values()) if len(self.scores) > 1 else None

    @property
    def median(self) -> float:
        return statistics.median(self.scores.values())


@dataclasses.dataclass(frozen=True)
class Row:
    """A method's runs; `cells` by block and column. `departs` distinguishes rows of one method."""

    method: Method
    departs: Mapping[str, Any]
    runs: list[Run]
    cells: Mapping[str, Mapping[Column, Cell]]

    @property
    def parameters(self) -> list[int]:
        """The numbers of parameters that the method trains, without the head."""
        return sorted({run.result.params.method for run in self.runs if run.result})

    def values(self, name: str, task: str) -> list[int]:
        """Returns the values of a field, such as `epochs`, in the task's runs."""
        return sorted({getattr(run.config, name) for run in self.runs if run.config.task == task})


@dataclasses.dataclass(frozen=True)
class Table:
    """Runs of one encoder on the same data.

    Attributes:
      fingerprint: that of the encoder's weights, if the report has other weights under this name.
      data: the fingerprint of custom data.
      named: the paper's name for the encoder, if it has one.
      published: the metric of the paper's score for each task in the paper.
      selected: the fields whose values were chosen for each task and method; empty for runs at other values.
      compare: pairs of rows to compare, by their names; empty for AdaKron's with all others.
    """

    model: str
    fingerprint: str
    data: str
    config: RunConfig
    named: str | None
    shared: Mapping[str, Any]
    columns: list[Column]
    rows: list[Row]
    published: Mapping[str, str]
    selected: tuple[str, ...] = ()
    compare: tuple[tuple[str, str], ...] = ()

    @property
    def runs(self) -> list[Run]:
        return [run for row in self.rows for run in row.runs]

    @property
    def low_resource(self) -> bool:
        return any(run.low_resource for run in self.runs)

    @property
    def blocks(self) -> dict[str, str]:
        """Name -> title of the blocks that some run has scores for."""
        if self.selected:
            return {"best": "Scored once, at the end"}
        tested = any(run.result and run.result.test for run in self.runs)
        return {name: title for name, title in BLOCKS.items() if tested or name != "test"}

    @property
    def headlines(self) -> list[Column]:
        """The column that stands for each task."""
        tasks = dict.fromkeys(task for task, _ in self.columns if task != AVERAGE[0])
        first = {task: next(metric for name, metric in self.columns if name == task) for task in tasks}
        return [(task, self.published.get(task, first[task])) for task in tasks]

    @property
    def comparable(self) -> bool:
        """Whether the paper's scores are for this encoder and the whole data."""
        whole = not self.low_resource and self.config.limit_eval == "all"
        return whole and self.named is not None and not self.config.custom_data


def label(method: Method) -> str:
    """Returns a method with the fields that distinguish it: `adakron 12x4`, `lora 8 targets=query,key`."""
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
      ValueError: two runs claim one cell with the same seed; the message names all such folders.
    """
    encoders, fingerprints, tables_of = {}, {}, {}
    for run in runs:
        if run.encoder is not None:
            encoders[run.config.model] = run.encoder
            fingerprints.setdefault(run.config.model, set()).add(run.fingerprint)
        if run.result:
            tables_of.setdefault(run.config.data, set()).add(run.result.data)
    tables: dict[Any, dict[Any, list[Run]]] = {}
    claims: dict[Any, list[str]] = {}
    keys, sizes = [], {}
    for run in runs:
        config = run.config
        base = run.fingerprint or _only(fingerprints.get(config.model, {""}))
        data = run.result.data if run.result else _only(tables_of.get(config.data, {""})) if config.custom_data else ""
        where = [getattr(config, name) for name in _DATA if not (data and name == "data")]
        keys.append((config.model, base, data, run.choice.fields if run.choice else (), *where))
        sizes.setdefault((keys[-1], config.task, config.fold), set()).update({run.examples} - {None})
    for run, key in zip(runs, keys, strict=True):
        config = run.config
        ways = departures(config, encoders.get(config.model, BERT_BASE), run.examples or 0, run.choice)
        if len(sizes[key, config.task, config.fold]) > 1:  # the split's file changed between runs
            ways["train_examples"] = run.examples
        departs = tuple(ways.items())
        tables.setdefault(key, {}).setdefault((config.method, departs), []).append(run)
        claims.setdefault((key, config.method, departs, config.task, run.repeat), []).append(run.folder)
    if twice := [" and ".join(folders) for folders in claims.values() if len(folders) > 1]:
        raise ValueError(f"runs that claim the same cell with the same seed: {'; '.join(twice)}")
    return [
        _table(model, base if len(fingerprints.get(model, ())) > 1 else "", data, encoders.get(model), rows, selected)
        for (model, base, data, selected, *_), rows in sorted(tables.items(), key=lambda item: tuple(map(str, item[0])))
    ]


def _only(known: Iterable[str]) -> str:
    """Returns what a run that has not ended is assumed to have, since all others have it; else `unknown`."""
    first, *others = sorted(known)
    return "unknown" if others else first


def departures(config: RunConfig, encoder: EncoderConfig, rows: int, choice: Choice | None = None) -> dict[str, Any]:
    """Returns the settings in which a run departs from its recipe, or the default one, for its task and method.

    What was selected, or is decided by a selection itself, is not a departure.

    Args:
      rows: how many rows of custom data trained.
    """
    default = TABLE if config.custom_data else "paper"
    recipe = config.recipe if config.recipe in (default, "fast") else default
    known = {field.name: field.default for field in dataclasses.fields(RunConfig)}
    task = TABLE if config.custom_data else config.task
    known |= {"recipe": default} | read_recipe(recipe, task, encoder, config.method.name, rows)
    values = {"recipe": recipe} | {name: getattr(config, name) for name in SETTINGS}
    decided = (*choice.fields, *_DECIDED) if choice else ()
    return {name: value for name, value in values.items() if value != known[name] and name not in decided}


def rank(run: Run) -> tuple[int, str, Repeat]:
    """Returns a run's sorting key: its task in the paper's order, others after these, and its seed."""
    task = run.config.task
    return ORDER.index(task) if task in ORDER else len(ORDER), task, run.repeat


def _table(
    model: str,
    base: str,
    data: str,
    encoder: EncoderConfig | None,
    by_way: Mapping[Any, list[Run]],
    selected: tuple[str, ...],
) -> Table:
    runs = sorted((run for group in by_way.values() for run in group), key=lambda run: rank(run)[:2])
    tasks = list(dict.fromkeys(run.config.task for run in runs))
    columns = list(dict.fromkeys((run.config.task, metric) for run in runs for metric in run.metrics))
    columns += [AVERAGE] if set(EIGHT) <= set(tasks) else []
    seeds: dict[tuple[str, int], set[Repeat]] = {}
    for run in runs:
        seeds.setdefault((run.config.task, run.config.folds), set()).add(run.repeat)
    kind = family(encoder or BERT_BASE)
    published = {} if runs[0].config.custom_data else {task: next(iter(published_scores(task, kind))) for task in EIGHT}
    ways = [departs for _, departs in by_way]
    shared = [setting for setting in ways[0] if all(setting in way for way in ways)]
    rows = [
        Row(method, departs, group, {which: _cells(group, which, columns, seeds, published) for which in BLOCKS})
        for method, departs, group in _rows(by_way, shared)
    ]
    rows.sort(key=lambda row: (row.method.name, row.parameters or [0], label(row.method), str(row.departs)))
    named = encoder and paper_encoder(encoder)
    return Table(model, base, data, runs[0].config, named, dict(shared), columns, rows, published, selected)


def _rows(by_way: Mapping[Any, list[Run]], shared: Iterable[Any]) -> Iterator[tuple[Method, dict[str, Any], list[Run]]]:
    """Yields a row per method if each of its tasks ran in one way; else a row per way, so that no cell mixes two."""
    for method in dict.fromkeys(method for method, _ in by_way):
        ways = {departs: runs for (other, departs), runs in by_way.items() if other == method}
        tasks = [task for runs in ways.values() for task in {run.config.task for run in runs}]
        parts = ways if len(tasks) > len(set(tasks)) else {(): [run for runs in ways.values() for run in runs]}
        for departs, runs in parts.items():
            remaining = {name: value for name, value in departs if (name, value) not in shared}
            yield method, remaining, sorted(runs, key=rank)


def _cells(
    runs: Sequence[Run],
    which: str,
    columns: Iterable[Column],
    seeds: Mapping[tuple[str, int], set[Repeat]],
    published: Mapping[str, str],
) -> dict[Column, Cell]:
    cells = {}
    for task, metric in columns:
        if (task, metric) != AVERAGE:
            ended = {run.repeat: run.result for run in runs if run.config.task == task and run.result}
            scores = {seed: result.scored.get(which, {}).get(metric) for seed, result in ended.items()}
            scale = metric_of(metric).scale
            scores = {seed: scale * score for seed, score in scores.items() if score is not None}
            wanted = frozenset().union(*(seeds.get((task, run.config.folds), ()) for run in runs))
            cells[task, metric] = Cell(scores, wanted, sum(result.collapsed for result in ended.values()))
    if AVERAGE in columns:  # the mean of the paper's eight scores, for every seed that has them all
        eight = [cells[task, published[task]] for task in EIGHT]
        common = frozenset.intersection(*(frozenset(cell.scores) for cell in eight))
        scores = {seed: statistics.fmean(cell.scores[seed] for cell in eight) for seed in sorted(common)}
        cells[AVERAGE] = Cell(scores, frozenset.union(*(cell.seeds for cell in eight)))
    return cells
