"""What the tests share: eight simulated devices, and a tiny encoder with a tokenizer in a folder."""

import importlib.metadata
import os
import tempfile

# On another platform, which the environment may name, only the oracles have a meaning.
if os.environ.setdefault("JAX_PLATFORMS", "cpu") == "cpu":
    # Tiny programs take longer to compile than to run.
    flags = [
        "--xla_force_host_platform_device_count=8",
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
    ]
    if importlib.metadata.version("jaxlib").startswith("0.10."):  # later ones do not know it
        flags.append("--xla_cpu_use_fusion_emitters=false")  # half the time to compile
    os.environ["XLA_FLAGS"] = " ".join(flags)
os.environ["HF_HUB_OFFLINE"] = "1"
# Nothing is compiled twice, by whatever process of the tests, and no token is cached for longer than they run. The
# first process holds the folder until it ends; pytest's workers have its environment.
if "PYTEST_XDIST_WORKER" not in os.environ:
    CACHES = tempfile.TemporaryDirectory(prefix="adakron-jax-tests-")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{CACHES.name}/programs")
    os.environ["XDG_CACHE_HOME"] = f"{CACHES.name}/cache"
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import pytest

from benchmarks.tiny import write_tiny
from train.options.config import RunConfig
from train.output.result import Compilations, Parameters, Result, Seconds, Throughput, read_evaluation, scored_by

jax.config.update("jax_numpy_rank_promotion", "raise")


def result_of(config: RunConfig, records: Sequence[Mapping[str, Any]], **known: Any) -> Result:
    """What a finished run says of itself, with the best and the last of its records."""
    scored = scored_by(config, known.get("problem", ""))
    values = {
        "params": Parameters(method=0, head=2, base=1000, percent=0.0),
        "best": read_evaluation(max(records, key=lambda record: record[scored[0]]), scored),
        "last": read_evaluation(records[-1], scored),
        "collapsed": False,
        "throughput": Throughput(examples_per_second=1.0, tokens_per_second=20.0, padding_fraction=0.0),
        "compilations": Compilations(train=1, eval=1),
        "seconds": Seconds(compile=1.0, train=1.0, eval=1.0, total=3.0),
        "device": {"platform": "cpu"},
        "versions": {},
    }
    own = {name: getattr(config, name) for name in ("task", "model", "method", "seed", "best_by")}
    return Result(**(own | values | known))


def write_result(folder: Path, config: RunConfig, records: Sequence[Mapping[str, Any]], **known: Any) -> None:
    """Writes a finished run's `config.toml` and `result.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_bytes(config.dumps())
    result_of(config, records, **known).write(folder)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny BERT and its tokenizer."""
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny(folder)
    return folder
