"""The parts of the data: what trains, what chooses the epoch, and what is scored once at the end."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from adakron_jax.data.examples import Examples
from adakron_jax.problems import Problem
from train.data.task import Task

SHARE = 0.1  # of the training rows, to choose the epoch where nothing else does


def share(said: str) -> float:
    """Returns the share that `--validation` or `--test` names; 0 if it names a split or a file."""
    try:
        value = float(said)
    except ValueError:
        return 0.0
    if not 0 < value < 1:
        raise ValueError(f"{said!r} is not a share; accepted: more than 0, less than 1, a split or a file")
    return value


@dataclasses.dataclass(frozen=True)
class Drawing:
    """Which shares of the training rows go into which part, whatever the seed of a run.

    Attributes:
      validation, test: shares, of 1, that choose the epoch and that are scored at the end; 0 if other rows do.
      folds, fold: the number of equal parts, and the one, from 1, that chooses instead of a share; 1 fold is none.
      seed: the seed of the drawing.
      limit_train, limit_eval: the most examples of each part: the first of GLUE's, or drawn ones of custom data.
    """

    validation: float = 0.0
    test: float = 0.0
    folds: int = 1
    fold: int = 1
    seed: int = 0
    limit_train: int | Literal["all"] = "all"
    limit_eval: int | Literal["all"] = "all"

    @property
    def draws(self) -> bool:
        """Whether a part of the training rows chooses the epoch."""
        return self.validation > 0 or self.folds > 1


@dataclasses.dataclass(frozen=True)
class Splits:
    """Examples by part.

    Attributes:
      task: the task, with its problem fitted to the training part.
      train: examples with the labels that the head is trained on, standardised for a regression.
      validation, test: examples by split, with labels in their original unit.
      rows: part -> numbers of its examples in their file or split, from 1.
      repeated: part -> how many of its examples are also in the training part.
    """

    task: Task
    train: Examples
    validation: dict[str, Examples]
    test: dict[str, Examples]
    rows: dict[str, list[int]]
    repeated: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        return {"rows": self.rows, "repeated_from_train": self.repeated}


def draw_splits(
    task: Task, sets: Mapping[str, Examples], drawing: Drawing, documents: Int[np.ndarray, " examples"] | None = None
) -> Splits:
    """Draws the parts that come from the training set, and fits a regression's unit to what is left of it.

    Args:
      sets: `train`, and those of the task's splits that are not drawn.
      documents: the number of each training row's document, which then falls to one part as a whole.

    Raises:
      ValueError: the shares leave nothing, a part is empty, there are fewer training rows than classes, or all targets
        are equal.
    """
    if drawing.validation + drawing.test >= 1:
        shares = f"validation is {drawing.validation:g} and test {drawing.test:g}"
        raise ValueError(f"{shares} of the rows; accepted: less than all of them together")
    whole, rows = sets["train"], {}
    targets, left, held = task.problem.targets_of(whole), np.arange(whole.count), dict(sets)
    document_of = np.arange(whole.count) if documents is None or len(set(documents.tolist())) < 2 else documents
    if drawing.test:
        (name,) = task.test_splits
        mask = hold_out(task.problem, targets, drawing.test, drawing.seed, document_of)
        rows[name], left = left[mask], left[~mask]
    if drawing.draws:
        (name,) = task.dev_splits
        remaining = targets[left]
        if drawing.folds > 1:
            mask = hold_fold(task.problem, remaining, drawing.folds, drawing.fold, drawing.seed, document_of[left])
        else:
            share_left = drawing.validation * whole.count / len(left)
            mask = hold_out(task.problem, remaining, share_left, drawing.seed, document_of[left])
        rows[name], left = left[mask], left[~mask]
    for name, taken in rows.items():
        if not len(taken):
            least = "a share that takes at least one" if drawing.folds == 1 else "fewer folds"
            least += task.problem.undrawn(targets)
            raise ValueError(f"{name}: no row of {whole.count} falls to it; accepted: {least}")
        held[name] = whole.take(taken)
    draw = bool(task.fingerprint)  # custom data may be in any order, even sorted by label
    left = left[limited(task.problem, targets[left], drawing.limit_train, drawing.seed, draw)]
    train = whole.take(left)
    problem = task.problem.fitted(train.labels)
    rows, parts = {"train": left, **rows}, {}
    for name in (*task.dev_splits, *task.test_splits):
        of_part = task.problem.targets_of(held[name])
        taken = limited(task.problem, of_part, drawing.limit_eval, drawing.seed, draw)
        parts[name] = held[name].take(taken)
        if name in rows:
            rows[name] = rows[name][taken]
    # GLUE's own splits need no such check.
    asked = parts if drawing.draws or task.fingerprint else {}
    known = _digests(train) if asked else np.zeros(0, np.int64)
    return Splits(
        task=dataclasses.replace(task, problem=problem),
        train=dataclasses.replace(train, labels=problem.standardize(train.labels)),
        validation={name: parts[name] for name in task.dev_splits},
        test={name: parts[name] for name in task.test_splits},
        rows={name: (taken + 1).tolist() for name, taken in rows.items()},
        repeated={name: int(np.isin(_digests(examples), known).sum()) for name, examples in asked.items()},
    )


def hold_out(
    problem: Problem, targets: Any, share: float, seed: int, documents: Int[np.ndarray, " examples"] | None = None
) -> Bool[np.ndarray, " examples"]:
    """Returns a mask of the rows in a share: about the same share of every stratum, and documents as a whole."""
    if documents is not None and (at := _by_document(documents, seed)) is not None:
        return _sparing_each_label(problem, targets, at < share, documents)
    order, rng = _by_stratum(problem, targets, seed)
    steps = np.floor(np.arange(len(order) + 1) * share + rng.random())
    held = np.zeros(len(order), bool)
    held[order] = np.diff(steps) > 0
    return _sparing_each_label(problem, targets, held)


def hold_fold(
    problem: Problem,
    targets: Any,
    folds: int,
    fold: int,
    seed: int,
    documents: Int[np.ndarray, " examples"] | None = None,
) -> Bool[np.ndarray, " examples"]:
    """Returns a mask of the rows in a fold, counted from 1; every row is in one fold, and so is every document."""
    if documents is not None and (at := _by_document(documents, seed)) is not None:
        return _sparing_each_label(problem, targets, np.floor(at * folds).astype(int) == fold - 1, documents)
    order, _ = _by_stratum(problem, targets, seed)
    held = np.zeros(len(order), bool)
    held[order[fold - 1 :: folds]] = True
    return _sparing_each_label(problem, targets, held)


def _by_document(documents: Int[np.ndarray, " examples"], seed: int) -> Float[np.ndarray, " examples"] | None:
    """Returns each row's place, 0 to 1, by the middle of its document in a random order; None if each row is one."""
    _, number, sizes = np.unique(documents, return_inverse=True, return_counts=True)
    if len(sizes) == len(documents):
        return None
    order = np.random.default_rng(seed).permutation(len(sizes))
    middle = np.empty(len(sizes))
    middle[order] = np.cumsum(sizes[order]) - sizes[order] / 2
    return (middle / len(documents))[number]


