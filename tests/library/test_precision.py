"""Names of precisions, and what bf16 changes in predictions."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adakron_jax as ak
from adakron_jax.params import flatten
from adakron_jax.xla.precision import dtype_of, is_narrow, name_here
from tests.library.test_classifier import TEXTS, make

TOLERANCE = 0.05  # of the logits of a small model in bf16, relative to the largest


@pytest.mark.parametrize(("platform", "name", "dtype"), [("cpu", "f32", jnp.float32), ("gpu", "bf16", jnp.bfloat16)])
def test_auto_is_f32_on_a_cpu_and_bf16_on_an_accelerator(monkeypatch: Any, platform: str, name: str, dtype: Any):
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    assert (name_here("auto"), dtype_of("auto")) == (name, dtype)
    assert [name_here(said) for said in ("f32", "bf16")] == ["f32", "bf16"]
    assert [dtype_of(said) for said in ("f32", "bf16", "float64", None)] == [jnp.float32, jnp.bfloat16, "float64", None]


def test_narrow_is_what_is_summed_in_a_wider_one():
    narrow = {dtype: is_narrow(dtype) for dtype in (None, "float64", "float32", "float16", "bfloat16")}
    assert narrow == {None: False, "float64": False, "float32": False, "float16": True, "bfloat16": True}


@pytest.mark.parametrize("dtype", ["fast", "int8", 3.5])
def test_what_is_no_precision_is_refused(dtype: Any):
    with pytest.raises(ValueError, match=f"dtype is {dtype!r}; accepted: auto, f32, bf16, or a floating type of JAX"):
        dtype_of(dtype)


@pytest.mark.parametrize("method", [ak.AdaKron((2, 2)), ak.Full()], ids=lambda method: method.name)
def test_logits_in_bf16_are_close_to_those_in_f32_and_the_encoder_is_kept_in_bf16(
    tiny: Path, tmp_path: Path, method: Any
):
    folder = make(tmp_path / "adapter", tiny, method=method)
    f32, bf16 = (ak.TextClassifier.load(folder, dtype=dtype) for dtype in ("f32", "bf16"))
    wide, narrow = f32.logits([TEXTS]), bf16.logits([TEXTS])
    assert narrow.dtype == np.float32
    error = np.abs(narrow - wide).max() / np.abs(wide).max()
    assert 0 < error < TOLERANCE
    frozen = {path for path in flatten(bf16._placed) if not path.startswith("classifier/") and "@" not in path}
    trained = method.name == "full"
    assert {leaf.dtype for path, leaf in flatten(bf16._placed).items() if path in frozen} == {
        jnp.dtype(jnp.float32 if trained else jnp.bfloat16)
    }
    assert {leaf.dtype for leaf in flatten(bf16.params).values()} == {jnp.dtype(jnp.float32)}
