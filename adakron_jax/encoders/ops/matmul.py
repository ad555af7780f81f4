"""Matmuls of narrow operands that accumulate in float32, in the backward pass too.

A CPU with bfloat16 instructions uses them only where the result is requested in float32, which is twice as fast as
a matmul that returns bfloat16. JAX's derivative of such a matmul multiplies a float32 cotangent by narrow operands, as
slowly as in float32; here the cotangent is cast first. Operands of float32 and wider take JAX's standard path.
"""

import functools
import string
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from adakron_jax.xla.arrays import by_itself
from adakron_jax.xla.precision import is_narrow


def einsum(subscripts: str, x: Array, y: Array, wide: bool = False) -> Array:
    """Computes `jnp.einsum` of two operands, where each index occurs in two of operands and result.

    Args:
      wide: returns float32 even for narrow operands.
    """
    out = jnp.promote_types(x.dtype, jnp.float32) if wide else jnp.result_type(x, y)
    if x.dtype != y.dtype or not is_narrow(x.dtype):
        return jnp.einsum(subscripts, x, y, preferred_element_type=out if wide else None)
    return _accumulated(subscripts, out, x, y)


def matmul(x: Float[Array, "*batch inputs"], kernel: Float[Array, "inputs outputs"]) -> Float[Array, "*batch outputs"]:
    """Returns x @ kernel."""
    if x.dtype != kernel.dtype or not is_narrow(x.dtype):
        return x @ kernel
    return _accumulated(_of_dense(x.ndim), x.dtype, x, kernel)


def dot_general(x: Array, kernel: Array, dimension_numbers: Any, **settings: Any) -> Array:
    """Replaces `jax.lax.dot_general` in a dense layer."""
    if x.dtype != kernel.dtype or not is_narrow(x.dtype):
        return jax.lax.dot_general(x, kernel, dimension_numbers, **settings)
    if dimension_numbers != (((x.ndim - 1,), (0,)), ((), ())) or kernel.ndim != 2:
        raise ValueError(f"dimension_numbers is {dimension_numbers}; accepted: those of a dense layer")
    return _accumulated(_of_dense(x.ndim), x.dtype, x, kernel)


def _of_dense(axes: int) -> str:
    batch = string.ascii_lowercase[: axes - 1]
    return f"{batch}y,yz->{batch}z"


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _accumulated(subscripts: str, out: Any, x: Array, y: Array) -> Array:
    of_x, of_y, of_result = _axes(subscripts)
    if set(of_x) & set(of_y) & set(of_result):
        x, y = by_itself(x), by_itself(y)
    return jnp.einsum(subscripts, x, y, preferred_element_type=jnp.float32).astype(out)


def _axes(subscripts: str) -> list[str]:
    return subscripts.replace("->", ",").split(",")


def _forward(subscripts: str, out: Any, x: Array, y: Array) -> tuple[Array, tuple[Array, Array]]:
    return _accumulated(subscripts, out, x, y), (x, y)


def _backward(subscripts: str, out: Any, operands: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    del out
    x, y = operands
    of_x, of_y, of_result = _axes(subscripts)
    narrow = cotangent.astype(x.dtype)
    of_first, of_second, first, second = of_x, of_result, x, narrow
    if x.size > narrow.size:
        of_first, of_second, first, second = of_result, of_x, narrow, x
    return (
        _accumulated(f"{of_result},{of_y}->{of_x}", x.dtype, narrow, y),
        _summed_last(of_first, of_second, of_y, first, second),
    )


def _summed_last(of_x: str, of_y: str, of_result: str, x: Array, y: Array) -> Array:
    """Computes a matmul whose first operand, the smaller, has the summed axes moved last.

    XLA on a CPU has narrow matmuls for no other axis order of the first operand or of the result. It decides whether to
    fall back to float32 before it folds transposes into the matmul, so both are stored in that order.
    """
    turned = "".join(sorted(of_x, key=lambda axis: axis not in of_result))
    free = (axis for axis in of_y if axis in of_result and axis not in of_x)
    given = "".join(axis for axis in turned if axis in of_result) + "".join(free)
    x = by_itself(x.transpose([of_x.index(axis) for axis in turned]))
    result: Any = _accumulated(f"{turned},{of_y}->{given}", y.dtype, x, y)
    return by_itself(result).transpose([given.index(axis) for axis in of_result])


_accumulated.defvjp(_forward, _backward)
