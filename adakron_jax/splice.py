"""The sites where a method may enter the encoder, and the base class of methods.

The encoder offers its intermediate values at named sites. For each site that it wants, a method supplies the module
that replaces the value; everywhere else the value passes unchanged and adds no parameters:

    without a method      layers/3/ffn/dense/{kernel, bias}
    with AdaKron          layers/3/ffn/dense/{kernel, bias}
                          layers/3/ffn/ffn_dense@adakron/{down_1, down_2, up}/{kernel, bias}

so a base parameter never changes its name, and a name holds an `@` exactly when a method added the parameter.
"""

import dataclasses
import enum
import functools
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Bool, Float

from adakron_jax.architectures import paths
from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.layers import ALL_LAYERS, layer_numbers
from adakron_jax.io.fields import hold_to_types

Leaves = dict[str, Any]


class Site(enum.StrEnum):
    """A named value of the encoder; the comments say what else a module placed there is given.

    Every module is called as `module(value, segments=..., deterministic=..., shared=..., layer=..., **context)`:
    `segments` [rows, seq] are those of the value's tokens, `shared` is what the method's `shared` module returned, and
    `layer` is the number of the layer, from 0. The context always has `fused`, which allows kernels for a single GPU.
    In the last layer only the tokens that the head reads pass the sites of queries and outputs, unless the method is
    not `pointwise`.
    """

    EMBEDDINGS = "embeddings"  # after LayerNorm and dropout [rows, seq, hidden]
    # The projection's output [rows, seq, hidden]; context: inputs, and dense, the projection's parameters by name:
    # kernel [in, out], and bias where it has one. A module that computes another value from both costs no more than one
    # that adds to this value, because unread values are never computed.
    QUERY = "query"
    KEY = "key"
    VALUE = "value"
    KEYS_VALUES = "keys_values"  # a KeysValues; context: inputs
    ATTENTION_CONTEXT = "attention_context"  # the heads' results, concatenated [rows, seq, hidden]
    ATTENTION_DENSE = "attention_dense"  # before dropout [rows, seq, hidden]; context: as QUERY
    # After dropout, before residual and LayerNorm; context: residual, and norm, the LayerNorm that comes next, or the
    # identity where no LayerNorm comes before the next layers read the sum.
    ATTENTION_OUTPUT = "attention_output"
    FFN_INNER = "ffn_inner"  # what the GELU reads [rows, seq, intermediate]; context: as QUERY
    FFN_HIDDEN = "ffn_hidden"  # what the block's last dense layer reads [rows, seq, intermediate]
    FFN_DENSE = "ffn_dense"  # as ATTENTION_DENSE
    FFN_OUTPUT = "ffn_output"  # as ATTENTION_OUTPUT
    # What the next layers read or add to [rows, seq, hidden]; context: positions [rows, seq] of the tokens in their
    # examples, and all_segments, the segments of all tokens of the rows.
    LAYER_OUTPUT = "layer_output"


@typing.no_type_check  # jax also builds it from shapes
@struct.dataclass
class KeysValues:
    """The keys and values that queries attend to.

    Attributes:
      keys, values: by head [rows, heads, keys, head_dim].
      mask: true where a query sees a key [rows, 1, queries, keys].
      gate: None, or a factor on scores and on attention weights [rows, 1, queries, keys], as if key and value were
        scaled anew for every query.
    """

    keys: Float[Array, "rows heads keys head_dim"]
    values: Float[Array, "rows heads keys head_dim"]
    mask: Bool[Array, "rows 1 queries keys"]
    gate: Float[Array, "rows 1 queries keys"] | None = None


