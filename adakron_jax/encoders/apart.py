"""Packed batches in which every example has leaves of its own.

What all examples share stays packed. Where an example has leaves of its own, the tokens are laid apart
[examples, length], meet these leaves under `vmap`, and are packed again; scales and biases go to the tokens where they
are. The first example of a row, its longest, need not be moved: the row itself is laid apart for it, with tokens of
others behind its end. No other is longer than half a row, so only these, and only in so much room, are copied.

The encoder learns of it by a variable collection, `OWN`: a `PerExample` in place of a leaf, or a list of them, one a
layer, at the paths of the parameters that they stand for, and under `apart` where the examples lie. Without the
collection none of this happens. Of a parameter that has an own leaf, the parameter itself is `neutral`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array

from adakron_jax.encoders.inputs import Packed

OWN = "own"
_BY_TOKEN = {"scale", "bias"}


class PerExample(NamedTuple):
    """Something that every example of a batch has for itself.

    Attributes:
      first: of the first example of each row [rows, ...].
      others: of all others [others, ...].
    """

    first: Any
    others: Any


@struct.dataclass
class Layout:
    """Which examples a batch holds besides the first one of each row, which is its longest.

    Attributes:
      row, slot: where each lies [others].
      lengths: tokens of each, 0 of a free place [others].
    """

    row: Any
    slot: Any
    lengths: Any

    def apart(self, inputs: Packed) -> "Apart":
        """Where their tokens lie, of all tokens and of each example's first."""
        (rows, seq), slots, others = inputs.tokens.shape, inputs.starts.shape[1], len(self.row)
        number, token = jnp.arange(others, dtype=jnp.int32), jnp.arange(seq // 2, dtype=jnp.int32)[None]
        there = self.lengths > 0
        start = self.row * seq + inputs.starts[self.row, self.slot]
        owner = jnp.zeros((rows, slots + 1), jnp.int32)
        owner = owner.at[self.row, jnp.where(there, self.slot + 1, 0)].set(number)
        of_token, of_slot = jnp.take_along_axis(owner, inputs.segments, axis=1), owner[:, 1:]
        is_first = {seq: inputs.segments == 1, slots: jnp.broadcast_to(jnp.arange(slots) == 0, (rows, slots))}
        row = jnp.arange(rows, dtype=jnp.int32)[:, None]
        return Apart(
            is_first=is_first,
            others={
                seq: jnp.where(token < self.lengths[:, None], start[:, None] + token, rows * seq),
                slots: jnp.where(there, self.row * slots + self.slot, rows * slots)[:, None],
            },
            packed={seq: of_token * (seq // 2) + jnp.where(is_first[seq], 0, inputs.positions), slots: of_slot},
            example={
                seq: jnp.where(is_first[seq], row, rows + of_token),
                slots: jnp.where(is_first[slots], row, rows + of_slot),
            },
        )


@struct.dataclass
class Apart:
    """Where examples lie among the tokens of packed rows, by the number of these tokens in a row.

    Attributes:
      is_first: whether the token is of its row's first example [rows, tokens].
      others: of the other examples, the number of each token among those of all rows; beyond the last where there is
        none [others, length].
      packed: number of the token among those of the others; any where there is none [rows, tokens].
      example: number of the token's example, those of the others behind the rows'; any where there is none
        [rows, tokens].
    """

    is_first: dict[int, Array]
    others: dict[int, Array]
    packed: dict[int, Array]
    example: dict[int, Array]

    def each(self, function: Callable[..., Array], own: PerExample, *values: Any) -> Array:
        """A function of one example, applied to each; packed like the first of the values.

        Args:
          function: called with the example's own leaves, and with its values [1, length, ...].
          own: trees of leaves [rows, ...] and [others, ...].
          values: trees of packed arrays [rows, tokens, ...]. Beyond an example's end integers, such as its segment,
            are zeros; floats are of any token.
        """
        width = jax.tree.leaves(values)[0].shape[1]
        y = jax.vmap(function)(own.first, *jax.tree.map(self._first, values))[:, 0]
        if not len(self.others[width]):
            return y
        others = jax.vmap(function)(own.others, *jax.tree.map(self._others, values))
        others = others.reshape(-1, *others.shape[3:]).at[self.packed[width]].get(mode="promise_in_bounds")
        y = jnp.pad(y, [(0, 0), (0, width - y.shape[1]), *[(0, 0)] * (y.ndim - 2)])
        return jnp.where(self.is_first[width].reshape(y.shape[:2] + (1,) * (y.ndim - 2)), y, others)

    def _first(self, x: Array) -> Array:
        """[rows, tokens, ...] -> [rows, 1, length, ...]."""
        length = self.others[x.shape[1]].shape[1]
        first = x if length > 1 else x[:, :1]  # tokens of half a row, or each example's first
        if jnp.issubdtype(x.dtype, jnp.integer):
            first = jnp.where(self.is_first[x.shape[1]][:, : first.shape[1]], first, 0)
        return first[:, None]

    def _others(self, x: Array) -> Array:
        """[rows, tokens, ...] -> [others, 1, length, ...]."""
        at, tokens = self.others[x.shape[1]][:, None], x.reshape(-1, *x.shape[2:])
        if jnp.issubdtype(x.dtype, jnp.integer):
            return tokens.at[at].get(mode="fill", fill_value=0)
        # Zeros would be another pass over all of it.
        return tokens.at[jnp.minimum(at, len(tokens) - 1)].get(mode="promise_in_bounds")

    def by_token(self, leaf: PerExample, tokens: int) -> Array:
        """Of each example -> [rows, tokens, ...]."""
        return jnp.concatenate(leaf)[self.example[tokens]]


def by_part(own: Any) -> PerExample:
    """A tree of what each example has, as two trees."""

    def part(number: int) -> Any:
        return jax.tree.map(lambda leaf: leaf[number], own, is_leaf=lambda node: isinstance(node, PerExample))

    return PerExample(part(0), part(1))


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
            return self.apart.each(lambda own, x: self.of(own)(x), by_part(self.own), x)
        y = self.module(x)
        by_token = {name: self.apart.by_token(leaf, x.shape[1]).astype(y.dtype) for name, leaf in self.own.items()}
        y = y * by_token["scale"] if "scale" in by_token else y
        return y + by_token["bias"] if "bias" in by_token else y


def alone(module: nn.Module, params: Mapping[str, Any]) -> Callable[..., Any]:
    """A module outside of any other, applied to parameters."""
    free = module.clone(parent=None, name=None)
    return lambda *args, **context: free.apply({"params": params}, *args, **context)


def neutral(path: str, leaf: PerExample) -> Array:
    """What stands in the parameters for a leaf that every example has for itself."""
    like = leaf.first[0]
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
      context: as at a site; `shared` is a `PerExample`, or None.
    """
    norm = context.get("norm")
    packed = {name: context[name] for name in ("inputs", "residual", "segments") if name in context}
    of_norm, shared = norm.own if isinstance(norm, Own) else {}, context["shared"] or (None, None)

    def one(leaves: Any, values: Sequence[Any], packed: Mapping[str, Array]) -> Array:
        of_module, of_norm, shared = leaves
        normed = {"norm": norm.of(of_norm)} if isinstance(norm, Own) else {}
        return function(alone(module, of_module), *values, **{**context, **packed, **normed, "shared": shared})

    leaves = PerExample(*zip(by_part(own), by_part(of_norm), shared, strict=True))
    return apart.each(one, leaves, values, packed)
