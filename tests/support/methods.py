"""The methods that tests of other things use on every change; all other methods are tested nightly."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest

from adakron_jax.methods.registry import METHODS

# One for every way to change an encoder: a module after one of a layer's, a mixture of such modules, leaves of the
# encoder itself, a scaling vector, an update added to a matrix, a circular one, one multiplied into it, one from leaves
# that layers share, an edit of some tokens, more keys and values, and several of these with gates.
TELLING = ("adakron", "adamix", "bitfit", "ia3", "lora", "c3a", "oft", "vera", "loreft", "prefix", "unipelt")


def nightly_but(daily: Collection[str], names: Iterable[str] = METHODS) -> list[Any]:
    """Returns the names as parameters of a test; those that are not `daily` are marked `nightly`."""
    return [pytest.param(name, marks=[pytest.mark.nightly] * (name not in daily)) for name in names]