def limited(
    problem: Problem, targets: Any, limit: int | Literal["all"], seed: int, draw: bool
) -> Int[np.ndarray, " rows"]:
    """Returns the numbers of at most `limit` rows, in their order: the first, or drawn ones.

    Those drawn are about the same share of every stratum, and at least one row of each if the limit allows.
    """
    count = len(targets) if limit == "all" else min(limit, len(targets))
    if count == len(targets) or not draw:
        return np.arange(count)
    order, rng = _by_stratum(problem, targets, seed)
    _, firsts = np.unique(problem.strata(targets)[order], return_index=True)
    firsts = firsts if len(firsts) <= count else firsts[:0]  # in a regression each value is a stratum
    others = np.setdiff1d(np.arange(len(order)), firsts)
    steps = np.floor((np.arange(count - len(firsts)) + rng.random()) * len(others) / max(1, count - len(firsts)))
    return np.sort(order[np.concatenate([firsts, others[steps.astype(int)]])])


def _by_stratum(problem: Problem, targets: Any, seed: int) -> tuple[np.ndarray, np.random.Generator]:
    """Returns the rows by stratum, such as their class, shuffled within each; and the generator that did so."""
    rng = np.random.default_rng(seed)
    return np.lexsort((rng.random(len(targets)), problem.strata(targets))), rng


def _sparing_each_label(
    problem: Problem, targets: Any, held: np.ndarray, documents: Int[np.ndarray, " examples"] | None = None
) -> np.ndarray:
    """Takes a row, or a document, out of the mask for every label that would otherwise be in no row that is left."""
    for rows in problem.carriers(targets):
        if len(rows) and held[rows].all():
            held[rows[0] if documents is None else documents == documents[rows[0]]] = False
    return held


def _digests(examples: Examples) -> np.ndarray:
    """Returns a number for each example, the same for the same tokens."""
    tokens = (examples.tokens[start:end].tobytes() for start, end in itertools.pairwise(examples.offsets))
    return np.fromiter(map(hash, tokens), np.int64, len(examples))
