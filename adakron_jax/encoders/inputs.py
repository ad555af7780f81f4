"""What an encoder reads: packed rows of token ids."""

import typing
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Int


@typing.no_type_check  # jax builds it of shapes and shardings too
@struct.dataclass
class Packed:
    """Rows of fixed length that hold several examples end to end.

    Attributes:
      tokens, token_types: ids [rows, seq].
      segments: number of the example within its row, from 1; 0 at padding [rows, seq].
      positions: index of the token within its example, from 0 [rows, seq].
      starts: where each example of the row begins; 0 in slots without an example. Slot s holds segment s + 1.
        [rows, slots]
    """

    tokens: Int[Array | np.ndarray, "*micro rows seq"]
    token_types: Int[Array | np.ndarray, "*micro rows seq"]
    segments: Int[Array | np.ndarray, "*micro rows seq"]
    positions: Int[Array | np.ndarray, "*micro rows seq"]
    starts: Int[Array | np.ndarray, "*micro rows slots"]


@struct.dataclass
class Places:
    """Where tokens stand: their segments and positions, as `Packed` has them."""

    segments: Any
    positions: Any

    def at(self, starts: Int[Array, "rows slots"]) -> "Places":
        """Those of some tokens of each row."""
        return Places(*(jnp.take_along_axis(x, starts, axis=1) for x in (self.segments, self.positions)))


def padded(
    input_ids: Int[Array | np.ndarray, "rows seq"],
    attention_mask: Int[Array | np.ndarray, "rows seq"],
    token_type_ids: Int[Array | np.ndarray, "rows seq"] | None = None,
) -> Packed:
    """A right-padded batch, as tokenizers make it, in packed form: one example a row.

    >>> inputs = padded(np.array([[101, 7592, 102], [101, 102, 0]]), np.array([[1, 1, 1], [1, 1, 0]]))
    >>> inputs.tokens.shape
    (2, 3)

    Args:
      attention_mask: 1 at tokens, 0 at padding.
      token_type_ids: by default 0 everywhere.
    """
    rows, seq = input_ids.shape
    mask = jnp.asarray(attention_mask)
    return Packed(
        tokens=jnp.asarray(input_ids),
        token_types=jnp.zeros_like(mask) if token_type_ids is None else jnp.asarray(token_type_ids),
        segments=mask,
        positions=jnp.broadcast_to(jnp.arange(seq), (rows, seq)) * mask,
        starts=jnp.zeros((rows, 1), jnp.int32),
    )


def blank(rows: int, seq: int, slots: int) -> Packed:
    """Rows of nothing but padding."""
    zeros = jnp.zeros((rows, seq), jnp.int32)
    return Packed(zeros, zeros, zeros, zeros, jnp.zeros((rows, slots), jnp.int32))
