"""The precision that a model computes in, by name, with one meaning for every command and for Python.

Parameters are float32; softmax, LayerNorm's statistics and the loss are computed in float32 at every precision.
"""

import contextlib
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import DTypeLike

AUTO, F32, BF16 = PRECISIONS = ("auto", "f32", "bf16")
MEANING = "auto (bf16 on an accelerator, f32 on a CPU), f32 or bf16"


def name_here(precision: str) -> str:
    """Returns `f32` or `bf16`: the name given, or what `auto` means on this machine. Asks JAX for its devices."""
    return precision if precision != AUTO else F32 if jax.default_backend() == "cpu" else BF16


def dtype_of(precision: Any) -> DTypeLike | None:
    """Returns the type that a model computes in.

    Args:
      precision: `auto`, `f32`, `bf16`, or a floating type of JAX; None: the parameters' type, float32.

    Raises:
      ValueError: the precision is none of these.
    """
    if precision is None:
        return None
    if isinstance(precision, str) and precision in PRECISIONS:
        return jnp.float32 if name_here(precision) == F32 else jnp.bfloat16
    try:
        floating = jnp.issubdtype(jnp.dtype(precision), jnp.floating)
    except TypeError:
        floating = False
    if not floating:
        raise ValueError(f"dtype is {precision!r}; accepted: {', '.join(PRECISIONS)}, or a floating type of JAX")
    return precision


def is_narrow(dtype: DTypeLike | None) -> bool:
    """Returns whether matmuls in this precision are summed in a wider one; None is float32."""
    return dtype is not None and jnp.dtype(dtype).itemsize < 4


def fuses(dtype: DTypeLike | None, devices: int | None = None, platform: str = "") -> bool:
    """Returns whether a model uses the kernels for one GPU, `encoders.ops.fused` and `methods.adakron_kernel`.

    It does in a narrow precision where one GPU holds all arrays.

    Args:
      devices: number of devices that share the model's arrays, which a compiler cannot shard for the kernel; by default
        all devices that JAX sees, because the calling program may shard arrays over them.
    """
    if not is_narrow(dtype) or (platform or jax.default_backend()) not in ("gpu", "cuda"):
        return False
    return (jax.device_count() if devices is None else devices) == 1


def of_matmuls(dtype: DTypeLike | None) -> str | None:
    """Returns JAX's `default_matmul_precision` for a model.

    GPUs and TPUs narrow the matmuls of float32 by default; here float32 means float32.
    """
    return None if is_narrow(dtype) else "float32"


def exact(dtype: DTypeLike | None) -> contextlib.AbstractContextManager[Any]:
    """Returns the context to apply a model of this precision in; for narrow ones the caller's setting stands."""
    return contextlib.nullcontext() if is_narrow(dtype) else jax.default_matmul_precision("float32")
