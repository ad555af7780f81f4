"""What modules with plain arrays as parameters need."""

from typing import Any

from flax.linen.dtypes import promote_dtype
from jaxtyping import Array


def promote(x: Array, *params: Array, dtype: Any) -> list[Array]:
    """x and parameters in one precision (`dtype`, or None: the widest of theirs); vectors get as many axes as x."""
    x, *others = promote_dtype(x, *params, dtype=dtype)
    return [x, *(y.reshape((1,) * (x.ndim - 1) + y.shape) if y.ndim == 1 else y for y in others)]
