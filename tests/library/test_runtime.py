"""What our programs set for their whole process."""

import subprocess
import sys

import jax
import pytest

from adakron_jax.xla import runtime

# How many pages the system has to provide for ten arrays of 64 MB, each of which is freed before the next.
PAGES = """
import resource
import numpy as np
from adakron_jax.xla import runtime
if {keeps}:
    runtime.keep_memory()
np.ones(2**23)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    np.ones(2**23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_memory_that_was_freed_is_used_again():
    given, kept = (
        int(subprocess.run([sys.executable, "-c", PAGES.format(keeps=keeps)], capture_output=True, check=True).stdout)
        for keeps in (False, True)
    )
    assert 10 * kept < given


def test_a_folder_that_the_caller_has_chosen_for_programs_stays(monkeypatch: pytest.MonkeyPatch):
    before = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    runtime.set_up()
    assert before == jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
