"""How a leaf is stored in a file: of a pretrained encoder, of an adapter, of another program."""

import math
from typing import Literal, NamedTuple

import numpy as np

Layout = Literal["same", "transposed", "reversed", "flat", "column", "row", "spread"]


class Stored(NamedTuple):
    """The tensor that holds a leaf, alone or with others.

    Attributes:
      name: the tensor's name; in an architecture's table without prefix, with `{i}` for the layer's number and `{next}`
        for the next layer's.
      shape: the leaf's shape in our layout; empty in an architecture's table, where an encoder's sizes decide it.
      layout: the layout in the file: `transposed`, with the first two axes exchanged; `reversed`, with all axes
        reversed, as torch stores kernels, a convolution's as [out, in, taps] where ours is [taps, in, out]; `flat`, row
        by row in one vector; a vector as a `column` [n, 1] or a `row` [1, n]; `spread`, a matrix as [n, 1, m].
      part, of: the leaf is the `part`-th of `of` equal parts of the tensor, along our last axis.
      last: the last layer's tensor, if its name differs.
    """

    name: str
    shape: tuple[int, ...] = ()
    layout: Layout = "same"
    part: int = 0
    of: int = 1
    last: str = ""

    def of_layer(self, i: int, layers: int, shape: tuple[int, ...]) -> "Stored":
        """Returns the tensor of layer `i`, with the leaf's shape."""
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
        """Returns the leaf's part of the tensor in our layout, as a view to read and to write."""
        turned = {"transposed": lambda: tensor.swapaxes(0, 1), "reversed": lambda: tensor.T}
        whole = turned.get(self.layout, lambda: tensor.reshape(self.whole))()
        width = self.shape[-1]
        return whole[..., self.part * width : (self.part + 1) * width]
