"""Where a method may enter the encoder, and what a method is.

The encoder offers its intermediate values at named sites. A method answers, for each site it wants, with the module
that is to replace the value; everywhere else the value passes untouched and owns no parameters:

    without a method      layers/ffn/dense/{kernel, bias}
    with AdaKron          layers/ffn/dense/{kernel, bias}
                          layers/ffn_dense@adakron/{down_1, down_2, up}/{kernel, bias}

so a base parameter never changes its name, and a name holds an `@` exactly when a method put it there.
"""

import dataclasses
import enum
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Bool, Float

from adakron_jax.architectures import paths
from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.paths import is_stacked

Leaves = dict[str, Any]
ALL_LAYERS = "all"


class Site(enum.StrEnum):
    """A named value of the encoder, with what a module placed there is given besides it.

    Every module is called as `module(value, segments=..., deterministic=..., shared=..., layer=..., **context)`:
    segments [rows, seq] of the tokens that the value is of; what the method's `shared` module returned; the number
    of the layer, from 0. In the last layer only the tokens that the head reads pass the sites of queries and
    outputs, unless the method is not `pointwise`.
    """

    EMBEDDINGS = "embeddings"  # after LayerNorm and dropout [rows, seq, hidden]
    QUERY = "query"  # the projection's output [rows, seq, hidden]; context: inputs
    KEY = "key"
    VALUE = "value"
    KEYS_VALUES = "keys_values"  # a KeysValues; context: inputs
    ATTENTION_CONTEXT = "attention_context"  # the heads' results, side by side [rows, seq, hidden]
    ATTENTION_DENSE = "attention_dense"  # before dropout [rows, seq, hidden]; context: inputs
    # After dropout, before residual and LayerNorm; context: residual, and norm, the LayerNorm that comes next, or the
    # identity where none does before the next layers read the sum.
    ATTENTION_OUTPUT = "attention_output"
    FFN_INNER = "ffn_inner"  # what goes through the GELU [rows, seq, intermediate]; context: inputs
    FFN_HIDDEN = "ffn_hidden"  # what the block's last dense reads [rows, seq, intermediate]
    FFN_DENSE = "ffn_dense"  # as ATTENTION_DENSE
    FFN_OUTPUT = "ffn_output"  # as ATTENTION_OUTPUT


@typing.no_type_check  # jax builds it of shapes too
@struct.dataclass
class KeysValues:
    """What queries attend to.

    Attributes:
      keys, values: by head [rows, heads, keys, head_dim].
      mask: true where a query sees a key [rows, 1, queries, keys].
      gate: None, or a factor on scores and on attention weights [rows, 1, queries, keys]: as if key and value were
        scaled anew for every query.
    """

    keys: Float[Array, "rows heads keys head_dim"]
    values: Float[Array, "rows heads keys head_dim"]
    mask: Bool[Array, "rows 1 queries keys"]
    gate: Float[Array, "rows 1 queries keys"] | None = None


@dataclasses.dataclass(frozen=True)
class Splice:
    """What a method puts at one site.

    Attributes:
      module: builds the Flax module, called as `module(name=...)`.
      label: the part's name in a portable adapter, `layer.{i}.{label}.{leaf}`.
      renamed: a submodule's name -> what stands for `{label}.{submodule}` in its leaves' names.
    """

    module: Callable[..., nn.Module]
    label: str
    renamed: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to fine-tune: which modules go where, and which leaves learn.

    A subclass is a frozen dataclass whose fields are its hyper-parameters; they are checked on construction.

    Attributes:
      layers: which layers its modules are in, `all` or from one to another, `6-11`; the first is 0. The method is asked
        about an encoder of these layers alone, which it counts from 0.
    """

    name: ClassVar[str]
    layers: str = dataclasses.field(default=ALL_LAYERS, kw_only=True)
    # Whether every module computes a token's value from that token alone (keys and values aside).
    pointwise: ClassVar[bool] = True

    @property
    def first_position(self) -> int:
        """The position of an example's first token: how many positions the method takes for itself."""
        return 0

    def splices(self, config: EncoderConfig, dtype: Any = None) -> Mapping[Site, Splice]:
        """The modules by site; `dtype` is the precision they compute in (None: that of their arguments).

        Raises:
          ValueError: a field does not fit this encoder.
        """
        del config, dtype
        return {}

    def shared(self, config: EncoderConfig, dtype: Any = None) -> Splice | None:
        """A module that all layers share, called without arguments once a pass; its result is given to every site."""
        del config, dtype
        return None

    def trains(self, path: str) -> bool:
        """Whether the encoder's leaf at `path` learns; by default those the method added. The head always does."""
        return is_own(path)

    def layer_range(self, config: EncoderConfig) -> range:
        """The layers that its modules are in.

        Raises:
          ValueError: the encoder has no such layers, or the method trains leaves of the encoder in every layer.
        """
        if self.layers == ALL_LAYERS:
            return range(config.num_layers)
        first, _, last = self.layers.partition("-")
        fine = first.isdecimal() and (last or first).isdecimal()
        chosen = range(int(first), int(last or first) + 1) if fine else range(0)
        fine = len(chosen) > 0 and chosen[-1] < config.num_layers
        require(fine, "layers", self.layers, f"{ALL_LAYERS}, or a range like 6-11 within 0-{config.num_layers - 1}")
        everywhere = not self.splices(config) or any(map(self.trains, _LEAVES_OF_A_LAYER))
        require(not everywhere, "layers", self.layers, f"{ALL_LAYERS}, as {self.name} trains the layers themselves")
        return chosen

    def extra_losses(
        self, logits: Float[Array, "*batch labels"], again: Callable[[], Float[Array, "*batch labels"]]
    ) -> Float[Array, " *batch"] | float:
        """What training adds to each example's loss; `again` is another pass with other random numbers."""
        del logits, again
        return 0.0

    def fuse(self, leaves: Leaves, config: EncoderConfig) -> tuple["Method", Leaves]:
        """A simpler method, and the leaves [path -> array] with which it computes the same.

        Args:
          leaves: all of the encoder's, at paths that begin with `encoder/`; others pass untouched.

        Raises:
          ValueError: there is no simpler method.
        """
        del leaves, config
        raise ValueError(f"method {self.name} cannot be fused; accepted: {', '.join(fusable())}")


