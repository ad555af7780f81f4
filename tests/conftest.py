"""What the tests share: eight simulated devices, and a tiny encoder with a tokenizer in a folder."""

import json
import os
import tempfile

# On another platform, which the environment may name, only the oracles have a meaning.
if os.environ.setdefault("JAX_PLATFORMS", "cpu") == "cpu":
    # Tiny programs take longer to compile than to run.
    os.environ["XLA_FLAGS"] = " ".join(
        (
            "--xla_force_host_platform_device_count=8",
            "--xla_backend_optimization_level=0",
            "--xla_llvm_disable_expensive_passes=true",
        )
    )
os.environ["HF_HUB_OFFLINE"] = "1"
# Nothing is compiled twice, by whatever process of the tests. The first of them holds the folder until it ends.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    PROGRAMS = tempfile.TemporaryDirectory(prefix="adakron-jax-tests-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = PROGRAMS.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import pytest

from benchmarks.tiny import write_tiny
from train.data.glue import TASKS
from train.options.config import RunConfig

jax.config.update("jax_numpy_rank_promotion", "raise")


def result_of(config: RunConfig, records: Sequence[Mapping[str, Any]], **known: Any) -> dict[str, Any]:
    """What a finished run says of itself, with the best and the last of its records."""
    return {
        "task": config.task,
        "model": config.model,
        "method": config.as_toml()["method"],
        "seed": config.seed,
        "params": {"method": 0, "head": 2, "base": 1000, "percent": 0.0},
        "best": max(records, key=lambda record: record[TASKS[config.task].scored[0]]),
        "last": records[-1],
        "collapsed": False,
        "stopped_early": False,
        "train_examples": None,
        "best_by": config.best_by,
        "throughput": {"examples_per_second": 1.0, "padding_fraction": 0.0},
        "compilations": {"train": 1},
        "seconds": {"compile": 1, "train": 1, "eval": 1, "total": 3},
    } | known


def write_result(folder: Path, config: RunConfig, records: Sequence[Mapping[str, Any]], **known: Any) -> None:
    """Writes a finished run's `config.toml` and `result.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_bytes(config.dumps())
    (folder / "result.json").write_text(json.dumps(result_of(config, records, **known)))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny BERT and its tokenizer."""
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny(folder)
    return folder
