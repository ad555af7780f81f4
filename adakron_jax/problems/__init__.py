"""What a head predicts, one file per kind: how labels are read, the loss, predictions, metrics, page, served form.

A new kind is a file that follows the contract of `problem.py`, and its class in the tuple below.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from adakron_jax.data.table import Table
from adakron_jax.problems.classification import Classification
from adakron_jax.problems.multilabel import Multilabel
from adakron_jax.problems.prediction import Prediction as Prediction
from adakron_jax.problems.problem import Problem as Problem
from adakron_jax.problems.regression import Regression
from adakron_jax.problems.tokens import Tokens

KINDS: dict[str, type[Problem]] = {kind.name: kind for kind in (Classification, Multilabel, Regression, Tokens)}
_ASKED = (Tokens, Multilabel, Regression, Classification)  # the order in which a column is tried; the last takes all


def kind_of(name: str, *others: str) -> type[Problem]:
    """Returns the kind of a name; ValueError lists the known names, after `others`."""
    if name not in KINDS:
        raise ValueError(f"problem is {name!r}; accepted: {', '.join((*others, *KINDS))}")
    return KINDS[name]


def make(kind: str, labels: Sequence[str] = (), **fields: Any) -> Problem:
    """Makes a problem of a kind from its fields; ValueError if they are not valid for it."""
    return kind_of(kind)(tuple(labels), **fields)


def from_json(fields: Mapping[str, Any]) -> Problem:
    """Makes a problem from fields that `as_json` returned; KeyError, TypeError or ValueError if they are not valid."""
    mean, scale = fields["targets"]["mean"], fields["targets"]["scale"]
    unit = {} if (mean, scale) == (0, 1) else {"mean": mean, "scale": scale}
    return make(fields["problem"], fields["labels"], **unit)


def of_labels(labels: int | Sequence[str], name: str, before: Problem | None = None) -> Problem:
    """Returns the problem of this number of labels, named by their numbers, or of labels with names.

    Returns `before`, with its unit and its labels' names, if the arguments ask for nothing else.
    """
    kind = kind_of(name)
    if isinstance(labels, bool | str):
        raise ValueError(f"labels is {labels!r}; accepted: a number, or a list of names")
    if kind.reads == "token" and isinstance(labels, int):
        raise ValueError(f"labels is {labels}; accepted: a list of kinds of entity, or of tags, of problem {name}")
    if isinstance(before, kind) and labels == before.outputs:
        return before
    return kind.of_count(labels) if isinstance(labels, int) else kind.of_names(labels)


def infer(table: Table, columns: Sequence[str], name: str = "auto", **tags: str) -> Problem:
    """Infers the problem that a table's label columns pose.

    Lists beside lists of words, or of spans of the text, are tokens; several columns, or other lists in one column, are
    multilabel; numbers at least one of which has a fraction are a regression (whose unit is not known yet); everything
    else is a classification. Labels keep their spelling and are sorted, whole numbers by value, unless the table gives
    their order; the labels of several columns are the columns' names.

    Args:
      name: `auto`, or the name of the required kind.
      tags: fields of `Tokens` that a table does not tell: `scheme`, `pieces`.

    Raises:
      ValueError: a column is missing, a cell is empty or of another kind, or there is only one label.
    """
    kind = None if name == "auto" else kind_of(name, "auto")
    if not len(table):
        raise ValueError(f"{table.origin}: no rows; accepted: at least one")
    if len(columns) > 1 and kind not in (None, Multilabel):
        raise ValueError(f"label is {' '.join(columns)}, and problem {name!r}; accepted: one column, or multilabel")
    if len(columns) == 1:
        for row, cell in enumerate(table[columns[0]]):
            if cell is None or isinstance(cell, str) and not cell.strip():
                raise ValueError(f"{table.at(row)}: {columns[0]} is empty; accepted: a label in every row")
    if kind is None:
        kind = next(kind for kind in _ASKED if kind.suits(table, columns))
    if kind is Tokens:
        return Tokens.infer(table, columns, **tags)
    for name, value in tags.items():
        if value != getattr(Tokens, name):
            raise ValueError(f"{name} is {value!r}, and {' '.join(columns)} has labels of texts; accepted: with tags")
    return kind.infer(table, columns)
