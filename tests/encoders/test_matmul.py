"""Matmuls of bf16: as in float32 up to rounding, their derivative too; float32 and float64 take JAX's own path."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adakron_jax.encoders.ops.matmul import dot_general, einsum, matmul

ROUNDING = 2.0**-8  # of bf16, relative to the largest number
SCORES, CONTEXT = "rhqd,rhkd->rhqk", "rhqk,rhkd->rhqd"


def dense(x: Any, kernel: Any) -> Any:
    return dot_general(x, kernel, (((x.ndim - 1,), (0,)), ((), ())))


CASES = {
    "dense": (dense, (2, 5, 24), (24, 6)),
    "matmul": (matmul, (2, 5, 24), (24, 6)),
    "vector": (matmul, (24,), (24, 6)),
    "scores": (lambda x, y: einsum(SCORES, x, y, wide=True), (2, 3, 5, 8), (2, 3, 7, 8)),
    "context": (lambda x, y: einsum(CONTEXT, x, y), (2, 3, 5, 7), (2, 3, 7, 8)),
}
ALL = pytest.mark.parametrize("case", CASES)


def operands(case: str, dtype: Any) -> tuple[Callable[..., Any], jax.Array, jax.Array]:
    """Of numbers that bf16 holds exactly."""
    function, *shapes = CASES[case]
    x, y = (jax.random.normal(jax.random.key(i), shape, jnp.bfloat16).astype(dtype) for i, shape in enumerate(shapes))
    return function, x, y


def gradients(function: Callable[..., Any], x: jax.Array, y: jax.Array, scale: Any = 1.0) -> Any:
    """Of a sum in which every result has another weight, times `scale`, which bf16 holds exactly."""

    def loss(x: jax.Array, y: jax.Array) -> jax.Array:
        result = function(x, y).astype(jnp.float32)
        weights = jax.random.normal(jax.random.key(2), result.shape, jnp.bfloat16)
        return jnp.sum(result * weights.astype(jnp.float32)) * scale

    return jax.grad(loss, (0, 1))(x, y)


def assert_close(narrow: jax.Array, wide: jax.Array) -> None:
    expected = np.asarray(wide)
    np.testing.assert_allclose(np.asarray(narrow, np.float32), expected, rtol=0, atol=ROUNDING * np.abs(expected).max())


@ALL
def test_bf16_differs_from_f32_by_the_rounding_of_the_result(case: str):
    function, x, y = operands(case, jnp.bfloat16)
    narrow = function(x, y)
    assert narrow.dtype == (jnp.float32 if case == "scores" else jnp.bfloat16)
    assert_close(narrow, function(*operands(case, jnp.float32)[1:]))


@ALL
def test_gradients_in_bf16_differ_from_those_in_f32_by_the_rounding_of_the_result(case: str):
    narrow, wide = gradients(*operands(case, jnp.bfloat16)), gradients(*operands(case, jnp.float32))
    for of_narrow, of_wide in zip(narrow, wide, strict=True):
        assert of_narrow.dtype == jnp.bfloat16
        assert_close(of_narrow, of_wide)


@ALL
def test_no_matmul_has_a_wide_operand_or_a_narrow_accumulator(case: str):
    function, x, y = operands(case, jnp.bfloat16)
    text = jax.jit(lambda x, y: gradients(function, x, y)).lower(x, y).as_text()
    matmuls = [line for line in text.splitlines() if "dot_general" in line]
    assert len(matmuls) >= 2
    for line in matmuls:
        given, result = line.rsplit(" : ", 1)[1].split(" -> ")
        assert "f32" not in given.replace("bf16", "")
        assert result.replace("bf16", "").count("f32") == 1


@ALL
@pytest.mark.parametrize("wide", [jnp.float32, jnp.float64])
def test_wide_operands_take_the_path_of_jax(case: str, wide: Any):
    with jax.enable_x64(wide == jnp.float64):
        function, x, y = operands(case, wide)
        of_einsum = {"scores": SCORES, "context": CONTEXT}.get(case, "...i,io->...o")
        assert function(x, y).dtype == wide
        np.testing.assert_array_equal(jax.jit(function)(x, y), jax.jit(lambda x, y: jnp.einsum(of_einsum, x, y))(x, y))
        assert "custom_vjp" not in str(jax.make_jaxpr(function)(x, y))


@ALL
@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0)])
def test_mapped_and_checkpointed_they_give_the_same(case: str, axes: tuple[int | None, int | None]):
    function, x, y = operands(case, jnp.bfloat16)
    given = [jnp.stack([z, -2 * z]) if axis == 0 else z for z, axis in zip((x, y), axes, strict=True)]
    scales = jnp.array([1.0, 2.0])
    several = jax.jit(jax.vmap(functools.partial(gradients, jax.checkpoint(function)), (*axes, 0)))(*given, scales)
    for i in range(2):
        alone = gradients(function, *(z[i] if axis == 0 else z for z, axis in zip(given, axes, strict=True)), scales[i])
        for of_all, of_one in zip(several, alone, strict=True):
            assert_close(of_all[i], of_one.astype(jnp.float32))


def test_only_a_dense_layers_dimensions_are_taken():
    x = jnp.ones((2, 3), jnp.bfloat16)
    with pytest.raises(ValueError, match="dimension_numbers is .*; accepted: those of a dense layer"):
        dot_general(x, x, (((1,), (1,)), ((), ())))
