"""An encoder of any architecture: its embeddings, and its layers in a compiled loop.

Sequences come packed: a row holds one or several examples end to end, told apart by their segment number (0 is
padding). Attention stays within a segment. A padded batch is the case of one example a row.
"""

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from adakron_jax.encoders import bert, modernbert
from adakron_jax.encoders.apart import OWN, apart_of
from adakron_jax.encoders.inputs import Packed, Places
from adakron_jax.encoders.module import Part, Stream, take
from adakron_jax.params import flatten, merge_params, split_params, unflatten
from adakron_jax.splice import ALL_LAYERS, Method, is_own, require

# Each file has `Embeddings` and `Layer`.
FILES: dict[str, Any] = {"bert": bert, "modernbert": modernbert}


def unrolls() -> bool:
    """Whether layers are better unrolled here: on a CPU a loop over them costs a third of a step in copies."""
    return jax.default_backend() == "cpu"


class Encoder(Part):
    """Embeddings and layers.

    The layers' parameters are stacked along a first axis. A leaf may also be a list of arrays, one a layer, since a CPU
    copies each layer out of a stack in every pass. The first and the last layer stand outside the compiled loop over
    the others: below the first trained leaf there is nothing to differentiate, and of the last layer only the tokens
    that are asked for are computed. With `unroll` there is no loop; with `remat` the backward pass computes each layer
    a second time from the layer's input, which is then all that is kept of it. Neither changes the tree, nor results by
    more than rounding; both at once save a CPU no memory. Initialising makes the layers' parameters and computes
    nothing with them.

    All of this hides the layers from Linen. With `visible` they are submodules in a plain `nn.scan`, so that
    `nn.tabulate`, `capture_intermediates` and `sow` see what is in them, stacked along a first axis of layers. The tree
    and the results are the same; fresh values and dropout's draws are others.
    """

    unroll: bool = False
    remat: bool = False
    visible: bool = False

    @nn.compact
    def __call__(
        self,
        inputs: Packed,
        deterministic: bool = True,
        starts: Int[Array, "rows slots"] | None = None,
        spread: Int[Array, " more"] | None = None,
    ) -> Float[Array, "rows out hidden"]:
        """The last hidden states, of all tokens or of those at `starts`.

        Args:
          spread: numbers of the rows that take the places of all rows before the first layer that the method is in;
            `starts` are of these.
        """
        config, parts = self.config, (self.config, self.method, self.dtype)
        file = FILES[config.architecture.encoder]
        everywhere = {"deterministic": deterministic, "shared": self.shared()}
        places = Places(inputs.segments, inputs.positions)
        stream = file.Embeddings(*parts, name="embeddings")(inputs, everywhere | {"layer": 0})

        if self.visible:
            require(self.method.layers == ALL_LAYERS, "layers", self.method.layers, "all, where layers are visible")
            call = lambda layer, stream, number: (layer(stream, places, everywhere | {"layer": number}), None)  # noqa: E731
            loop: Any = nn.scan(call, {True: 0}, split_rngs={True: True}, length=config.num_layers)
            stream = loop(file.Layer(*parts, name="layers"), stream, jnp.arange(config.num_layers))[0]
            return stream.x if starts is None else take(stream.x, starts)

        if self.is_initializing():
            self.param("layers", _init_layers, file.Layer(*parts, parent=None), stream, everywhere)
            return stream.x if starts is None else take(stream.x, starts)
        # As they are: not compared with fresh ones, which have neither lists nor what is every example's own.
        params = self.get_variable("params", "layers")
        return self._layers(params, stream, places, everywhere, starts, spread)

    def _layers(
        self,
        params: Any,
        stream: Stream,
        places: Places,
        everywhere: dict[str, Any],
        starts: Array | None,
        spread: Array | None,
    ) -> Float[Array, "rows out hidden"]:
        config, chosen, apart = self.config, self.method.layer_range(self.config), apart_of(self)
        keys = None if everywhere["deterministic"] else jax.random.split(self.make_rng("dropout"), config.num_layers)

        def one(
            inside: bool, stream: Stream, places: Places, leaves: Any, number: Any, starts: Array | None = None
        ) -> Stream:
            method = self.method if inside else Method()
            layer = FILES[config.architecture.encoder].Layer(config, method, self.dtype, parent=None)
            variables = {"params": leaves[0]}
            if inside and apart is not None:
                variables[OWN] = {**leaves[1], "apart": apart}
            rngs = {} if keys is None else {"dropout": keys[number]}
            return layer.apply(variables, stream, places, everywhere | {"layer": number}, starts, rngs=rngs)

        # Traced once for all layers with the method's modules, and once for those without.
        remat = jax.checkpoint if self.remat else lambda function: function
        apply = {inside: jax.jit(remat(functools.partial(one, inside))) for inside in (False, True)}

        def run(section: _Section, stream: Stream, places: Places, starts: Array | None) -> Stream:
            layer = functools.partial(apply[section.begin in chosen], places=places)
            if section.size == 1:
                return layer(stream, leaves=section.leaves, number=section.begin, starts=starts)
            step = lambda stream, step: (layer(stream, leaves=step[0], number=step[1]), None)  # noqa: E731
            return jax.lax.scan(step, stream, (section.leaves, section.begin + jnp.arange(section.size)))[0]

        whole = True
        for section in _sections(params, self.get_variable(OWN, "layers", {}), config.num_layers, chosen, self.unroll):
            if section.begin == chosen.start and spread is not None:
                stream, places = jax.tree.map(lambda x: x[spread], (stream, places))
            is_last = section.begin == config.num_layers - 1
            whole = starts is None or not is_last or (section.begin in chosen and not self.method.pointwise)
            stream = run(section, stream, places, None if whole else starts)
        return take(stream.x, starts) if starts is not None and whole else stream.x


