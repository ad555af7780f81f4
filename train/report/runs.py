"""Reads run folders for a report: what is whole becomes a `Run`, all else a line that names it."""

import dataclasses
import functools
import json
import os
import tomllib
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from adakron_jax.config import EncoderConfig
from adakron_jax.splice import fits, make_method
from train.config import RunConfig
from train.tasks import TASKS

_WITHOUT = {
    "config.toml": "left out",
    "result.json": "left out as a run that has not ended",
    "metrics.jsonl": "its learning curve is left out",
    "adapter/adapter.json": "its encoder is taken to be that of other runs with the same name, if there are any",
}
_BAD = (OSError, ValueError, TypeError, KeyError, RecursionError)  # what a file that no run wrote may raise

Column = tuple[str, str]  # a task and one of its metrics, as result.json names it


def metrics(task: str) -> list[str]:
    """A task's columns: its metrics on every development split; CoLA's accuracy, which nobody reports, is none."""
    shown = TASKS[task].metrics[: 1 if task == "cola" else None]
    return [metric + suffix for suffix in TASKS[task].dev_splits.values() for metric in shown]


@dataclasses.dataclass(frozen=True)
class Run:
    """A run's folder. `result` is empty where the run has not ended, `curve` one record an evaluation."""

    folder: str
    config: RunConfig
    result: Mapping[str, Any]
    curve: list[dict[str, Any]]
    encoder: EncoderConfig | None = None
    fingerprint: str = ""


def read_folder(folder: Path) -> tuple[list[Run], list[str]]:
    """The runs below a folder, and a line for every kind of trouble there, which names all it concerns."""
    runs, strays = [], []
    problems: dict[str, list[str]] = {}
    unreadable: list[OSError] = []
    for here, folders, files in os.walk(folder, onerror=unreadable.append):
        path, name = Path(here), os.path.relpath(here, folder)
        folders.sort()
        if marks := [file for file in ("config.toml", "result.json", "metrics.jsonl") if file in files]:
            folders.clear()
            if marks[0] == "config.toml":
                runs += read_run(path, name, problems)
            else:
                problems.setdefault(f"no run, since there is {marks[0]} but no config.toml", []).append(name)
            continue
        strays += [os.path.relpath(path / file, folder) for file in files if not file.startswith((".", "report."))]
        if not folders and not files:
            problems.setdefault("an empty folder", []).append(name)
    for error in unreadable:
        problems.setdefault(f"left out: {error.strerror}", []).append(os.path.relpath(error.filename, folder))
    if strays:
        more = f" and {len(strays) - 20} more" if len(strays) > 20 else ""
        problems["part of no run"] = [", ".join(sorted(strays)[:20]) + more]
    return runs, [f"{trouble}: {', '.join(names)}" for trouble, names in problems.items()]


def read_run(folder: Path, name: str, problems: dict[str, list[str]]) -> list[Run]:
    """The run of a folder, or none where its configuration is damaged. A damaged result counts as missing."""

    def read(file: str, parse: Callable[[str], Any], otherwise: Any) -> Any:
        try:
            return parse((folder / file).read_text(encoding="utf-8"))
        except FileNotFoundError:
            trouble = f"no {file}"
        except _BAD as error:
            trouble = f"{file} damaged or foreign ({' '.join(str(error).split())[:200]})"
        problems.setdefault(f"{trouble}, so {_WITHOUT[file]}", []).append(name)
        return otherwise

    config = read("config.toml", _config, None)
    if config is None:
        return []
    result = read("result.json", functools.partial(_result, config=config), {})
    curve = read("metrics.jsonl", functools.partial(_curve, task=config.task), []) if result else []
    encoder, fingerprint = read("adapter/adapter.json", _card, (None, "")) if result else (None, "")
    return [Run(name, config, result, curve, encoder, fingerprint)]


def _config(text: str) -> RunConfig:
    values = tomllib.loads(text)
    fields = dict(values.pop("method"))
    hints = typing.get_type_hints(RunConfig)
    for key, value in values.items():
        if key not in hints or not (fits(value, hints[key]) or (hints[key] is float and fits(value, int))):
            raise ValueError(f"{key} is {value!r}")
    return RunConfig(**values, method=make_method(fields.pop("name"), fields))


def _result(text: str, config: RunConfig) -> dict[str, Any]:
    result = json.loads(text)
    fields = dict(result["method"])
    theirs = {"method": make_method(fields.pop("name"), fields)} | {
        key: result[key] for key in ("task", "model", "seed")
    }
    for key, value in theirs.items():
        if value != getattr(config, key):
            raise ValueError(f"{key} is {value!r}, but {getattr(config, key)!r} in config.toml")
    for which in ("best", "last"):
        _check(result[which], config.task)
    if not fits(result["params"]["method"], int) or not fits(result["params"]["head"], int):
        raise ValueError(f"params are {result['params']!r}")
    if not fits(result["collapsed"], bool):
        raise ValueError(f"collapsed is {result['collapsed']!r}")
    return result


def _check(record: Mapping[str, Any], task: str) -> None:
    for key in ("epoch", "step"):
        if not fits(record[key], int):
            raise ValueError(f"{key} is {record[key]!r}")
    for metric in metrics(task):
        if not isinstance(record[metric], float | int) or not -1 <= record[metric] <= 1:
            raise ValueError(f"{metric} is {record[metric]!r}")


def _curve(text: str, task: str) -> list[dict[str, Any]]:
    records = [record for record in map(json.loads, text.splitlines()) if record["kind"] == "eval"]
    for record in records:
        _check(record, task)
    return records


def _card(text: str) -> tuple[EncoderConfig, str]:
    card = json.loads(text)
    return EncoderConfig(**card["encoder"]), str(card["fingerprint"])
