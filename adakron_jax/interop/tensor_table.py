"""The places of our leaves in another program's file: one table for reading and writing.

    Entry("encoder/layers/0/attention/query@lora/lora_a", Stored("...layer.0...lora_A.weight", (32, 4), "transposed"))

is a leaf [32, 4] that the file holds as [4, 32].
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from adakron_jax.architectures.stored import Layout, Stored
from adakron_jax.params import refuse

Leaves = dict[str, np.ndarray]
Size = int | Mapping[str, int]  # one for every module, or one for each by its name
_NUMBERS = ("float32", "float16", "bfloat16")
_SHOWN = 4  # problems of one kind that a message lists


class Entry(NamedTuple):
    """A leaf of ours, and the tensor that holds it.

    Attributes:
      path: our path.
      tensor: None if the file has none.
      shape: the leaf's shape, if not the tensor's; a smaller tensor is stored at the start, and the rest is zero.
      fill: the values of a leaf without a tensor.
    """

    path: str
    tensor: Stored | None
    shape: tuple[int, ...] = ()
    fill: float = 0.0


def in_layers(
    path: str,
    modules: Mapping[int, str],
    ending: str,
    shape: tuple[Size, ...],
    layout: Layout = "same",
    fill: float = 0.0,
) -> list[Entry]:
    """Returns the entries of a leaf in every layer that has a module.

    Args:
      path: the leaf's path, with `{i}` for the layer's number.
      modules: layer -> name of the module, to which the tensor's ending is added; empty if the file has no such module.
    """
    largest = tuple(size if isinstance(size, int) else max(size.values()) for size in shape)

    def tensor(name: str) -> Stored:
        return Stored(name + ending, tuple(x if isinstance(x, int) else x[name] for x in shape), layout)

    return [Entry(path.format(i=i), tensor(name) if name else None, largest, fill) for i, name in modules.items()]


def dense(path: str, name: str, sizes: tuple[int, int]) -> list[Entry]:
    """Returns the entries of kernel and bias of a dense layer of torch's."""
    kernel, bias = Stored(f"{name}.weight", sizes, "transposed"), Stored(f"{name}.bias", sizes[1:])
    return [Entry(f"{path}/kernel", kernel), Entry(f"{path}/bias", bias)]


def names_in(table: Iterable[Entry]) -> set[str]:
    """Returns the names of the table's tensors."""
    return {entry.tensor.name for entry in table if entry.tensor}


def read_leaves(table: Sequence[Entry], tensors: Mapping[str, np.ndarray], where: object = "") -> Leaves:
    """Reads the leaves, float32, from a file's tensors; messages call the file `where`.

    Raises:
      ValueError: tensors are missing, misshapen, not of a number type or belong to no leaf, or copies differ.
    """
    missing, misshapen = [], []
    known = {entry.tensor.name: entry.tensor for entry in table if entry.tensor}
    for name, expected in known.items():
        tensor = tensors.get(name)
        if tensor is None:
            missing.append(f"missing {name} {expected.stored_shape}")
        elif tensor.dtype.name not in _NUMBERS:
            misshapen.append(f"{name} holds {tensor.dtype.name}, accepted: {', '.join(_NUMBERS)}")
        elif tensor.shape != expected.stored_shape:
            misshapen.append(f"misshapen {name} {tensor.shape}, expected {expected.stored_shape}")
    unexpected = [f"unexpected {name} {tensors[name].shape}" for name in sorted(tensors.keys() - known.keys())]
    refuse([problem for kind in (misshapen, missing, unexpected) for problem in _shortened(kind)], where)
    leaves: Leaves = {}
    for entry in table:
        leaf = _leaf(entry, tensors)
        if (first := leaves.setdefault(entry.path, leaf)) is not leaf and not np.array_equal(first, leaf):
            refuse([f"{entry.tensor and entry.tensor.name} differs from its copies"], where)
    return leaves


def _shortened(problems: list[str]) -> list[str]:
    if len(problems) <= _SHOWN:
        return problems
    return [*problems[:_SHOWN], f"and {len(problems) - _SHOWN} more of this kind"]


def _leaf(entry: Entry, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
    if entry.tensor is None:
        return np.full(entry.shape, entry.fill, np.float32)
    leaf = np.zeros(entry.shape or entry.tensor.shape, np.float32)
    leaf[tuple(map(slice, entry.tensor.shape))] = entry.tensor.within(tensors[entry.tensor.name])
    return leaf


def write_tensors(table: Iterable[Entry], leaves: Mapping[str, np.ndarray]) -> Leaves:
    """Inverts `read_leaves`: returns the file's tensors from the leaves."""
    tensors: Leaves = {}
    for path, tensor, _, _ in table:
        if tensor:
            stored = tensors.setdefault(tensor.name, np.zeros(tensor.stored_shape, np.float32))
            leaf = np.asarray(leaves[path], np.float32)
            tensor.within(stored)[...] = leaf[tuple(map(slice, tensor.shape))]
    return tensors


def used(*axes: np.ndarray) -> int:
    """Returns how many numbers of an axis are in use: all but trailing ones where every array is zero, bit for bit.

    Args:
      axes: arrays that have this axis first.
    """
    flat = (np.ascontiguousarray(x, np.float32).reshape(len(x), -1).view(np.uint32).any(axis=1) for x in axes)
    places = np.flatnonzero(np.any(list(flat), axis=0))
    return int(places[-1]) + 1 if len(places) else 0


def numerator(quotient: float, divisor: int | float) -> int | float:
    """Returns the number, whole if possible, that gives the quotient when divided by `divisor`."""
    near = quotient * divisor
    exact = (x for x in (round(near), near, math.nextafter(near, 0), math.nextafter(near, math.inf)))
    value = next((x for x in exact if x / divisor == quotient), near)
    return int(value) if value == int(value) else value
