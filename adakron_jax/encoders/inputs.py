"""What an encoder reads: packed rows of token ids."""

from typing import Any

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Int


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

    tokens: Any
    token_types: Any
    segments: Any
    positions: Any
    starts: Any


@struct.dataclass
class Places:
    """Where tokens stand: their segments and positions, as `Packed` has them."""

    segments: Any
    positions: Any

    def at(self, starts: Int[Array, "rows slots"]) -> "Places":
        """Those of some tokens of each row."""
        return Places(*(jnp.take_along_axis(x, starts, axis=1) for x in (self.segments, self.positions)))


def padded(
    input_ids: Int[Array, "rows seq"], attention_mask: Int[Array, "rows seq"], token_type_ids: Int[Array, "rows seq"]
) -> Packed:
    """A right-padded batch, as tokenizers make it, in packed form: one example a row."""
    rows, seq = input_ids.shape
    return Packed(
        tokens=input_ids,
        token_types=token_type_ids,
        segments=attention_mask,
        positions=jnp.broadcast_to(jnp.arange(seq), (rows, seq)) * attention_mask,
        starts=jnp.zeros((rows, 1), jnp.int32),
    )


def blank(rows: int, seq: int, slots: int) -> Packed:
    """Rows of nothing but padding."""
    zeros = jnp.zeros((rows, seq), jnp.int32)
    return Packed(zeros, zeros, zeros, zeros, jnp.zeros((rows, slots), jnp.int32))
