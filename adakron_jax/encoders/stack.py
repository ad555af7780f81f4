"""An encoder of any architecture: its embeddings, and its layers in a compiled loop.

Sequences come packed: a row holds one or several examples end to end, told apart by their segment number (0 is
padding). Attention stays within a segment. A padded batch is the case of one example a row.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from adakron_jax.encoders import bert, modernbert
from adakron_jax.encoders.apart import OWN, apart_of
from adakron_jax.encoders.inputs import Packed, Places
from adakron_jax.encoders.parts import Part, Stream, take

# Each file has `Embeddings` and `Layer`.
FILES: dict[str, Any] = {"bert": bert, "modernbert": modernbert}


class Encoder(Part):
    """Embeddings and layers.

    The layers' parameters are stacked along a first axis. The first and the last layer stand outside the compiled
    loop over the others: below the first trained leaf there is nothing to differentiate, and of the last layer only
    the tokens that are asked for are computed. With `unroll` there is no loop; with `remat` the backward pass computes
    each layer a second time from the layer's input, which is then all that is kept of it. Neither changes the tree, nor
    results by more than rounding; both at once save a CPU no memory. Initialising makes the layers' parameters and
    computes nothing with them.

    All of this hides the layers from Linen. With `visible` they are submodules in a plain `nn.scan`, so that
    `nn.tabulate`, `capture_intermediates` and `sow` see what is in them, stacked along a first axis of layers. The tree
    and the results are the same; fresh values and dropout's draws are others.
    """

    unroll: bool = False
    remat: bool = False
    visible: bool = False

    @nn.compact
    def __call__(
        self, inputs: Packed, deterministic: bool = True, starts: Int[Array, "rows slots"] | None = None
    ) -> Float[Array, "rows out hidden"]:
        """The last hidden states, of all tokens or of those at `starts`."""
        config, parts = self.config, (self.config, self.method, self.dtype)
        file = FILES[config.architecture.encoder]
        everywhere = {"deterministic": deterministic, "shared": self.shared()}
        places = Places(inputs.segments, inputs.positions)
        stream = file.Embeddings(*parts, name="embeddings")(inputs, everywhere | {"layer": 0})

        if self.visible:
            one = lambda layer, stream, i: (layer(stream, places, everywhere | {"layer": i}), None)  # noqa: E731
            loop = nn.scan(one, {True: 0}, split_rngs={True: True}, length=config.num_layers)
            stream, _ = loop(file.Layer(*parts, name="layers"), stream, jnp.arange(config.num_layers))
            return stream.x if starts is None else take(stream.x, starts)

        layer = file.Layer(*parts, parent=None)
        apart, own = apart_of(self), self.get_variable(OWN, "layers", {})
        if apart is None:
            params = self.param("layers", _init_layers, layer, stream, everywhere)
        else:  # fresh ones have no use for what is every example's own
            params = self.get_variable("params", "layers")
        if self.is_initializing():
            return stream.x if starts is None else take(stream.x, starts)
        keys = None if deterministic else jax.random.split(self.make_rng("dropout"), config.num_layers)

        def one(stream: Stream, leaves: Any, number: Any, starts: Array | None = None) -> Stream:
            rngs = {} if keys is None else {"dropout": keys[number]}
            variables = {"params": leaves[0]} | ({} if apart is None else {OWN: {**leaves[1], "apart": apart}})
            return layer.apply(variables, stream, places, everywhere | {"layer": number}, starts, rngs=rngs)

        apply = jax.jit(jax.checkpoint(one) if self.remat else one)  # traced once for all layers
        inner = config.num_layers - 2
        sizes = [1, inner, 1] if inner > 1 and not self.unroll else [1] * config.num_layers
        *sections, last = _sections((params, own), sizes)
        number = 0
        for size, section in zip(sizes, sections, strict=False):
            if size == 1:
                stream = apply(stream, section, number)
            else:
                steps = (section, number + jnp.arange(size))
                stream, _ = jax.lax.scan(lambda stream, step: (apply(stream, *step), None), stream, steps)
            number += size
        if starts is None or self.method.pointwise:
            return apply(stream, last, number, starts).x
        return take(apply(stream, last, number).x, starts)


def _init_layers(key: Array, layer: Any, stream: Stream, everywhere: dict[str, Any]) -> Any:
    """Fresh parameters of all layers, stacked."""
    token = jax.tree.map(lambda x: jnp.zeros((1, 1, x.shape[-1])), stream)
    places = Places(jnp.ones((1, 1), jnp.int32), jnp.zeros((1, 1), jnp.int32))
    context = everywhere | {"deterministic": True, "layer": 0}
    one = lambda key: layer.init(key, token, places, context)["params"]  # noqa: E731
    return jax.vmap(one)(jax.random.split(key, layer.config.num_layers))


def _sections(stacked: Any, sizes: list[int]) -> list[Any]:
    """Cuts stacked layers apart; one layer alone loses the axis. The gradient is one concatenation."""
    leaves, tree = jax.tree.flatten(stacked)
    cut = [jax.lax.split(leaf, sizes) for leaf in leaves]
    return [tree.unflatten([part[i][0] if size == 1 else part[i] for part in cut]) for i, size in enumerate(sizes)]
