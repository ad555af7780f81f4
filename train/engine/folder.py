"""A run's folder: whether it belongs to this run, how far the run has come in it, and its checkpoints."""

import dataclasses
import json
import os
import shutil
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from adakron_jax.architectures.folder import pooling_in
from adakron_jax.io.files import write_whole
from adakron_jax.xla.precision import AUTO, name_here
from train import terminal
from train.engine import checkpoint, hosts
from train.engine.cache import Cache
from train.engine.checkpoint import Checkpoints
from train.engine.steps.step import TrainState
from train.options.config import DECIDED, RunConfig
from train.output import journal
from train.output.result import Result, parse

SPLITS = "splits.json"  # the rows of each part, counted from 1, and the task that the data pose
LOGS = 2**20  # bytes in a run's folder besides weights, roughly


def finished(config: RunConfig) -> Result | None:
    """Checks the run's folder against the configuration; returns the result, if the run has ended there.

    Raises:
      ValueError: the folder is a file, or `--resume` or the configuration does not allow what it holds.
    """
    folder = config.folder
    _check_path(folder)
    saved = folder / "config.toml"
    if not saved.is_file():
        if config.resume == "must":
            raise ValueError(f"resume is 'must', but {folder} holds no run")
        return None
    if config.resume == "never":
        raise ValueError(f"resume is 'never', but {folder} holds a run; give another --out")
    try:
        earlier = tomllib.loads(saved.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{folder}: its config.toml is damaged ({error}); give another --out") from None
    if differences := config.differences(earlier):
        raise ValueError(f"{folder} holds a run of another configuration: {'; '.join(differences)}; give another --out")
    if not (ended := folder / "result.json").is_file():
        return None
    try:
        result = parse(ended.read_text(encoding="utf-8"), config)
    except ValueError as error:
        raise ValueError(f"{ended}: damaged, or not of this run ({error}); give another --out") from None
    if result.journal not in ("", journal.digest_of(folder)):
        raise ValueError(f"{folder / journal.FILE}: damaged: not what the run has recorded; give another --out")
    return result


def _check_path(folder: Path) -> None:
    """Raises ValueError unless there is a folder at a path, or one can be made there."""
    for path in (folder, *folder.parents):
        try:
            path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise ValueError(f"out is {str(folder)!r:.200}: {error.strerror}; accepted: another path") from None
        if not os.path.isdir(path):
            dangling = path.is_symlink() and not path.exists()
            what = f"a link to {os.readlink(path)}, which does not exist" if dangling else "a file"
            raise ValueError(
                f"out is {str(folder)!r}, and {path} is {what}; accepted: a folder, or a path to a new one"
            )
        return


def decided(configs: Sequence[RunConfig], cache: Cache) -> list[RunConfig]:
    """Returns the configurations of runs that train together, with the precision and pooling that they leave open.

    Both are those of the run in the folder, so that it continues as it began, on any machine; else this machine's
    precision, and the encoder's pooling. A head that reads every token has no pooling.

    Raises:
      ValueError: the runs began with different ones.
    """
    names = {"precision": name_here, "pooling": lambda word: pooling_in(cache.model.folder, word)}
    for name in DECIDED:
        left_open = getattr(configs[0], name) == AUTO
        if left_open and (name != "pooling" or cache.loader.problem(configs[0]).reads == "example"):
            configs = _decided(configs, name, names[name])
    return list(configs)


def _decided(configs: Sequence[RunConfig], field: str, resolved: Callable[[str], str]) -> list[RunConfig]:
    saved = [config.folder / "config.toml" for config in configs]
    begun = [RunConfig.loads(path.read_text(encoding="utf-8"), path.parent) for path in saved if path.is_file()]
    names = {resolved(getattr(config, field)) for config in (begun or configs[:1])}
    if len(names) > 1:
        raise ValueError(
            f"{field} is {AUTO!r}, and the runs began with {' and '.join(sorted(names))}; accepted: one for all"
        )
    return [dataclasses.replace(config, **{field: name}) for config in configs for name in names]


def reached(config: RunConfig) -> int:
    """Returns the step of the last checkpoint in the run's folder; 0 if there is none."""
    return max(_steps(config), default=0)


def common_step(configs: Sequence[RunConfig]) -> int | None:
    """Returns the step from which runs can continue together: the last that all saved, or 0; None if there is none.

    A process that was killed may have saved some of them at one step more than the others.
    """
    step = min(map(reached, configs))
    # Runs with fewer checkpoints than are kept have only just begun, and can start again.
    able = (step in steps or (not step and len(steps) < checkpoint.KEEP) for steps in map(_steps, configs))
    return step if all(able) else None


def _steps(config: RunConfig) -> list[int]:
    """Returns the steps of the checkpoints in the run's folder."""
    folder = config.folder / "checkpoints"
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return [int(name) for name in names if name.isdecimal()]


def open_folder(
    config: RunConfig, state: TrainState, parts: Mapping[str, Any], upto: int | None = None
) -> tuple[Checkpoints, TrainState]:
    """Makes the run's folder, or continues from what it holds; returns its checkpoints, and the state to start from.

    Args:
      upto: the step to continue from, where the run has saved later ones too.
      parts: the contents of `splits.json`, if there is to be one; ValueError if there is another.
    """
    out, splits = config.folder, json.dumps(parts).encode() + b"\n"
    if parts and (out / SPLITS).is_file() and (out / SPLITS).read_bytes() != splits:
        raise ValueError(f"{out} holds a run on other rows than are now in {config.data}; give another --out")
    if hosts.is_writer():
        _make(out, checkpoint.space(state) + LOGS)
    hosts.check_shared(out)
    checkpoints = Checkpoints(out)
    try:
        resumed, damaged = checkpoints.restore(state, upto)
    except checkpoint.Damaged:
        checkpoints.close()
        raise
    for line in damaged:
        terminal.say(f"{line}; the one before is used")
    if hosts.is_writer():
        write_whole(out / "config.toml", config.dumps())
        if parts:
            write_whole(out / SPLITS, splits)
    return checkpoints, state if resumed is None else resumed


def _make(out: Path, needed: int) -> None:
    """Makes a folder; raises ValueError, and makes none, if fewer bytes than needed are free."""
    out.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(out).free) < needed and not any(out.iterdir()):
        out.rmdir()
        raise ValueError(f"out is {str(out)!r}: no room on disk, {free:,} bytes are free; accepted: {needed:,} or more")