@dataclasses.dataclass(frozen=True)
class Splice:
    """The module that a method puts at one site.

    Attributes:
      module: builds the Flax module, called as `module(name=...)`.
      label: the module's name in a portable adapter, `layer.{i}.{label}.{leaf}`.
      renamed: a submodule's name -> what replaces `{label}.{submodule}` in its leaves' names.
    """

    module: Callable[..., nn.Module]
    label: str
    renamed: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to fine-tune: which modules are placed where, and which leaves train.

    A subclass is a frozen dataclass whose fields are its hyper-parameters; they are checked on construction.

    Attributes:
      layers: which layers its modules are in, `all` or their numbers, `6-11` or `0-3,8`; the first is 0. The method's
        functions see an encoder of these layers alone, counted from 0.
    """

    name: ClassVar[str]
    layers: str = dataclasses.field(
        default=ALL_LAYERS, kw_only=True, metadata={"accepted": f"{ALL_LAYERS}, or numbers like 6-11"}
    )
    # Whether every module computes a token's value from that token alone (keys and values aside).
    pointwise: ClassVar[bool] = True
    # The smallest accepted value of each numeric field.
    least: ClassVar[Mapping[str, int]] = {}

    def __init_subclass__(cls, **settings: Any):
        """Makes every method check its fields' types and `least` before the method's own checks."""
        super().__init_subclass__(**settings)
        if check_ranges := cls.__dict__.get("__post_init__"):

            def check(self: Method) -> None:
                Method.__post_init__(self)
                check_ranges(self)

            cls.__post_init__ = check

    def __post_init__(self):
        hold_to_types(self, "method.")
        for field, least in self.least.items():
            require(getattr(self, field) >= least, field, getattr(self, field), f"at least {least}")

    @property
    def first_position(self) -> int:
        """The position of an example's first token, which is the number of positions that the method takes."""
        return 0

    def splices(self, config: EncoderConfig, dtype: Any = None) -> Mapping[Site, Splice]:
        """Returns the modules by site; `dtype` is the precision they compute in (None: that of their arguments).

        Raises:
          ValueError: a field is not valid for this encoder.
        """
        del config, dtype
        return {}

    def shared(self, config: EncoderConfig, dtype: Any = None) -> Splice | None:
        """Returns a module that all layers share, called without arguments once a pass; every site gets its result."""
        del config, dtype
        return None

    def trains(self, path: str) -> bool:
        """Returns whether the encoder's leaf at `path` trains; by default added leaves do. The head always trains."""
        return is_added(path)

    def initial(self, base: Leaves, config: EncoderConfig) -> Leaves:
        """Returns initial values of added leaves that depend on the encoder's [path -> array]; the others are drawn."""
        del base, config
        return {}

    def layer_numbers(self, config: EncoderConfig) -> tuple[int, ...]:
        """Returns the layers that its modules are in, ascending.

        Raises:
          ValueError: the encoder has no such layers, or the method trains leaves of the encoder in every layer.
        """
        return _layer_numbers(self, config)

    def seen_of(self, config: EncoderConfig) -> EncoderConfig:
        """Returns the config of an encoder of its layers alone, which the method's functions are given."""
        chosen = self.layer_numbers(config)
        return config if len(chosen) == config.num_layers else dataclasses.replace(config, num_layers=len(chosen))

    def counted(self, layer: Any, config: EncoderConfig) -> Any:
        """Returns the index of a layer, which may be traced, among the method's layers."""
        if self.layers == ALL_LAYERS:
            return layer
        return jnp.searchsorted(jnp.asarray(self.layer_numbers(config)), layer)

    def extra_losses(
        self, logits: Float[Array, "*batch labels"], again: Callable[[], Float[Array, "*batch labels"]]
    ) -> Float[Array, " *batch"] | float:
        """Returns what training adds to each example's loss; `again` is another pass with other random numbers."""
        del logits, again
        return 0.0

    def fuse(self, leaves: Leaves, config: EncoderConfig) -> tuple["Method", Leaves]:
        """Returns a simpler method, and the leaves [path -> array] with which it computes the same.

        Args:
          leaves: all leaves of the encoder, at paths that begin with `encoder/`; others pass unchanged. The method's
            leaves are in the layers that it is in.

        Raises:
          ValueError: there is no simpler method.
        """
        del leaves, config
        raise ValueError(f"method {self.name} cannot be fused")


@functools.cache
def _layer_numbers(method: Method, config: EncoderConfig) -> tuple[int, ...]:
    chosen = layer_numbers(method.layers, config.num_layers)
    accepted = f"{ALL_LAYERS}, or numbers like 6-11 or 0-3,8 within 0-{config.num_layers - 1}"
    require(chosen is not None, "layers", method.layers, accepted)
    assert chosen is not None
    if method.layers != ALL_LAYERS:
        trains_layers = not method.splices(dataclasses.replace(config, num_layers=len(chosen)))
        trains_layers = trains_layers or any(map(method.trains, _LAYER_LEAVES))
        accepted = f"{ALL_LAYERS}, as {method.name} trains the layers themselves"
        require(not trains_layers, "layers", method.layers, accepted)
    return chosen


def require(valid: bool, field: str, value: Any, accepted: str) -> None:
    """Raises ValueError that names a method's field and what is accepted, unless the value is valid."""
    if not valid:
        raise ValueError(f"method.{field} is {value!r}; accepted: {accepted}")


def is_trainable(method: Method) -> Callable[[str], bool]:
    """Returns the rule that splits a classifier's leaves into trainable and frozen."""
    return lambda path: path.startswith("classifier/") or method.trains(path)


def is_added(path: str) -> bool:
    """Returns whether a method added the leaf, trainable or not."""
    return "@" in path


def compose(parts: Sequence[Mapping[Site, Splice]]) -> dict[Site, Splice]:
    """Joins the modules of several parts of a method; ValueError if two parts claim one site."""
    joined: dict[Site, Splice] = {}
    for part in parts:
        if claimed := joined.keys() & part.keys():
            raise ValueError(f"two parts of the method claim the site {min(claimed).value}; accepted: one per site")
        joined |= part
    return joined


# One leaf of each kind that a layer has and a method may train.
_LAYER_LEAVES = (
    *(f"{paths.ATTENTION_NORM}/scale".format(i=0), f"{paths.FFN_NORM}/scale".format(i=0)),
    *(f"{paths.QUERY}/bias".format(i=0), f"{paths.FFN_DENSE}/kernel".format(i=0)),
)

# The dense layer whose output passes a site: the path, with `{i}` for the layer, of its kernel and bias.
DENSES = {
    Site.QUERY: paths.QUERY,
    Site.KEY: paths.KEY,
    Site.VALUE: paths.VALUE,
    Site.ATTENTION_DENSE: paths.ATTENTION_DENSE,
    Site.FFN_INNER: paths.FFN_HIDDEN,
    Site.FFN_DENSE: paths.FFN_DENSE,
}
_MODULES = {
    Site.EMBEDDINGS: paths.EMBEDDINGS,
    Site.ATTENTION_OUTPUT: paths.LAYER,
    Site.FFN_INNER: paths.FFN,
    Site.FFN_HIDDEN: paths.FFN,
    Site.FFN_DENSE: paths.FFN,
    Site.FFN_OUTPUT: paths.LAYER,
    Site.LAYER_OUTPUT: paths.LAYER,
}


def path_of(site: Site, method: str) -> str:
    """Returns the path prefix, with `{i}` for the layer, of the leaves that a method of this name has at a site."""
    return f"{_MODULES.get(site, paths.ATTENTION)}/{site}@{method}/"


def path_of_shared(method: str) -> str:
    """Returns the path prefix of the leaves of a method's shared module."""
    return f"{paths.ENCODER}/shared@{method}/"
