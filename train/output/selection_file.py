"""`selection.json`: what was chosen on held-out rows, and from what."""

import dataclasses
import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from adakron_jax.io.fields import from_mapping
from adakron_jax.io.files import write_whole
from train.data.task import metric_of

FILE = "selection.json"
FOLDER = "selection"  # the runs that chose, beside the file
CHOSEN = "chosen"  # one of a candidate's notes
RULE = (
    "Of the values offered, the one with the best mean score on the held-out rows is chosen, the lowest of equals; "
    "another within one standard error of it is not preferred for being lower or cheaper."
)


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One value of each selected field, and its scores on the held-out rows.

    Attributes:
      values: values by field, as `--select` names it.
      scores: one per seed, or per seed and fold, after `epoch`; empty if a run failed or has not ended.
      epoch: the epoch that counts: the last, or, where the epoch is selected, the best on average.
      grown: whether it lies beyond an edge of the values that were asked for.
      error: why it has no score.
    """

    values: Mapping[str, Any]
    scores: tuple[float, ...]
    epoch: int
    grown: bool = False
    error: str = ""

    @property
    def mean(self) -> float:
        return statistics.fmean(self.scores)

    @property
    def standard_error(self) -> float | None:
        """The standard error of the mean over seeds and folds; None if there is only one."""
        return statistics.stdev(self.scores) / math.sqrt(len(self.scores)) if len(self.scores) > 1 else None


@dataclasses.dataclass(frozen=True)
class Choice:
    """What was chosen for a task and a method.

    Attributes:
      group: the name of its cells, without the selected values and the seed.
      cell: the name of the cells at the chosen value, without the seed.
      metric: the metric that chose.
      fields: the fields that were selected.
      held_out: how the held-out rows were drawn: a share, a split or a file, or `N folds`.
      chosen: the number of the chosen candidate.
      edges: the fields in which the chosen value is at an edge of all that was tried, `lowest` or `highest`.
    """

    group: str
    cell: str
    task: str
    metric: str
    fields: tuple[str, ...]
    held_out: str
    candidates: tuple[Candidate, ...]
    chosen: int
    edges: Mapping[str, str]

    @property
    def best(self) -> Candidate:
        return self.candidates[self.chosen]

    def words(self, candidate: Candidate) -> str:
        """Returns a candidate's values, such as `learning rate 0.001, epoch 3`."""
        return in_words(dict(candidate.values) | ({"epoch": candidate.epoch} if "epochs" in self.fields else {}))

    def shown(self, candidate: Candidate) -> str:
        """Returns a candidate's score, such as `accuracy 66.67` or `accuracy 66.67, standard error 1.20`."""
        if not candidate.scores:
            return "no score"
        show, error = metric_of(self.metric).show, candidate.standard_error
        return f"{self.metric} {show(candidate.mean)}" + ("" if error is None else f", standard error {show(error)}")

    def notes(self, candidate: Candidate) -> Iterator[str]:
        """Yields what else there is to know about a candidate."""
        if candidate == self.best:
            yield CHOSEN
            yield from (f"the {side} {field.replace('_', ' ')} tried" for field, side in self.edges.items())
        if candidate.grown:
            yield "beyond those asked for"
        if candidate.error:
            yield f"failed: {candidate.error}"


def in_words(values: Mapping[str, Any]) -> str:
    """Returns values in words, such as `learning rate 0.001, batch size 32`."""
    shown = {name: f"{value:g}" if isinstance(value, float) else value for name, value in values.items()}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in shown.items())


def best_of(candidates: Sequence[Candidate], metric: str) -> int | None:
    """Returns the number of the candidate that RULE chooses; None if none has a score."""
    scored = [number for number, candidate in enumerate(candidates) if candidate.scores]
    merit = metric_of(metric).merit if scored else float
    order = [(-merit(candidates[number].mean), *candidates[number].values.values(), number) for number in scored]
    return min(order)[-1] if order else None


def edges_of(candidates: Sequence[Candidate], best: Candidate) -> dict[str, str]:
    """Returns the numeric fields in which the best value is the lowest or the highest of all that was tried."""
    edges = {}
    for field, value in best.values.items():
        known = sorted({candidate.values[field] for candidate in candidates})
        if len(known) > 1 and is_number(value) and value in (known[0], known[-1]):
            edges[field] = "lowest" if value == known[0] else "highest"
    return edges


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def write(folder: Path, choices: Sequence[Choice]) -> None:
    """Writes what was chosen, and keeps the folder's choices for other tasks and methods."""
    path = folder / FILE
    known = {choice.group: choice for choice in (read(path) if path.is_file() else ())}
    known |= {choice.group: choice for choice in choices}
    values = {"rule": RULE, "choices": [dataclasses.asdict(choice) for choice in known.values()]}
    write_whole(path, json.dumps(values, indent=2).encode() + b"\n")


def read(path: Path) -> list[Choice]:
    """Reads the choices of a `selection.json`; ValueError if it is damaged."""
    try:
        choices = []
        for values in json.loads(path.read_text(encoding="utf-8"))["choices"]:
            candidates = tuple(from_mapping(Candidate, candidate, "candidate") for candidate in values["candidates"])
            choice = from_mapping(Choice, values | {"candidates": candidates})
            if not (0 <= choice.chosen < len(candidates) and choice.best.scores):
                raise ValueError(f"chosen is {choice.chosen}; accepted: the number of a candidate with scores")
            metric_of(choice.metric)
            choices.append(choice)
        return choices
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{path}: damaged ({' '.join(str(error).split()):.200}); give another --out") from None
