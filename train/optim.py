"""The authors' optimiser: AdamW, linear warm-up and decay, clipping by the global norm."""

import math
from typing import Any

import jax.numpy as jnp
import optax

from adakron_jax.params import flatten, unflatten

MAX_GRAD_NORM = 1.0


def linear_schedule(peak: float, steps: int, warmup_ratio: float) -> optax.Schedule:
    """From 0 up to `peak` over ceil(warmup_ratio * steps) steps, then down to 0 at `steps`."""
    warmup = math.ceil(warmup_ratio * steps)

    def rate(step: Any) -> Any:
        rise = step / warmup if warmup else 1.0
        return peak * jnp.minimum(rise, jnp.maximum(0, steps - step) / max(1, steps - warmup))

    return rate


def decays(params: Any) -> Any:
    """Mask of the leaves under weight decay: all but biases and LayerNorms."""
    return unflatten({path: not _is_bias_or_norm(path) for path in flatten(params)})


def _is_bias_or_norm(path: str) -> bool:
    return path.endswith("bias") or "norm/" in path


def adamw(schedule: optax.Schedule, weight_decay: float) -> optax.GradientTransformation:
    """AdamW (Loshchilov and Hutter 2019) with the authors' constants, after clipping by the global norm of the
    gradients, which are those of the trained parameters only."""
    return optax.chain(
        optax.clip_by_global_norm(MAX_GRAD_NORM),
        optax.adamw(schedule, b1=0.9, b2=0.999, eps=1e-8, weight_decay=weight_decay, mask=decays),
    )
