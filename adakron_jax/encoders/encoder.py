"""An encoder of any architecture: its embeddings, and its layers by number.

Sequences come packed: a row holds one or several examples end to end, distinguished by segment number (0 is padding).
Attention stays within a segment. A padded batch is the case of one example per row.
"""

import functools
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core.scope import LazyRng
from jaxtyping import Array, Float, Int

from adakron_jax.encoders import bert, deberta, modernbert
from adakron_jax.encoders.inputs import Packed, Places
from adakron_jax.encoders.module import Part, Stream, take
from adakron_jax.splice import Method

# Each file has `Embeddings` and `Layer`; DeBERTa's also has `Convolution`, which follows the first layer.
FILES: dict[str, Any] = {"bert": bert, "modernbert": modernbert, "deberta": deberta}


class Encoder(Part):
    """Embeddings and layers, `embeddings/...` and `layers/0/...`, `layers/1/...`.

    With `remat` the backward pass recomputes each layer from its input, which is all that is kept of the layer. Results
    are the same.
    """

    remat: bool = False

    @nn.compact
    def __call__(
        self,
        inputs: Packed,
        deterministic: bool = True,
        starts: Int[Array, "rows slots"] | None = None,
    ) -> Float[Array, "rows out hidden"]:
        """Returns the last hidden states of all tokens, or of those at `starts`."""
        everywhere = {"deterministic": deterministic, "shared": self.shared()}
        file = FILES[self.config.architecture.encoder]
        stream = file.Embeddings(*self.parts, name="embeddings")(inputs, everywhere | {"layer": 0})
        drawn = "params" if self.is_initializing() else None if deterministic else "dropout"
        keys = jax.random.split(self.make_rng(drawn), self.config.num_layers) if drawn else None
        places = Places(inputs.segments, inputs.positions)
        after_first = None
        if self.config.conv_kernel:
            convolution = file.Convolution(*self.parts, name="convolution")
            after_first = functools.partial(convolution, x=stream.x, places=places, deterministic=deterministic)
        layers = Layers(*self.parts, remat=self.remat, name="layers")
        return layers(stream, places, everywhere, keys, starts, after_first)


class Layers(Part):
    """The layers.

    Each is a pure, jitted function of its variables, so that equal layers are traced once. Where more than parameters
    may be written, the layers are submodules, so that Linen's tools (`init`, `nn.tabulate`, `capture_intermediates`,
    `sow`) see their contents, with the same values and the same draws. An `init` that may write only parameters creates
    them without computing anything from them.
    """

    remat: bool = False

    @nn.compact
    def __call__(
        self,
        stream: Stream,
        places: Places,
        everywhere: dict[str, Any],
        keys: Array | None,
        starts: Int[Array, "rows slots"] | None,
        after_first: Callable[[Stream, Array | None], Stream] | None = None,
    ) -> Float[Array, "rows out hidden"]:
        """Returns the last hidden states; `keys` holds a key per layer, for its initial values or its dropout."""
        layers, chosen = self.config.num_layers, self.method.layer_numbers(self.config)
        written = False if self.scope is None else self.scope.mutable
        if self.is_initializing() and written == "params":
            for number, leaves in enumerate(self.initial(keys, stream, everywhere)):
                self.put_variable("params", str(number), leaves)
            stream = stream if after_first is None else after_first(stream, None)
            return stream.x if starts is None else take(stream.x, starts)
        drawn = "params" if self.is_initializing() else "dropout"
        run = {inside: self.traced_once(inside, everywhere) for inside in (False, True)}
        whole = True
        for number in range(layers):
            # The last layer is computed only for the tokens that are asked for.
            inside = number in chosen
            whole = starts is None or number < layers - 1 or (inside and not self.method.pointwise)
            given = None if whole else starts
            if written:
                layer: Any = self.layer(inside, name=str(number))
                if keys is not None:  # as if the layer were applied alone
                    layer.scope.rngs = {**layer.scope.rngs, drawn: LazyRng.create(keys[number])}
                stream = layer(stream, places, everywhere | {"layer": number}, given)
            else:
                variables = {name: tree[str(number)] for name, tree in self.variables.items() if str(number) in tree}
                stream = run[inside](variables, stream, places, number, None if keys is None else keys[number], given)
            if number == 0 and after_first is not None:
                stream = after_first(stream, given)
        return take(stream.x, starts) if starts is not None and whole else stream.x

    def layer(self, inside: bool, **place: Any) -> nn.Module:
        """Returns a layer, with the method's modules or without."""
        file = FILES[self.config.architecture.encoder]
        return file.Layer(self.config, self.method if inside else Method(), self.dtype, self.fused, **place)

    def traced_once(self, inside: bool, everywhere: dict[str, Any]) -> Any:
        """Returns a layer as a jitted function of its variables."""
        layer = self.layer(inside, parent=None)

        def run(variables: Any, stream: Stream, places: Places, number: Any, key: Any, starts: Any) -> Any:
            rngs = {} if key is None else {"dropout": key}
            context = everywhere | {"layer": number}
            return cast(Stream, layer.apply(variables, stream, places, context, starts, rngs=rngs))

        return jax.jit(jax.checkpoint(run) if self.remat else run)

    def initial(self, keys: Any, stream: Stream, everywhere: dict[str, Any]) -> list[Any]:
        """Returns fresh parameters of every layer, each from its key."""
        token = jax.tree.map(lambda x: jnp.zeros((1, 1, x.shape[-1])), stream)
        places = Places(jnp.ones((1, 1), jnp.int32), jnp.zeros((1, 1), jnp.int32))
        context = everywhere | {"deterministic": True, "layer": 0}

        @functools.cache
        def of_all(inside: bool) -> Any:
            layer = self.layer(inside, parent=None)
            return jax.vmap(lambda key: layer.init(key, token, places, context)["params"])(keys)

        chosen = self.method.layer_numbers(self.config)
        part = functools.partial(jax.lax.index_in_dim, axis=0, keepdims=False)
        return [jax.tree.map(lambda x, i=i: part(x, i), of_all(i in chosen)) for i in range(self.config.num_layers)]
