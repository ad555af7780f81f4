"""The input of an encoder: packed rows of token ids."""

import typing
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer
from jaxtyping import Array, Int, Shaped

from adakron_jax.architectures.config import EncoderConfig


@typing.no_type_check  # jax also builds it from shapes and shardings
@struct.dataclass
class Packed:
    """Rows of fixed length that hold several examples end to end.

    Attributes:
      tokens, token_types: ids [rows, seq].
      segments: number of the example within its row, from 1; 0 at padding [rows, seq].
      positions: index of the token within its example, from 0 [rows, seq].
      starts: index at which each example of the row begins; 0 in slots without an example. Slot s holds segment s + 1.
        [rows, slots]
    """

    tokens: Int[Array | np.ndarray, "*micro rows seq"]
    token_types: Int[Array | np.ndarray, "*micro rows seq"]
    segments: Int[Array | np.ndarray, "*micro rows seq"]
    positions: Int[Array | np.ndarray, "*micro rows seq"]
    starts: Int[Array | np.ndarray, "*micro rows slots"]


@struct.dataclass
class Places:
    """The places of tokens: their segments and positions, as in `Packed`."""

    segments: Any
    positions: Any

    def at(self, starts: Int[Array, "rows slots"]) -> "Places":
        """Returns the places of some tokens of each row."""
        return Places(*(jnp.take_along_axis(x, starts, axis=1) for x in (self.segments, self.positions)))

    def context(self, places: "Places") -> dict[str, Any]:
        """Returns the context of `Site.LAYER_OUTPUT` for these tokens, which are among those at `places`."""
        return {"segments": self.segments, "positions": self.positions, "all_segments": places.segments}


def padded(
    input_ids: Int[Array | np.ndarray, "rows seq"],
    attention_mask: Shaped[Array | np.ndarray, "..."],
    token_type_ids: Int[Array | np.ndarray, "..."] | None = None,
) -> Packed:
    """Converts a padded batch, as tokenizers return it, to packed form: one example per row, padding on either side.

    >>> inputs = padded(np.array([[101, 7592, 102], [101, 102, 0]]), np.array([[1, 1, 1], [1, 1, 0]]))
    >>> inputs.tokens.shape
    (2, 3)

    Args:
      attention_mask: 1 at tokens, 0 at padding.
      token_type_ids: by default 0 everywhere.

    Raises:
      ValueError: the arrays differ in shape.
    """
    for name, array in (("attention_mask", attention_mask), ("token_type_ids", token_type_ids)):
        if array is not None and array.shape != input_ids.shape:
            raise ValueError(f"{name} is of shape {array.shape}; accepted: that of input_ids, {input_ids.shape}")
    mask = jnp.asarray(attention_mask, bool).astype(jnp.int32)
    return Packed(
        tokens=jnp.asarray(input_ids),
        token_types=jnp.zeros_like(mask) if token_type_ids is None else jnp.asarray(token_type_ids),
        segments=mask,
        positions=(jnp.cumsum(mask, axis=1) - 1) * mask,
        starts=jnp.argmax(mask, axis=1, keepdims=True).astype(jnp.int32),
    )


def check(inputs: Packed, config: EncoderConfig) -> None:
    """Raises ValueError if concrete input needs rows that the encoder's tables lack; traced input is not checked."""
    rows = {"tokens": config.vocab_size, "positions": config.max_length, "token_types": config.type_vocab_size}
    if config.architecture.positions == "offsets":  # far offsets share rows
        del rows["positions"]
    for name, count in rows.items():
        array = getattr(inputs, name)
        if count and not isinstance(array, Tracer) and array.size:
            known = np.asarray(array)  # NumPy, since a surrounding trace would also trace jax's methods
            low, high = int(known.min()), int(known.max())
            if low < 0 or high >= count:
                raise ValueError(f"{name} hold {low if low < 0 else high}; accepted: 0 to {count - 1}")


def blank(rows: int, seq: int, slots: int) -> Packed:
    """Returns rows of padding alone."""
    zeros = jnp.zeros((rows, seq), jnp.int32)
    return Packed(zeros, zeros, zeros, zeros, jnp.zeros((rows, slots), jnp.int32))
