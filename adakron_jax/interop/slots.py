"""Where the leaves of ours lie in somebody else's file: one table for reading and writing.

    Slot("encoder/layers/{i}/attention/query@lora/lora_a", {0: Piece("...layer.0...lora_A.weight", (32, 4)), 2: None})

are two leaves [32, r], of the layers 0 and 2, of which the file has the first. If r is larger than 4, the rest is zero.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from adakron_jax.params import refuse

Leaves = dict[str, np.ndarray]
Layout = Literal["same", "transposed", "flat", "column", "row", "spread"]
_NUMBERS = ("float32", "float16", "bfloat16")
_SHOWN = 4  # problems of one kind that a message lists


class Piece(NamedTuple):
    """A tensor of the file, or a part of one.

    Attributes:
      name: its name there.
      shape: in our layout.
      layout: how it lies there: `transposed`, its first two axes exchanged; `flat`, row by row in one vector; a vector
        as a `column` [n, 1] or a `row` [1, n]; `spread`, a matrix as [n, 1, m].
      part, of: it is the `part`-th of `of` equal parts of the tensor, along our last axis.
    """

    name: str
    shape: tuple[int, ...]
    layout: Layout = "same"
    part: int = 0
    of: int = 1

    @property
    def whole(self) -> tuple[int, ...]:
        """The tensor's shape in our layout."""
        return (*self.shape[:-1], self.shape[-1] * self.of)

    @property
    def stored_shape(self) -> tuple[int, ...]:
        match self.layout:
            case "transposed":
                return (*self.whole[1::-1], *self.whole[2:])
            case "column":
                return (*self.whole, 1)
            case "row":
                return (1, *self.whole)
            case "flat":
                return (math.prod(self.whole),)
            case "spread":
                return (self.whole[0], 1, *self.whole[1:])
        return self.whole

    def within(self, tensor: np.ndarray) -> np.ndarray:
        """Where it is in the tensor, in our layout: a view, to read and to write."""
        whole = tensor.swapaxes(0, 1) if self.layout == "transposed" else tensor.reshape(self.whole)
        width = self.shape[-1]
        return whole[..., self.part * width : (self.part + 1) * width]


class Slot(NamedTuple):
    """A leaf of ours, or one of each of some layers.

    Attributes:
      path: ours, `{i}` being the layer's number.
      pieces: by the number of the layer, None where the file has none; or, of a leaf outside the layers, the only one.
      fill: the values of a leaf without a piece.
      shape: where the leaf is larger than the pieces; they lie at its beginning, and the rest is zero.
    """

    path: str
    pieces: Mapping[int, Piece | None] | Piece
    fill: float = 0.0
    shape: tuple[int, ...] | None = None

    @property
    def all(self) -> Iterable[Piece]:
        return (self.pieces,) if isinstance(self.pieces, Piece) else filter(None, self.pieces.values())

    @property
    def by_path(self) -> Mapping[str, Piece | None]:
        """Path of each leaf -> its piece."""
        if isinstance(self.pieces, Piece):
            return {self.path: self.pieces}
        return {self.path.format(i=layer): piece for layer, piece in self.pieces.items()}


def take(slots: Sequence[Slot], tensors: Mapping[str, np.ndarray]) -> Leaves:
    """The leaves, float32, from a file's tensors.

    Raises:
      ValueError: tensors are missing, misshapen, of no number type or belong to no slot, or copies differ.
    """
    missing, misshapen = [], []
    known = {piece.name: piece for slot in slots for piece in slot.all}
    for piece in known.values():
        tensor = tensors.get(piece.name)
        if tensor is None:
            missing.append(f"missing {piece.name} {piece.stored_shape}")
        elif tensor.dtype.name not in _NUMBERS:
            misshapen.append(f"{piece.name} holds {tensor.dtype.name}, accepted: {', '.join(_NUMBERS)}")
        elif tensor.shape != piece.stored_shape:
            misshapen.append(f"misshapen {piece.name} {tensor.shape}, expected {piece.stored_shape}")
    unexpected = [f"unexpected {name} {tensors[name].shape}" for name in sorted(tensors.keys() - known.keys())]
    refuse(problem for kind in (misshapen, missing, unexpected) for problem in _shortened(kind))
    leaves: Leaves = {}
    for slot in slots:
        for path, leaf in _leaves(slot, tensors):
            if (first := leaves.setdefault(path, leaf)) is not leaf and not np.array_equal(first, leaf):
                refuse(f"{piece.name} is another than its copies" for piece in slot.all)
    return leaves


def _shortened(problems: list[str]) -> list[str]:
    if len(problems) <= _SHOWN:
        return problems
    return [*problems[:_SHOWN], f"and {len(problems) - _SHOWN} more of this kind"]


def _leaves(slot: Slot, tensors: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    shape = slot.shape or tuple(map(max, zip(*(piece.shape for piece in slot.all), strict=True)))
    for path, piece in slot.by_path.items():
        leaf = np.full(shape, 0.0 if piece else slot.fill, np.float32)
        if piece:
            leaf[tuple(map(slice, piece.shape))] = piece.within(tensors[piece.name])
        yield path, leaf


def put(slots: Sequence[Slot], leaves: Mapping[str, Any]) -> Leaves:
    """The inverse: the file's tensors from the leaves."""
    tensors: Leaves = {}
    for path, piece in (pair for slot in slots for pair in slot.by_path.items()):
        if piece:
            if piece.name not in tensors:
                tensors[piece.name] = np.zeros(piece.stored_shape, np.float32)
            leaf = np.asarray(leaves[path], np.float32)
            piece.within(tensors[piece.name])[...] = leaf[tuple(map(slice, piece.shape))]
    return tensors


def pieces(
    modules: Mapping[int, str],
    ending: str,
    shape: tuple[int | Mapping[str, int], ...],
    layout: Layout = "same",
) -> dict[int, Piece | None]:
    """The tensor with this ending of each layer's module; none where the module's name is empty.

    Args:
      shape: a size that is not every module's has one for each name.
    """

    def piece(name: str) -> Piece:
        sizes = (size if isinstance(size, int) else size[name] for size in shape)
        return Piece(name + ending, tuple(sizes), layout)

    return {layer: piece(name) if name else None for layer, name in modules.items()}


def used(*axes: np.ndarray) -> int:
    """How many numbers of an axis are in use: all but trailing ones where every array is zero, bit for bit.

    Args:
      axes: arrays whose first axis it is.
    """
    flat = (np.ascontiguousarray(x, np.float32).reshape(len(x), -1).view(np.uint32).any(axis=1) for x in axes)
    places = np.flatnonzero(np.any(list(flat), axis=0))
    return int(places[-1]) + 1 if len(places) else 0


def numerator(quotient: float, divisor: int | float) -> int | float:
    """The number, whole if it is one, that divided by `divisor` gives the quotient."""
    near = quotient * divisor
    exact = (x for x in (round(near), near, math.nextafter(near, 0), math.nextafter(near, math.inf)))
    value = next((x for x in exact if x / divisor == quotient), near)
    return int(value) if value == int(value) else value
