"""Packed batches in which every example has leaves of its own.

What all examples share stays packed. Where an example has leaves of its own, the tokens are laid apart
[examples, length], meet these leaves under `vmap`, and are packed again; scales and biases go to the tokens where they
are.

The encoder learns of it by a variable collection, `OWN`: leaves [examples, ...], or [layers, examples, ...] of the
layers, at the paths of the parameters that they stand for, and under `apart` where the examples lie. Without the
collection none of this happens. Of a parameter that has an own leaf, the parameter itself is `neutral`.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array

from adakron_jax.encoders.inputs import Packed

OWN = "own"
_BY_TOKEN = {"scale", "bias"}


@struct.dataclass
class Layout:
    """Which examples a batch holds, the longest first; a free place has the length 0.

    Attributes:
      row, slot: where each lies [examples].
      lengths: tokens of each [examples].
    """

    row: Any
    slot: Any
    lengths: Any

    def apart(self, inputs: Packed) -> "Apart":
        """Where their tokens lie, of all tokens and of each example's first."""
        examples, (rows, seq), slots = len(self.row), inputs.tokens.shape, inputs.starts.shape[1]
        # Of the examples of a row, one at most is longer than half of it.
        long, half = min(rows, examples), -(-seq // 2)
        number = jnp.arange(examples, dtype=jnp.int32)
        there = self.lengths > 0
        owner = jnp.zeros((rows, slots + 1), jnp.int32)
        owner = owner.at[self.row, jnp.where(there, self.slot + 1, 0)].set(number)
        token = jnp.arange(seq, dtype=jnp.int32)[None]
        start = self.row * seq + inputs.starts[self.row, self.slot]
        apart = jnp.where(token < self.lengths[:, None], start[:, None] + token, rows * seq)
        first = jnp.where(there, self.row * slots + self.slot, rows * slots)[:, None]
        begin = jnp.where(number < long, number * seq, long * seq + (number - long) * half)
        of_token = jnp.take_along_axis(owner, inputs.segments, axis=1)
        return Apart(
            apart={seq: (apart[:long], apart[long:, :half]), slots: (first[:long], first[long:])},
            packed={seq: begin[of_token] + inputs.positions, slots: owner[:, 1:]},
            example={seq: of_token, slots: owner[:, 1:]},
        )


@struct.dataclass
class Apart:
    """Where examples lie among the tokens of packed rows, by the number of these tokens in a row.

    Attributes:
      apart: for the examples that may fill a row, and for those of half a row at most, the number of each token among
        those of all rows; beyond the last where there is none [examples, length].
      packed: number of the token among those laid apart; any where there is none [rows, tokens].
      example: number of the token's example; any where there is none [rows, tokens].
    """

    apart: dict[int, tuple[Array, Array]]
    packed: dict[int, Array]
    example: dict[int, Array]

    def each(self, function: Callable[..., Array], own: Any, *values: Any) -> Array:
        """A function of one example, applied to each; packed like the first of the values.

        Args:
          function: called with the example's own leaves, and with its values [1, length, ...].
          own: leaves [examples, ...].
          values: trees of packed arrays [rows, tokens, ...]. Beyond an example's end integers, such as its segment,
            are zeros; floats are of any token.
        """
        width, begin, parts = jax.tree.leaves(values)[0].shape[1], 0, []
        for part, apart in enumerate(self.apart[width]):
            if len(apart):
                mine = jax.tree.map(functools.partial(_part, begin=begin, size=len(apart)), own)
                laid = jax.tree.map(functools.partial(self._lay_apart, part=part), values)
                y = jax.vmap(function)(mine, *laid)
                parts.append(y.reshape(-1, *y.shape[3:]))
                begin += len(apart)
        return jnp.concatenate(parts)[self.packed[width]]

    def _lay_apart(self, x: Array, part: int) -> Array:
        """[rows, tokens, ...] -> [examples, 1, length, ...]."""
        at, tokens = self.apart[x.shape[1]][part][:, None], x.reshape(-1, *x.shape[2:])
        if jnp.issubdtype(x.dtype, jnp.integer):
            return tokens.at[at].get(mode="fill", fill_value=0)
        # Zeros would be another pass over all of it.
        return tokens.at[jnp.minimum(at, len(tokens) - 1)].get(mode="promise_in_bounds")

    def by_token(self, leaf: Array, tokens: int) -> Array:
        """[examples, ...] -> [rows, tokens, ...]."""
        return leaf[self.example[tokens]]


def _part(leaf: Array, begin: int, size: int) -> Array:
    return leaf[begin : begin + size]


class Own:
    """A module of the encoder, some or all of whose leaves every example may have for itself.

    Attributes:
      module: bound, with its parameters.
      shared, own: its leaves.
    """

    def __init__(self, module: nn.Module, parent: nn.Module, apart: Apart):
        self.module, self.apart = module, apart
        name = str(module.name)
        self.own: dict[str, Any] = parent.get_variable(OWN, name, {})
        params = parent.get_variable("params", name)
        self.shared = {name: leaf for name, leaf in params.items() if name not in self.own}

    def of(self, own: Mapping[str, Array]) -> Callable[..., Array]:
        """The module of one example, by its own leaves."""
        return alone(self.module, {**self.shared, **own})

    def __call__(self, x: Array) -> Array:
        """Of packed rows [rows, tokens, ...]."""
        if self.own.keys() - _BY_TOKEN:
            return self.apart.each(lambda own, x: self.of(own)(x), self.own, x)
        y = self.module(x)
        by_token = {name: self.apart.by_token(leaf, x.shape[1]).astype(y.dtype) for name, leaf in self.own.items()}
        y = y * by_token["scale"] if "scale" in by_token else y
        return y + by_token["bias"] if "bias" in by_token else y


def alone(module: nn.Module, params: Mapping[str, Any]) -> Callable[..., Any]:
    """A module outside of any other, applied to parameters."""
    free = module.clone(parent=None, name=None)
    return lambda *args, **context: free.apply({"params": params}, *args, **context)


def neutral(path: str, like: Array) -> Array:
    """What stands in the parameters for a leaf that every example has for itself."""
    return jnp.ones_like(like) if path.endswith("/scale") else jnp.zeros_like(like)


def apart_of(module: nn.Module) -> Apart | None:
    """Where the examples lie, if they have leaves of their own."""
    return None if module.scope is None else module.scope.root.get_variable(OWN, "apart")


def at_site(
    module: nn.Module,
    own: Mapping[str, Any],
    apart: Apart,
    function: Callable[..., Array],
    values: Sequence[Any],
    context: Mapping[str, Any],
) -> Array:
    """`function(module, *values, **context)`, of packed rows, with every example's own leaves of a method's module.

    Args:
      context: as at a site; `shared` is every example's own [examples, ...].
    """
    norm = context.get("norm")
    packed = {name: context[name] for name in ("inputs", "residual", "segments") if name in context}

    def one(leaves: Any, values: Sequence[Any], packed: Mapping[str, Array]) -> Array:
        of_module, of_norm, shared = leaves
        normed = {"norm": norm.of(of_norm)} if isinstance(norm, Own) else {}
        return function(alone(module, of_module), *values, **{**context, **packed, **normed, "shared": shared})

    return apart.each(one, (own, norm.own if isinstance(norm, Own) else {}, context["shared"]), values, packed)
