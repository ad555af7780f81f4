"""The contract of the methods, and the oracles, hold as XLA compiles by default too."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.nightly
@pytest.mark.parametrize("tests", ["tests/methods/test_contract.py", "tests/test_oracles.py"])
def test_it_holds_at_the_compilers_default_level(tests: str, tmp_path: Path) -> None:
    drop = ("XLA_FLAGS", "PYTEST_XDIST_WORKER", "JAX_COMPILATION_CACHE_DIR")
    environment = {name: value for name, value in os.environ.items() if name not in drop}
    command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", tests]
    done = subprocess.run(
        command, cwd=ROOT, env=environment | {"ADAKRON_TEST_OPTIMISED": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-4000:]