class _Section(NamedTuple):
    """Layers that are run alike: the first, how many, and their parameters and own leaves."""

    begin: int
    size: int
    leaves: tuple[Any, Any]


def _init_layers(key: Array, layer: Any, stream: Stream, everywhere: dict[str, Any]) -> Any:
    """Fresh parameters of all layers, stacked."""
    token = jax.tree.map(lambda x: jnp.zeros((1, 1, x.shape[-1])), stream)
    places = Places(jnp.ones((1, 1), jnp.int32), jnp.zeros((1, 1), jnp.int32))
    context = everywhere | {"deterministic": True, "layer": 0}
    one = lambda key: layer.init(key, token, places, context)["params"]  # noqa: E731
    params = flatten(jax.vmap(one)(jax.random.split(key, layer.config.num_layers)))
    chosen = layer.method.layer_range(layer.config)
    part = slice(chosen.start, chosen.stop)
    return unflatten({path: leaf[part] if is_own(path) else leaf for path, leaf in params.items()})


def _sections(params: Any, own: Any, layers: int, chosen: range, unroll: bool) -> list[_Section]:
    """Cuts stacked layers apart; what the method added, and own leaves, are of the chosen layers alone."""
    edges = sorted({0, layers - 1, layers, chosen.start, chosen.start + 1, chosen.stop})
    edges = list(range(layers + 1)) if unroll else edges
    sizes = {begin: end - begin for begin, end in itertools.pairwise(edges)}
    added, base = split_params(params, is_own)
    of_base = _cut(base, list(sizes.values()))
    of_method = iter(_cut((added, own), [size for begin, size in sizes.items() if begin in chosen]))
    sections = []
    for (begin, size), leaves in zip(sizes.items(), of_base, strict=True):
        more, mine = next(of_method) if begin in chosen else ({}, {})
        sections.append(_Section(begin, size, (merge_params(more, leaves), mine)))
    return sections


def _cut(stacked: Any, sizes: list[int]) -> list[Any]:
    """Cuts stacked layers apart; one layer alone loses the axis. The gradient is one concatenation."""
    leaves, tree = jax.tree.flatten(stacked, is_leaf=lambda leaf: isinstance(leaf, list))
    cut = [_cut_leaf(leaf, sizes) for leaf in leaves]
    return [tree.unflatten([part[i] for part in cut]) for i in range(len(sizes))]


def _cut_leaf(leaf: Any, sizes: list[int]) -> list[Any]:
    if not isinstance(leaf, list):
        return [part[0] if size == 1 else part for size, part in zip(sizes, jax.lax.split(leaf, sizes), strict=True)]
    parts = [leaf[end - size : end] for size, end in zip(sizes, itertools.accumulate(sizes), strict=True)]
    return [part[0] if len(part) == 1 else jax.tree.map(lambda *x: jnp.stack(x), *part) for part in parts]
