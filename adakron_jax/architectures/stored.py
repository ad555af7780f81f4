"""How a leaf of ours lies in a file: of a pretrained encoder, of an adapter, of another program."""

import math
from typing import Literal, NamedTuple

import numpy as np

Layout = Literal["same", "transposed", "reversed", "flat", "column", "row", "spread"]


class Stored(NamedTuple):
    """The tensor that holds a leaf, alone or among others.

    Attributes:
      name: of the tensor; in an architecture's table without prefix, and `{i}` is the layer's number, `{next}` that of
        the layer after it.
      shape: the leaf's, in our layout; none in an architecture's table, where it follows from an encoder's sizes.
      layout: how it lies there: `transposed`, its first two axes exchanged; `reversed`, all of its axes, as torch has
        kernels, a convolution's [out, in, taps] where ours is [taps, in, out]; `flat`, row by row in one vector; a
        vector as a `column` [n, 1] or a `row` [1, n]; `spread`, a matrix as [n, 1, m].
      part, of: the leaf is the `part`-th of `of` equal parts of the tensor, along our last axis.
      last: the last layer's tensor, where its name is another.
    """

    name: str
    shape: tuple[int, ...] = ()
    layout: Layout = "same"
    part: int = 0
    of: int = 1
    last: str = ""

    def of_layer(self, i: int, layers: int, shape: tuple[int, ...]) -> "Stored":
        """The tensor of one of so many layers, and the leaf's shape."""
        name = self.last if self.last and i == layers - 1 else self.name.format(i=i, next=i + 1)
        return self._replace(name=name, shape=shape)

    @property
    def whole(self) -> tuple[int, ...]:
        """The tensor's shape in our layout."""
        return (*self.shape[:-1], self.shape[-1] * self.of)

    @property
    def stored_shape(self) -> tuple[int, ...]:
        whole = self.whole
        return {
            "same": whole,
            "transposed": (*whole[1::-1], *whole[2:]),
            "reversed": whole[::-1],
            "flat": (math.prod(whole),),
            "column": (*whole, 1),
            "row": (1, *whole),
            "spread": (whole[0], 1, *whole[1:]),
        }[self.layout]

    def within(self, tensor: np.ndarray) -> np.ndarray:
        """Where the leaf is in the tensor, in our layout: a view, to read and to write."""
        turned = {"transposed": lambda: tensor.swapaxes(0, 1), "reversed": lambda: tensor.T}
        whole = turned.get(self.layout, lambda: tensor.reshape(self.whole))()
        width = self.shape[-1]
        return whole[..., self.part * width : (self.part + 1) * width]
