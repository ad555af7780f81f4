"""Prefix-tuning (Li and Liang 2021), in the form of UniPELT's authors.

In every layer, `length` trained keys and values precede the real ones, and every query sees them. They are trained
directly, or through

    P = tanh(E W1 + b1) W2 + b2        E [length, d], W1 [d, mid], W2 [mid, 2 L d]

which is needed only in training: `fuse` keeps P alone.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.encoders.ops.matmul import dot_general
from adakron_jax.methods.arithmetic import kaiming_uniform
from adakron_jax.methods.registry import register
from adakron_jax.splice import KeysValues, Leaves, Method, Site, Splice, path_of, path_of_shared, require


@register
@dataclasses.dataclass(frozen=True)
class Prefix(Method):
    """Prefix-tuning.

    Attributes:
      length: number of vectors in a prefix.
      mlp: whether the vectors are trained through the MLP.
      mid: hidden width of the MLP.
      shift_positions: whether the prefix takes the first `length` positions, so that the real tokens' positions begin
        after it, as in peft.
    """

    name: ClassVar[str] = "prefix"
    least = {"length": 1, "mid": 1}
    length: int = 10
    mlp: bool = True
    mid: int = 512
    shift_positions: bool = False

    @property
    def first_position(self) -> int:
        return self.length if self.shift_positions else 0

    def splices(self, config: EncoderConfig, dtype: Any = None) -> Mapping[Site, Splice]:
        module = functools.partial(Prepend, self.length, not self.mlp, dtype)
        return {Site.KEYS_VALUES: Splice(module, label="prefix")}

    def shared(self, config: EncoderConfig, dtype: Any = None) -> Splice | None:
        if not self.mlp:
            return None
        module = functools.partial(Generator, self.length, self.mid, config.num_layers, config.hidden_size, dtype)
        return Splice(module, label="prefix")

    def fuse(self, leaves: Leaves, config: EncoderConfig) -> tuple[Method, Leaves]:
        require(self.mlp, "mlp", self.mlp, "true: a prefix without its MLP is as simple as it can be")
        return dataclasses.replace(self, mlp=False), without_mlp(leaves, self.name, self.layer_numbers(config))


def without_mlp(leaves: Leaves, method: str, layers: Sequence[int]) -> Leaves:
    """Replaces the MLP by the prefixes that it gives to these layers."""
    shared, site = path_of_shared(method), path_of(Site.KEYS_VALUES, method)
    names = ("embedding", "mlp_1/kernel", "mlp_1/bias", "mlp_2/kernel", "mlp_2/bias")
    embedding, w1, b1, w2, b2 = (np.asarray(leaves[shared + name]) for name in names)
    prefixes = by_layer(np.tanh(embedding @ w1 + b1) @ w2 + b2, len(layers))
    fused = {path: leaf for path, leaf in leaves.items() if not path.startswith(shared)}
    for layer, (key, value) in zip(layers, prefixes, strict=True):
        fused |= {f"{site}key".format(i=layer): key, f"{site}value".format(i=layer): value}
    return fused


def by_layer(prefixes: Float[Array | np.ndarray, "length all"], layers: int) -> Any:
    """Returns the prefixes [layers, 2, length, d]; layer i's keys are the MLP's outputs 2 i, its values 2 i + 1."""
    return prefixes.reshape(len(prefixes), layers, 2, -1).transpose(1, 2, 0, 3)


class Generator(nn.Module):
    """The MLP, which generates the prefixes of all layers."""

    length: int
    mid: int
    layers: int
    d: int
    dtype: Any = None

    @nn.compact
    def __call__(self) -> Float[Array, "layers 2 length d"]:
        def dense(features: int, name: str) -> nn.Dense:
            return nn.Dense(features, dtype=self.dtype, kernel_init=kaiming_uniform, dot_general=dot_general, name=name)

        embedding = self.param("embedding", nn.initializers.normal(1.0), (self.length, self.d))
        hidden = jnp.tanh(dense(self.mid, "mlp_1")(embedding))
        return by_layer(dense(2 * self.layers * self.d, "mlp_2")(hidden), self.layers)


class Prepend(nn.Module):
    """Puts the prefix before keys and values.

    Attributes:
      direct: whether the prefix is a parameter of the module; otherwise the generator supplies it.
      gate: builds a module called as `gate(x, segments)` [rows, seq, 1]. For each query, it scales the prefix's keys
        and values by the gate of the query's example.
    """

    length: int
    direct: bool
    dtype: Any = None
    gate: Callable[..., nn.Module] | None = None

    @nn.compact
    def __call__(
        self, value: KeysValues, inputs: Float[Array, "rows seq d"], segments: Array, shared: Any, layer: Any, **_: Any
    ) -> KeysValues:
        if self.direct:
            shape = (self.length, inputs.shape[-1])
            prefix = [self.param(name, nn.initializers.normal(1.0), shape) for name in ("key", "value")]
        else:
            prefix = shared[layer]

        def prepend(x: Array, vectors: Array) -> Array:
            rows, heads, _, head_dim = x.shape
            vectors = vectors.reshape(self.length, heads, head_dim).swapaxes(0, 1).astype(x.dtype)
            return jnp.concatenate([jnp.broadcast_to(vectors, (rows, *vectors.shape)), x], axis=2)

        longer = [(0, 0), (0, 0), (0, 0), (self.length, 0)]
        gate = None
        if self.gate is not None:
            of_query = self.gate(name="gate")(inputs, segments)[:, None]
            of_prefix = jnp.broadcast_to(of_query, (*of_query.shape[:-1], self.length))
            gate = jnp.concatenate([of_prefix, jnp.ones(value.mask.shape, of_query.dtype)], axis=-1)
        return KeysValues(
            keys=prepend(value.keys, prefix[0]),
            values=prepend(value.values, prefix[1]),
            mask=jnp.pad(value.mask, longer, constant_values=True),
            gate=gate,
        )
