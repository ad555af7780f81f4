"""Reads run folders for a report: what is intact becomes a `Run`, and anything else a line that names it."""

import collections
import dataclasses
import functools
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.evaluation import Assessment
from adakron_jax.problems import from_json
from train.options.config import RunConfig
from train.output import predictions, result, selection_file
from train.output.predictions import Predicted
from train.output.result import Result, read_evaluation, scored_by
from train.output.selection_file import Choice

_WITHOUT = {
    "config.toml": "left out",
    "result.json": "left out as a run that has not ended",
    "metrics.jsonl": "its learning curve is left out",
    "evaluation.json": "its labels and mistakes are left out",
    "adapter/adapter.json": "its encoder is taken to be that of other runs with the same name, if there are any",
}
_BAD = (OSError, ValueError, TypeError, KeyError, RecursionError)  # raised by reading a file that no run wrote

Problems = collections.defaultdict[str, list[str]]  # a kind of trouble -> the names of all that it concerns
Column = tuple[str, str]  # a task and one of its metrics, as result.json names it
Repeat = int | tuple[int, int]  # what distinguishes the runs of a cell: the seed, or seed and fold


@dataclasses.dataclass(frozen=True)
class Run:
    """A run's folder.

    Attributes:
      result: None where the run has not ended.
      curve: one record per evaluation.
      assessment: that of a run on custom data, if it has ended.
      choice: the choice of the values that it was trained at, if they were selected.
      predicted: what the best evaluation predicted, by part.
    """

    folder: str
    config: RunConfig
    result: Result | None
    curve: list[dict[str, Any]]
    encoder: EncoderConfig | None = None
    fingerprint: str = ""
    assessment: Assessment | None = None
    choice: Choice | None = None
    predicted: Mapping[str, Predicted] = dataclasses.field(default_factory=dict)

    @property
    def repeat(self) -> Repeat:
        return (self.config.seed, self.config.fold) if self.config.folds > 1 else self.config.seed

    @property
    def metrics(self) -> list[str]:
        """The metrics that it is scored by, if known yet; CoLA's accuracy, which nobody reports, is left out."""
        if self.config.custom_data and self.result is None:
            return []
        scored = scored_by(self.config, self.result.problem if self.result else "")
        return list(scored[: 1 if self.config.task == "cola" else None])

    @property
    def examples(self) -> int | None:
        """How many examples it was trained on; None if unknown, because it has not ended or an older version ran it."""
        return self.result.train_examples if self.result else None

    @property
    def low_resource(self) -> bool:
        """Whether it was trained on less than all of GLUE's training set."""
        return result.low_resource(self.config, self.examples)

    def passes(self, record: Mapping[str, Any]) -> float:
        """Returns the epochs up to a record of the curve: 1.5 in the middle of the second."""
        if self.config.eval_every == "epoch" or self.examples is None:
            return float(record["epoch"])
        return record["step"] / math.ceil(self.examples / self.config.batch_size)


def read_folder(folder: Path) -> tuple[list[Run], list[str]]:
    """Returns the runs below a folder, and a line for every kind of trouble there, which names all that it concerns."""
    runs, strays, problems = [], [], Problems(list)
    unreadable: list[OSError] = []
    chosen: dict[Path, dict[str, Choice]] = {}
    for root, folders, files in os.walk(folder, onerror=unreadable.append):
        path, name = Path(root), os.path.relpath(root, folder)
        folders.sort()
        if selection_file.FILE in files:
            folders[:] = [below for below in folders if below != selection_file.FOLDER]  # the runs that chose
            try:
                chosen[path] = {choice.cell: choice for choice in selection_file.read(path / selection_file.FILE)}
            except (OSError, ValueError):
                problems[f"{selection_file.FILE} is damaged, so the runs beside it are left out"].append(name)
                folders.clear()
                continue
        if marks := [file for file in ("config.toml", "result.json", "metrics.jsonl") if file in files]:
            folders.clear()
            if marks[0] == "config.toml":
                runs += _chosen(read_run(path, name, problems), chosen.get(path.parent), problems)
            else:
                problems[f"no run, since there is {marks[0]} but no config.toml"].append(name)
            continue
        strays += [
            os.path.relpath(path / file, folder)
            for file in files
            if not file.startswith((".", "report.", selection_file.FILE))
        ]
        if not folders and not files:
            problems["an empty folder"].append(name)
    for error in unreadable:
        problems[f"left out: {error.strerror}"].append(os.path.relpath(error.filename, folder))
    if strays:
        more = f" and {len(strays) - 20} more" if len(strays) > 20 else ""
        problems["not part of any run"] = [", ".join(sorted(strays)[:20]) + more]
    return runs, [f"{trouble}: {', '.join(names)}" for trouble, names in problems.items()]


def _chosen(runs: list[Run], choices: Mapping[str, Choice] | None, problems: Problems) -> list[Run]:
    """Returns the runs with the choice of their values, without those at values that are no longer chosen."""
    if choices is None:
        return runs
    kept = []
    for run in runs:
        if choice := choices.get(Path(run.folder).name.rpartition("-seed")[0]):
            kept.append(dataclasses.replace(run, choice=choice))
        else:
            problems[f"trained at values that {selection_file.FILE} does not name, so left out"].append(run.folder)
    return kept


def read_run(folder: Path, name: str, problems: Problems) -> list[Run]:
    """Returns the run of a folder, or none if its configuration is damaged. A damaged result counts as missing."""

    def read(file: str, parse: Callable[[str], Any], otherwise: Any) -> Any:
        try:
            return parse((folder / file).read_text(encoding="utf-8"))
        except FileNotFoundError:
            trouble = f"no {file}"
        except _BAD as error:
            trouble = f"{file} is damaged or not of a run ({' '.join(str(error).split())[:200]})"
        problems[f"{trouble}, so {_WITHOUT[file]}"].append(name)
        return otherwise

    config = read("config.toml", functools.partial(RunConfig.loads, where=folder), None)
    if config is None:
        return []
    ended = read("result.json", functools.partial(result.parse, config=config), None)
    if ended is None:
        return [Run(name, config, None, [])]
    curve = read("metrics.jsonl", functools.partial(_curve, config=config, result=ended), [])
    encoder, fingerprint = read("adapter/adapter.json", _card, (None, ""))
    assessment = read("evaluation.json", _assessment, None) if config.custom_data else None
    predicted = {}
    for part in (predictions.BEST, predictions.TEST):
        try:
            if (of_part := predictions.read(folder, part)) is not None:
                predicted[part] = of_part
        except ValueError as error:
            problems[f"{error}, so examples are not compared"].append(name)
    return [Run(name, config, ended, curve, encoder, fingerprint, assessment, predicted=predicted)]


def _curve(text: str, config: RunConfig, result: Result) -> list[dict[str, Any]]:
    records = [record for record in map(json.loads, text.splitlines()) if record["kind"] == "eval"]
    for record in records:
        read_evaluation(record, scored_by(config, result.problem))
    return records


def _assessment(text: str) -> Assessment:
    values = json.loads(text)
    return Assessment.from_json(values, from_json(values["problem"]))


def _card(text: str) -> tuple[EncoderConfig, str]:
    card = json.loads(text)
    return EncoderConfig(**card["encoder"]), str(card["fingerprint"])
