"""Where arrays live on a mesh of devices with the axes `data` (rows of a batch) and `model` (parts of a matrix)."""

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.params import Tree
from train.options.mesh import MeshShape

AXES = ("data", "model")

# Leaves of the encoder split over `model`, attention by heads and the FFN by hidden units; the rest is replicated.
_RULES = (
    (re.compile(r"attention/(query|key|value)/kernel$|ffn/(hidden|gate)/kernel$"), P(None, "model")),
    (re.compile(r"attention/(query|key|value)/bias$|ffn/hidden/bias$"), P("model")),
    (re.compile(r"(attention|ffn)/dense/kernel$"), P("model", None)),
)


@dataclasses.dataclass(frozen=True)
class Shardings:
    """The shardings of one mesh."""

    mesh: Mesh

    @property
    def replicated(self) -> NamedSharding:
        return NamedSharding(self.mesh, P())

    @property
    def batch(self) -> NamedSharding:
        """The sharding of arrays [micro, rows, ...], whose rows are divided."""
        return NamedSharding(self.mesh, P(None, "data"))

    @property
    def rows(self) -> NamedSharding:
        """The sharding of arrays [rows, ...], whose rows are divided."""
        return NamedSharding(self.mesh, P("data"))

    def stacked(self, sharding: NamedSharding) -> NamedSharding:
        """Returns the sharding of such arrays stacked along a new first axis, which is not divided."""
        return NamedSharding(self.mesh, P(None, *sharding.spec))

    def of(self, tree: Any) -> Any:
        """Returns the sharding of each leaf of a state or parameter tree, by the path of its parameter."""

        def place(keys: tuple, leaf: Any) -> NamedSharding:
            path = "/".join(key.key for key in keys if isinstance(key, jax.tree_util.DictKey))
            specs = [spec for rule, spec in _RULES if rule.search(path) and leaf.ndim == len(spec)]
            return NamedSharding(self.mesh, specs[0] if specs else P())

        return jax.tree_util.tree_map_with_path(place, tree)

    def sum_of_shards(self, function: Callable[[Tree, Any], Any], params: Tree, batch: Any) -> Any:
        """Evaluates `function(params, batch)`, which sums over the rows of [micro, rows, ...], gradients included.

        Every shard of the rows has its own copy of `params`, and the results are added up here. With one copy for all,
        a gradient would be added up where it arises, which is in every layer and in every micro-batch.
        """
        shards = self.mesh.shape["data"]
        if shards == 1:
            return function(params, batch)

        def apart(x: Array) -> Array:
            free = (P.UNCONSTRAINED,) * (x.ndim - 1)
            return jax.lax.with_sharding_constraint(x, NamedSharding(self.mesh, P("data", *free)))

        copies = jax.tree.map(lambda x: apart(jnp.broadcast_to(x, (shards, *x.shape))), params)
        rows = jax.tree.map(lambda x: x.reshape(x.shape[0], shards, -1, *x.shape[2:]), batch)
        results = jax.vmap(function, in_axes=(0, 1))(copies, rows)
        return jax.tree.map(lambda x: apart(x).sum(axis=0), results)


def make_shardings(shape: MeshShape, config: EncoderConfig, devices: Sequence[Any] | None = None) -> Shardings:
    """Returns a mesh of this shape over the first of `devices` (by default this machine's), or over those of all hosts.

    Raises:
      ValueError: there are too few devices, or with several hosts too many, or `model` does not divide the encoder's
        heads and hidden units.
    """
    devices = jax.devices() if devices is None else devices
    if (hosts := len({device.process_index for device in devices})) > 1 and shape.devices != len(devices):
        raise ValueError(
            f"mesh is {str(shape)!r}, {shape.devices} devices; accepted: all {len(devices)} of the {hosts} hosts, such "
            f"as data={len(devices)}"
        )
    check_mesh(shape, config, len(devices), devices[0].platform)
    sizes, automatic = (shape.data, shape.model), (AxisType.Auto,) * len(AXES)
    return Shardings(jax.make_mesh(sizes, AXES, axis_types=automatic, devices=devices[: shape.devices]))


def check_mesh(shape: MeshShape, config: EncoderConfig, devices: int, platform: str) -> None:
    """Raises ValueError if there are too few devices for a mesh, or if it does not divide the encoder."""
    if shape.devices > devices:
        raise ValueError(f"mesh is {str(shape)!r}, {shape.devices} devices; available: {devices} ({platform})")
    for name, size in (("attention heads", config.num_heads), ("hidden units of the FFN", config.intermediate_size)):
        if size % shape.model:
            raise ValueError(f"mesh is {str(shape)!r}: model={shape.model} does not divide the {size} {name}")
