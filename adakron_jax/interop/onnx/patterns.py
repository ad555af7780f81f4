"""Functions that are one operator in ONNX, recognised by the primitives that JAX makes of them.

Each function is traced for the shapes at hand; where the same primitives occur in a traced model, the operator replaces
them. Functions that are not recognised are still computed by primitives.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adakron_jax.encoders.module import gelu
from adakron_jax.encoders.ops.norm import LayerNorm
from adakron_jax.interop.onnx.flat import Flat, Node, Value, flat

Shapes = tuple[tuple[Any, ...], ...]


@dataclasses.dataclass(frozen=True)
class Pattern:
    """A function, and the operator that computes it.

    Attributes:
      operator, attributes: of ONNX.
      function: the function in JAX, of the operator's inputs in their order.
      last: the primitive that it ends with.
      shapes: from that primitive to the inputs' shapes.
    """

    operator: str
    attributes: Mapping[str, Any]
    function: Callable[..., Any]
    last: str
    shapes: Callable[[Node], Shapes] = lambda node: (node.outputs[0].shape,)

    def match(self, node: Node) -> list[Value] | None:
        """Returns the operator's inputs if a node is the function's last, else None."""
        if node.name != self.last or not node.outputs[0].shape or node.outputs[0].dtype != np.float32:
            return None
        example = _example(self.function, self.shapes(node))
        bound: dict[Value, Value] = {}
        if not _same(example.outputs[0], node.outputs[0], example.inputs, bound):
            return None
        return [bound[value] for value in example.inputs]


def patterns(epsilon: float) -> list[Pattern]:
    """Returns the patterns of an encoder whose LayerNorm adds `epsilon`."""

    def norm(x: Any, scale: Any, bias: Any = None) -> Any:
        params = {"scale": scale} if bias is None else {"scale": scale, "bias": bias}
        return LayerNorm(epsilon, bias is not None).apply({"params": params}, x)

    def of_norm(vectors: int) -> Callable[[Node], Shapes]:
        return lambda node: (node.outputs[0].shape, *[node.outputs[0].shape[-1:]] * vectors)

    normalize = "LayerNormalization", {"axis": -1, "epsilon": epsilon}
    return [
        Pattern(*normalize, norm, "add", of_norm(2)),
        Pattern(*normalize, norm, "mul", of_norm(1)),
        Pattern("Softmax", {"axis": -1}, jax.nn.softmax, "div"),
        Pattern("Gelu", {}, gelu, "mul"),
        Pattern("Gelu", {}, functools.partial(jax.nn.gelu, approximate=False), "mul"),
        Pattern("Gelu", {"approximate": "tanh"}, jax.nn.gelu, "mul"),
        Pattern("Gather", {"axis": 0}, _rows, "gather", lambda node: (node.inputs[0].shape, node.inputs[1].shape[:-1])),
    ]


def _rows(table: Any, ids: Any) -> Any:
    return jnp.take(table, ids.astype(jnp.int32), axis=0)


@functools.lru_cache(maxsize=256)
def _example(function: Callable[..., Any], shapes: Shapes) -> Flat:
    integers = {1} if function is _rows else set()
    return flat(
        function,
        {
            str(i): jax.ShapeDtypeStruct(shape, jnp.int32 if i in integers else jnp.float32)
            for i, shape in enumerate(shapes)
        },
    )


def _same(example: Value, value: Value, inputs: list[Value], bound: dict[Value, Value]) -> bool:
    """Returns whether a value is computed like the example; `bound` collects the values of the example's inputs."""
    if example in bound:
        return bound[example] is value
    if (example.shape, example.dtype) != (value.shape, value.dtype):
        return False
    if example in inputs:
        bound[example] = value
        return True
    if example.known is not None:
        return value.known is not None and np.array_equal(example.known, value.known)
    left, right = example.node, value.node
    if left is None or right is None or (left.name, example.index) != (right.name, value.index):
        return False
    return left.params == right.params and all(
        _same(*pair, inputs, bound) for pair in zip(left.inputs, right.inputs, strict=True)
    )
