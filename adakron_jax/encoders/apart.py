"""Packed batches in which every example has leaves of its own.

What all examples share stays packed. Where an example has leaves of its own, the tokens are laid apart
[examples, length], meet these leaves under `vmap`, and are packed again; scales and biases go to the tokens as they lie.

The encoder learns of it by a variable collection, `OWN`: leaves [examples, ...], or [layers, examples, ...] of the
layers, at the paths of the parameters that they stand for, and under `places` where the examples lie. Without the
collection none of this happens. Of a parameter that has an own leaf, the parameter itself is `neutral`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Int

from adakron_jax.encoders.inputs import Packed

OWN = "own"
_BY_TOKEN = {"scale", "bias"}


@struct.dataclass
class Places:
    """Where the examples lie among some tokens of packed rows.

    Attributes:
      apart: number of the token among those of all rows; beyond the last where there is none [examples, length].
      packed: number of the token among those laid apart; any where there is none [rows, tokens].
    """

    apart: Any
    packed: Any

    def lay_apart(self, x: Array) -> Array:
        """[rows, tokens, ...] -> [examples, 1, length, ...], zeros beyond an example's end."""
        x = x.reshape(-1, *x.shape[2:])
        return x.at[self.apart[:, None]].get(mode="fill", fill_value=0)

    def pack(self, x: Array) -> Array:
        """The inverse: [examples, 1, length, ...] -> [rows, tokens, ...]."""
        return x.reshape(-1, *x.shape[3:])[self.packed]

    def by_token(self, leaf: Array) -> Array:
        """[examples, ...] -> [rows, tokens, ...]."""
        return leaf[self.packed // self.apart.shape[1]]


@struct.dataclass
class Layout:
    """Where the examples of a batch lie; a free place has the length 0.

    Attributes:
      row, slot: of each example [examples].
      lengths: tokens of each example [examples].
    """

    row: Any
    slot: Any
    lengths: Any

    def places(self, inputs: Packed) -> dict[int, Places]:
        """The places by tokens a row: those of all tokens, and those of each example's first."""
        examples, (rows, seq), slots = len(self.row), inputs.tokens.shape, inputs.starts.shape[1]
        owner = jnp.zeros((rows, slots + 1), jnp.int32)
        # Free places come first in no order: they write to the segment of padding.
        segment = jnp.where(self.lengths > 0, self.slot + 1, 0)
        owner = owner.at[self.row, segment].set(jnp.arange(examples, dtype=jnp.int32))
        start = self.row * seq + inputs.starts[self.row, self.slot]
        step = jnp.arange(seq, dtype=jnp.int32)[None]
        apart = jnp.where(step < self.lengths[:, None], start[:, None] + step, rows * seq)
        packed = jnp.take_along_axis(owner, inputs.segments, axis=1) * seq + inputs.positions
        first = jnp.where(self.lengths > 0, self.row * slots + self.slot, rows * slots)
        return {seq: Places(apart, packed), slots: Places(first[:, None], owner[:, 1:])}


class Own:
    """A module of the encoder, some or all of whose leaves every example has for itself.

    Attributes:
      module: bound, with its parameters.
      shared, own: its leaves.
    """

    def __init__(self, module: nn.Module, parent: nn.Module, places: Mapping[int, Places]):
        self.module, self.places = module, places
        self.own: dict[str, Any] = parent.get_variable(OWN, module.name, {})
        params = parent.get_variable("params", module.name)
        self.shared = {name: leaf for name, leaf in params.items() if name not in self.own}

    def of(self, own: Mapping[str, Array]) -> Callable[..., Array]:
        """The module of one example, by its own leaves."""
        return alone(self.module, {**self.shared, **own})

    def __call__(self, x: Array) -> Array:
        """Of packed rows [rows, tokens, ...]."""
        places = self.places[x.shape[1]]
        if self.own.keys() <= _BY_TOKEN:
            y = self.module(x)
            if "scale" in self.own:
                y = y * places.by_token(self.own["scale"]).astype(y.dtype)
            return y + places.by_token(self.own["bias"]).astype(y.dtype) if "bias" in self.own else y
        return places.pack(jax.vmap(lambda own, x: self.of(own)(x))(self.own, places.lay_apart(x)))


def alone(module: nn.Module, params: Mapping[str, Any]) -> Callable[..., Any]:
    """A module outside of any other, applied to parameters."""
    free = module.clone(parent=None, name=None)
    return lambda *args, **context: free.apply({"params": params}, *args, **context)


def neutral(path: str, shape: tuple[int, ...]) -> Array:
    """What stands in the parameters for a leaf that every example has for itself."""
    return jnp.ones(shape) if path.endswith("/scale") else jnp.zeros(shape)


def places_of(module: nn.Module) -> Mapping[int, Places] | None:
    """Where the examples lie, if they have leaves of their own."""
    return None if module.scope is None else module.scope.root.get_variable(OWN, "places")


def each(
    module: nn.Module,
    own: Mapping[str, Any],
    places: Mapping[int, Places],
    function: Callable[..., Array],
    values: Sequence[Array],
    context: Mapping[str, Any],
) -> Array:
    """`function(module, *values, **context)` with every example's own leaves of a method's module, of packed rows.

    Args:
      context: as at a site; `shared` is every example's own [examples, ...].
    """

    def one(own: Any, shared: Any, of_norm: Any, rows: Mapping[str, Array], *values: Array) -> Array:
        said = {**context, **rows, "shared": shared}
        if norm is not None:
            said["norm"] = norm.of(of_norm)
        return function(alone(module, own), *values, **said)

    norm: Own | None = context.get("norm")
    rows = {name: context[name] for name in ("inputs", "residual", "segments") if name in context}
    apart = jax.tree.map(lambda x: places[x.shape[1]].lay_apart(x), (rows, *values))
    result = jax.vmap(one)(own, context["shared"], {} if norm is None else norm.own, *apart)
    return places[values[0].shape[1]].pack(result)
