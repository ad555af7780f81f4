"""What the tests share: eight simulated devices, and a tiny encoder with a tokenizer in a folder."""

import gc
import importlib.metadata
import os
import tempfile

# On another platform, which the environment may name, only the oracles have a meaning.
if os.environ.setdefault("JAX_PLATFORMS", "cpu") == "cpu":
    flags = ["--xla_force_host_platform_device_count=8"]
    if "ADAKRON_TEST_OPTIMISED" not in os.environ:  # tiny programs take longer to compile than to run
        flags += ["--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true"]
    if importlib.metadata.version("jaxlib").startswith("0.10."):  # later ones do not know it
        # Half the time to compile, and a quarter of what is left.
        flags += ["--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1"]
    os.environ["XLA_FLAGS"] = " ".join(flags)
os.environ["HF_HUB_OFFLINE"] = "1"
# Nothing is compiled twice, by whatever process of the tests, and no token is cached for longer than they run. The
# first process holds the folder until it ends; pytest's workers have its environment.
if "PYTEST_XDIST_WORKER" not in os.environ:
    CACHES = tempfile.TemporaryDirectory(prefix="adakron-jax-tests-")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{CACHES.name}/programs")
    os.environ["XDG_CACHE_HOME"] = f"{CACHES.name}/cache"
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

from pathlib import Path

import jax
import pytest

from adakron_jax.io import interrupts
from benchmarks.shapes import write_tiny

jax.config.update("jax_numpy_rank_promotion", "raise")
gc.disable()  # until all tests are imported, of which nothing is ever garbage


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def no_signal() -> None:
    """Forgets what an earlier test was stopped by."""
    interrupts.received.clear()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny BERT and its tokenizer."""
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny(folder)
    return folder