def of_layers(config: EncoderConfig, chosen: range) -> EncoderConfig:
    """The encoder of some layers alone."""
    return dataclasses.replace(config, num_layers=len(chosen))


def fuse(method: Method, leaves: Leaves, config: EncoderConfig) -> tuple[Method, Leaves]:
    """`method.fuse` in the layers that the method is in; the others' leaves stay."""
    chosen = method.layer_range(config)
    if len(chosen) == config.num_layers:
        return method.fuse(leaves, config)
    part = slice(chosen.start, chosen.stop)
    base = {path: np.array(leaf) for path, leaf in leaves.items() if is_stacked(path) and not is_own(path)}
    simpler, fused = method.fuse(
        {**leaves, **{path: leaf[part] for path, leaf in base.items()}}, of_layers(config, chosen)
    )
    for path, leaf in base.items():
        leaf[part] = fused[path]
    has_modules = any(is_stacked(path) and is_own(path) for path in fused)
    return dataclasses.replace(simpler, layers=method.layers if has_modules else ALL_LAYERS), {**fused, **base}


def fusable() -> list[str]:
    """Names of the registered methods that fuse into the encoder or into a simpler method."""
    return sorted(name for name, method in METHODS.items() if method.fuse is not Method.fuse)


def require(fine: bool, field: str, value: Any, accepted: str) -> None:
    """Refuses a method's field by name, with what is accepted."""
    if not fine:
        raise ValueError(f"method.{field} is {value!r}; accepted: {accepted}")


def is_trainable(method: Method) -> Callable[[str], bool]:
    """The rule that parts a classifier's leaves into trainable and frozen."""
    return lambda path: path.startswith("classifier/") or method.trains(path)


def is_own(path: str) -> bool:
    """Whether a method put the leaf there, learning or not."""
    return "@" in path


def compose(parts: Sequence[Mapping[Site, Splice]]) -> dict[Site, Splice]:
    """All modules of several parts of a method; ValueError if two claim one site."""
    joined: dict[Site, Splice] = {}
    for part in parts:
        if claimed := joined.keys() & part.keys():
            raise ValueError(f"two parts of the method claim the site {min(claimed).value}; accepted: one a site")
        joined |= part
    return joined


# Of every kind, one leaf of a layer that a method may train.
_LEAVES_OF_A_LAYER = (
    *(f"{paths.ATTENTION_NORM}/scale", f"{paths.FFN_NORM}/scale"),
    *(f"{paths.QUERY}/bias", f"{paths.FFN_DENSE}/kernel"),
)

# The dense whose output passes a site: the path of its kernel and bias.
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
    Site.ATTENTION_OUTPUT: paths.LAYERS,
    Site.FFN_INNER: paths.FFN,
    Site.FFN_HIDDEN: paths.FFN,
    Site.FFN_DENSE: paths.FFN,
    Site.FFN_OUTPUT: paths.LAYERS,
}


def path_of(site: Site, method: str) -> str:
    """The path, with a slash at its end, of the leaves that a method of this name has at a site."""
    return f"{_MODULES.get(site, paths.ATTENTION)}/{site}@{method}/"


def path_of_shared(method: str) -> str:
    """Likewise, of the module that all layers share."""
    return f"{paths.ENCODER}/shared@{method}/"


METHODS: dict[str, type[Method]] = {}
_M = TypeVar("_M", bound=type[Method])


def register(method: _M) -> _M:
    """Class decorator: makes a method known by its name, to the command line and to the tests."""
    if METHODS.setdefault(method.name, method) is not method:
        raise ValueError(f"two methods claim the name {method.name!r}")
    return method


def make_method(name: str, fields: Mapping[str, Any]) -> Method:
    """A registered method from its name and fields; ValueError names an unknown one and what is accepted."""
    if name not in METHODS:
        raise ValueError(f"method is {name!r}; accepted: {', '.join(sorted(METHODS))}")
    accepted = [field.name for field in fields_of(METHODS[name])]
    if unknown := sorted(fields.keys() - set(accepted)):
        raise ValueError(f"method {name} has no field {unknown[0]}; accepted: {', '.join(accepted)}")
    hints = typing.get_type_hints(METHODS[name])
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
    for key, value in values.items():
        if hints[key] is float and fits(value, int):
            values[key] = float(value)
        elif not fits(value, hints[key]):
            raise ValueError(f"method.{key} is {value!r}; accepted: {described(hints[key])}")
    return METHODS[name](**values)


def fields_of(method: type[Method] | Method) -> list[dataclasses.Field]:
    """A method's fields, those that every method has last."""
    common = {field.name for field in dataclasses.fields(Method)}
    return sorted(dataclasses.fields(method), key=lambda field: field.name in common)


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a field's declared type: a plain one, a tuple of one, a Literal, or a union of these."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return value in inner
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, each) for each in inner)
    if origin is tuple:
        return isinstance(value, tuple) and all(fits(each, inner[0]) for each in value)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def described(hint: Any) -> str:
    """A declared type in words."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return ", ".join(map(str, inner))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(described, inner))
    return f"a list of {described(inner[0])}" if origin is tuple else hint.__name__
