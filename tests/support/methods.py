"""The methods with which a test that is not of methods is run for every change; the others are for the night."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest

from adakron_jax.methods.registry import METHODS

# One of every way to change an encoder: a module after a layer's, a mixture of those, leaves of the encoder itself, a
# vector that scales, an update that is added to a matrix, a circular one, one multiplied into it, one of leaves that
# layers share, an edit of some tokens, more keys and values, and several of these with gates.
TELLING = ("adakron", "adamix", "bitfit", "ia3", "lora", "c3a", "oft", "vera", "loreft", "prefix", "unipelt")


def nightly_but(daily: Collection[str], names: Iterable[str] = METHODS) -> list[Any]:
    """Parameters of a test, of which those that are not `daily` are for the night."""
    return [pytest.param(name, marks=[pytest.mark.nightly] * (name not in daily)) for name in names]
