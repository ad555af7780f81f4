"""AdaKron's adapter in one kernel, interpreted: what the adapter by steps gives, gradients included."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adakron_jax.encoders.inputs import padded
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.methods import AdaKron, adakron_kernel
from adakron_jax.methods.adakron import KronAdapter
from adakron_jax.methods.adamix import MixedAdapter
from tests.support.architectures import BERT

D = 2 * adakron_kernel.CHUNK


def fresh(module, *shape):
    """Parameters that no gradient is zero for, an input and a cotangent."""
    of_params, *keys = jax.random.split(jax.random.key(0), 3)
    h, cotangent = (jax.random.normal(key, shape) for key in keys)
    params = jax.jit(lambda: module.init(of_params, h, deterministic=True))()
    return jax.tree.map(lambda x: 2 * x + 0.05, params), h, cotangent


def error(got, expected):
    largest = jax.tree.map(lambda x, y: np.abs(np.asarray(x, np.float32) - y).max() / np.abs(y).max(), got, expected)
    return max(jax.tree.leaves(largest))


@pytest.mark.parametrize(
    "module",
    [KronAdapter((12, 4)), KronAdapter((3,)), KronAdapter((4, 2, 3)), MixedAdapter((6, 2)), MixedAdapter((16,))],
    ids=lambda module: f"{type(module).__name__}{module.factors}",
)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_adapter_and_gradients_are_those_by_steps_and_rounded_alike(module, dtype, monkeypatch):
    monkeypatch.setattr(adakron_kernel, "is_narrow", lambda dtype: True)  # in float32 too
    params, h, cotangent = fresh(module, 2, adakron_kernel.ROWS, D)

    def outcome(fuses, dtype):
        run = functools.partial(module.clone(dtype=dtype).apply, fused=fuses, deterministic=True)
        out, pullback = jax.vjp(run, params, h.astype(dtype))
        assert out.dtype == dtype
        return out, pullback(cotangent.astype(dtype))

    got, by_steps, exact = jax.jit(lambda: (outcome(True, dtype), outcome(False, dtype), outcome(False, jnp.float32)))()
    assert error(got, exact) < (1e-5 if dtype == jnp.float32 else 1.5 * error(by_steps, exact))


def test_a_row_gives_the_same_among_others_and_beside_other_adapters():
    module = KronAdapter((12, 4), dtype=jnp.bfloat16)
    params, h, _ = fresh(module, 3, adakron_kernel.ROWS, D)

    @jax.jit
    def outputs(params, h):
        return module.apply(params, h, fused=True)

    together = outputs(params, h)
    np.testing.assert_array_equal(outputs(params, h[::-1])[::-1], together)
    adapters = jax.tree.map(lambda x: jnp.stack([x, -x, x]), params)
    side_by_side = jax.jit(jax.vmap(outputs))(adapters, h[:, None])[:, 0]
    np.testing.assert_array_equal(side_by_side[::2], together[::2])
    assert not np.array_equal(side_by_side[1], together[1])


@pytest.mark.parametrize(
    ("factors", "shape", "dtype"),
    [
        ((12, 4), (1, adakron_kernel.ROWS // 2, D), "bfloat16"),
        ((12, 4), (1, adakron_kernel.ROWS, D // 4), "bfloat16"),
        ((64, 4), (1, adakron_kernel.ROWS, D), "bfloat16"),
        ((12, 4), (1, adakron_kernel.ROWS, D), None),
    ],
)
def test_other_shapes_and_float32_go_by_steps(factors, shape, dtype):
    assert not adakron_kernel.supports(factors, jnp.zeros(shape, jnp.bfloat16), dtype)
    assert adakron_kernel.supports((12, 4), jnp.zeros((1, adakron_kernel.ROWS, D)), "bfloat16")


def test_a_model_on_one_gpu_uses_the_kernel():
    config = dataclasses.replace(BERT, hidden_size=adakron_kernel.CHUNK, num_layers=2, num_heads=8)
    inputs = padded(np.ones((2, 64), np.int32), np.ones((2, 64), bool))
    params = jax.eval_shape(SequenceClassifier(config, AdaKron()).init, jax.random.key(0), inputs)

    def traced(**settings):
        return str(jax.make_jaxpr(SequenceClassifier(config, AdaKron(), **settings).apply)(params, inputs))

    assert "adapter_forward_kernel" in traced(dtype=jnp.bfloat16, fused=True)
    assert "adapter_forward_kernel" not in traced(dtype=jnp.bfloat16) + traced(fused=True)
