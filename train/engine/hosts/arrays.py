"""Arrays on the devices of several hosts."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding

from train.options.config import RunConfig
from train.options.mesh import MeshShape


def is_writer() -> bool:
    """Returns whether this is the host that writes the run's folder and prints."""
    return jax.process_index() == 0


def alone() -> bool:
    return jax.process_count() == 1


def on_all_devices(config: RunConfig) -> RunConfig:
    """Returns the configuration with rows divided among the devices of all hosts, unless it sets its own mesh."""
    if config.mesh != RunConfig.mesh:
        return config
    return dataclasses.replace(config, mesh=str(MeshShape(data=jax.device_count())))


def rows_here(sharding: NamedSharding) -> Callable[[int], np.ndarray]:
    """Returns a function from an array's number of rows, its axis `data`, to the rows on this host, ascending."""
    axis = sharding.spec.index("data")

    def numbers(rows: int) -> np.ndarray:
        places = sharding.addressable_devices_indices_map((1,) * axis + (rows,)).values()
        spans = {place[axis].indices(rows)[:2] for place in places if place is not None}
        return np.concatenate([np.arange(*span) for span in sorted(spans)])

    return np.arange if alone() else numbers


def put_rows(batch: Any, sharding: NamedSharding) -> Any:
    """Joins arrays that hold each host's own rows into arrays with the rows of all; rows are the axis `data`."""
    if alone():
        return jax.device_put(batch, sharding)
    axis, shards = sharding.spec.index("data"), sharding.mesh.shape["data"]
    of_shards = len(rows_here(sharding)(shards))

    def put(array: np.ndarray) -> jax.Array:
        rows = array.shape[axis] // of_shards * shards
        local = rows_here(sharding)(rows)

        def part(place: Any) -> np.ndarray:
            start, stop, _ = place[axis].indices(rows)
            begin = int(np.searchsorted(local, start))
            return array[(slice(None),) * axis + (slice(begin, begin + stop - start),)]

        shape = (*array.shape[:axis], rows, *array.shape[axis + 1 :])
        return jax.make_array_from_callback(shape, sharding, part)

    return jax.tree.map(put, batch)


def put(tree: Any, shardings: Any) -> Any:
    """Lays out a tree, which every host has in full, over the devices of all hosts."""
    if alone():
        return jax.device_put(tree, shardings)

    def put(leaf: Any, sharding: NamedSharding) -> jax.Array:
        array = np.asarray(leaf)
        return jax.make_array_from_callback(array.shape, sharding, lambda place: array[place])

    return jax.tree.map(put, tree, shardings)


def fetch(tree: Any) -> Any:
    """Copies a tree of arrays in full into the memory of every host."""

    def whole(leaf: Any) -> np.ndarray:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable or leaf.is_fully_replicated:
            return np.asarray(leaf)
        return multihost_utils.process_allgather(leaf, tiled=True)

    return jax.device_get(tree) if alone() else jax.tree.map(whole, tree)
