"""`fit`: the training program as a function."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from adakron_jax.classifier import TextClassifier
from adakron_jax.data.frames import frame_of, is_frame, of_frame, of_records
from adakron_jax.data.labels import plain
from adakron_jax.data.table import Table
from adakron_jax.io.messages import near, printable
from adakron_jax.methods import AdaKron
from adakron_jax.splice import Method
from adakron_jax.token_classifier import TokenClassifier, load
from train import faults, signals
from train.data.sources import ROWS
from train.data.task import metric_of
from train.data.token_cache import content
from train.grid.cells import Cell
from train.options.command import Command, command_of, typed_values
from train.options.config import RunConfig, options
from train.options.launch import VARIED, Launch
from train.runs import failures, run_grid, run_one

OPTIONAL = ("text", "label", "out")  # arguments that may be left empty
COMMAND_ONLY = ("hosts", "dry_run")  # flags that `fit` does not take


def fit(
    data: Any,
    *,
    text: str | Sequence[str] = (),
    label: str | Sequence[str] = (),
    model: str | os.PathLike[str],
    method: str | Method | Mapping[str, Any] | Sequence[Any] = AdaKron.name,
    out: str | os.PathLike[str] = "",
    **flags: Any,
) -> TextClassifier | TokenClassifier:
    """Fine-tunes an encoder as `adakron train` does, and returns the classifier of the best evaluation.

        from train import fit

        classifier = fit(frame, text="review", label="sentiment", model="bert-base-uncased", out="runs/reviews")
        classifier.result.best.scores, classifier.predict("a fine film").label

    The run's folder is like the command's: the same call continues the run or reads its result, and `adakron predict`,
    `serve` and `report` accept it. Rows in memory are recorded there by their hash. Ctrl-C saves a checkpoint first.

    Args:
      data: a path or anything else that `--data` takes; a frame of pandas, polars, pyarrow or `datasets`; or a list of
        dicts. `validation` and `test` may be frames or lists too.
      text, label: the columns of the texts and of the labels.
      model: a hub id, a folder, or `pkg:NAME`.
      method: a method, or its name.
      out: the run's folder; by default `runs/TASK-METHOD-seedN`.
      **flags: any other flag of the command, by name, such as `epochs=5`. Lists of methods, learning rates or seeds
        make a grid. `select=True` chooses from lists of values on held-out rows, as `--select` does for the fields
        that it names.

    Returns:
      The classifier, with the run's record as its `result`; for a grid, that of the cell with the best evaluation, with
      a frame of all cells as its `table`.

    Raises:
      ValueError: an argument, a row or a label is not accepted; the message says what is.
      KeyboardInterrupt: the run was stopped; its checkpoint is kept.
      Diverged: the loss is no longer a finite number.
    """
    values = {"data": data, "text": text, "label": label, "model": model, "method": method, "out": out, **flags}
    values = {name: value for name, value in values.items() if name not in OPTIONAL or value not in ("", ())}
    rows = _take_rows(values)
    command = _command(values, {name: len(table) for name, table in rows.items()})
    if rows and command.launch.workers:
        raise ValueError(f"workers is {command.launch.workers!r}, and data are rows; accepted: a file's path with it")
    faults.demand_files()
    precision = jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]
    try:
        return _fitted_grid(command, rows) if command.grid else _fitted_run(command, rows)
    except signals.Stopped as stop:
        folder = command.runs[0].folder.parent if command.grid else command.runs[0].folder
        raise KeyboardInterrupt(f"{stop}; the checkpoint is kept in {folder}, and the same call continues") from None
    finally:
        jax.config.update("jax_default_matmul_precision", precision)


def _take_rows(values: dict[str, Any]) -> dict[str, Table]:
    """Replaces the rows among the values by names, and returns the tables by these names."""
    columns = [name for key in ("text", "label") for name in _listed(values.get(key, getattr(RunConfig, key)))]
    rows = {}
    for name in ("data", "validation", "test"):
        given = values.get(name)
        if is_frame(given):
            table = of_frame(given, columns, name)
        elif isinstance(given, list | tuple) and given and all(isinstance(row, Mapping) for row in given):
            table = of_records(given, columns, name)
        elif name == "data" and not isinstance(given, str | os.PathLike):
            said = printable(f"{given!r:.60}")
            raise ValueError(f"data is {said}; accepted: a path, a frame (collect a lazy one), or a list of dicts")
        else:
            if isinstance(given, float):  # a share
                values[name] = str(given)
            continue
        values[name] = f"{ROWS}{content(table)[:16]}"
        rows[values[name]] = table
    return rows


def _listed(columns: str | Sequence[str]) -> Sequence[str]:
    return [columns] if isinstance(columns, str) else columns


def _command(values: Mapping[str, Any], sizes: Mapping[str, int]) -> Command:
    """Returns the command that the arguments describe; raises as `parse_command` does."""
    of_run, of_launch = options(RunConfig), options(Launch)
    for name in values:
        if name not in of_run and name not in of_launch:
            known = [*of_run, *of_launch]
            means = ", ".join(near(name, known) or known[:4])
            raise ValueError(f"unknown argument {name!r:.100}; accepted: {means}, or another flag of adakron train")
        if name in COMMAND_ONLY:
            raise ValueError(f"{name} is {values[name]!r}; accepted: on the command line, adakron train")
    plain_values = {name: _plain(value) for name, value in values.items()}
    if isinstance(plain_values.get("select"), bool):
        several = [name for name in VARIED if isinstance(plain_values.get(name), list)] or ["learning_rate"]
        plain_values["select"] = several if plain_values["select"] else []
    command = command_of(typed_values(plain_values), sizes=sizes)
    if len(tasks := {run.task for run in command.runs}) > 1:
        raise ValueError(f"task is {', '.join(sorted(tasks))}; accepted: one, or a grid of adakron train")
    return command


def _plain(value: Any) -> Any:
    """Returns a value with paths as strings, NumPy's numbers as Python's, and other sequences as lists."""
    if isinstance(value, list | tuple | range):
        return [_plain(item) for item in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else plain(value)


def _fitted_run(command: Command, rows: Mapping[str, Table]) -> TextClassifier | TokenClassifier:
    result = run_one(command, rows)
    classifier = load(command.runs[0].folder)
    classifier.result = result
    return classifier


def _fitted_grid(command: Command, rows: Mapping[str, Table]) -> TextClassifier | TokenClassifier:
    cells = run_grid(command, rows)
    if not (ended := [cell for cell in cells if cell.result is not None]):
        raise RuntimeError(failures(cells))
    best = max(ended, key=_merit)
    classifier = load(best.config.folder)
    classifier.result, classifier.table = best.result, _table(cells)
    return classifier


def _merit(cell: Cell) -> float:
    """Returns the headline score of a cell's best evaluation, signed so that higher is better."""
    assert cell.result is not None
    metric, score = next(iter(cell.result.best.scores.items()))
    return metric_of(metric).merit(score)


def _table(cells: Sequence[Cell]) -> Any:
    """Returns a pandas frame with a row per cell: what varies, and the scores of the best evaluation and the test."""
    records = []
    for cell in cells:
        config, result = cell.config, cell.result
        record = {"cell": cell.name, "method": config.method.name, "learning_rate": config.learning_rate}
        record |= {"seed": config.seed, "fold": config.fold, "state": cell.state}
        if result is not None:
            record |= {"epoch": result.best.epoch, **result.best.scores}
            record |= {f"test_{name}": score for name, score in result.test.items()}
        records.append(record | {"folder": str(config.folder)})
    return frame_of(records)
