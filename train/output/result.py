"""`result.json` read back, held against the configuration of its run."""

import importlib.metadata
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from adakron_jax.files import write_whole
from adakron_jax.splice import fits, make_method
from train.data.glue import TASKS
from train.options.config import RunConfig

# What older versions did not write.
_UNSAID = {"stopped_early": False, "train_examples": None, "together": 1}
_KINDS: dict[str, Any] = {
    "best_by": str,
    "collapsed": bool,
    "stopped_early": bool,
    "train_examples": int | None,
    "together": int,
    "params": {"method": int, "head": int},
    "throughput": {"examples_per_second": float | int, "padding_fraction": float | int},
    "compilations": {"train": int},
    "seconds": dict.fromkeys(("compile", "train", "eval", "total"), float | int),
}


def parse(text: str, config: RunConfig) -> dict[str, Any]:
    """The result of a configuration's run, complete with what older versions did not write.

    Raises:
      ValueError: it is damaged, of another run, or nothing that a run wrote.
    """
    try:
        result = _UNSAID | json.loads(text)
        fields = dict(result["method"])
        theirs = {name: result[name] for name in ("task", "model", "seed")}
        theirs["method"] = make_method(fields.pop("name"), fields)
        for name, value in theirs.items():
            if value != getattr(config, name):
                raise ValueError(f"{name} is {value!r}, but {getattr(config, name)!r} in config.toml")
        for name, kind in _KINDS.items():
            _check(name, result[name], kind)
        for which in ("best", "last"):
            check_scores(result[which], config.task)
    except KeyError as error:
        raise ValueError(f"no {error}") from None
    except (TypeError, AttributeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    return result


def low_resource(config: RunConfig, examples: int | None) -> bool:
    """Whether a run learns from less than all of GLUE's training set: by its examples, or else by what it asked for."""
    if config.data == "mini" or config.train_split != "train":
        return True
    if examples is None:
        return config.limit_train != "all"
    return examples < TASKS[config.task].train_examples


def check_scores(record: Mapping[str, Any], task: str) -> None:
    """ValueError or KeyError unless a record has an epoch, a step, and scores of the task's, all in [-1, 1]."""
    for key in ("epoch", "step"):
        _check(key, record[key], int)
    for name in TASKS[task].scored:
        _check(name, record[name], float | int)
        if not -1 <= record[name] <= 1:
            raise ValueError(f"{name} is {record[name]!r}")


def _check(name: str, value: Any, kind: Any) -> None:
    if isinstance(kind, dict):
        for key, inner in kind.items():
            _check(f"{name}.{key}", value[key], inner)
    elif not fits(value, kind):
        raise ValueError(f"{name} is {value!r}")


_PACKAGES = ("adakron-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "transformers", "datasets", "numpy")


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def scores(record: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of an evaluation's record, or of a result's best or last epoch."""
    about = ("kind", "step", "epoch", "train_loss", "collapsed")
    return {name: value for name, value in record.items() if name not in about}


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    write_whole(folder / "result.json", json.dumps(result, indent=2).encode() + b"\n")


def device() -> dict[str, Any]:
    first = jax.devices()[0]
    return {"platform": first.platform, "kind": first.device_kind, "count": len(jax.devices())}
