"""ONNX operators for each of JAX's primitives.

A value may be smaller in the graph than in JAX, with axes of size 1, or no axes, where it would be repeated; ONNX
repeats it in elementwise operators, as NumPy does. `lazy` reads a value in this form, `full` in its full size.
"""

import string
from collections.abc import Callable
from typing import Any

import numpy as np

from adakron_jax.interop.onnx.flat import Flat, Node, Value
from adakron_jax.interop.onnx.graph import TYPES, Graph, Tensor, type_of
from adakron_jax.interop.onnx.patterns import Pattern

_MASKED = -1e30  # scores as low as this have no weight
# Primitives that are one operator with the same inputs.
_SAME = {
    "abs": "Abs",
    "add": "Add",
    "and": "And",
    "cos": "Cos",
    "div": "Div",
    "eq": "Equal",
    "erf": "Erf",
    "exp": "Exp",
    "floor": "Floor",
    "ge": "GreaterOrEqual",
    "gt": "Greater",
    "le": "LessOrEqual",
    "log": "Log",
    "lt": "Less",
    "logistic": "Sigmoid",
    "max": "Max",
    "min": "Min",
    "mul": "Mul",
    "neg": "Neg",
    "not": "Not",
    "or": "Or",
    "pow": "Pow",
    "sign": "Sign",
    "sin": "Sin",
    "sqrt": "Sqrt",
    "sub": "Sub",
    "tanh": "Tanh",
}
_REDUCED = {
    "reduce_max": "ReduceMax",
    "reduce_min": "ReduceMin",
    "reduce_sum": "ReduceSum",
    "reduce_prod": "ReduceProd",
}


class Converter:
    """Turns a flat function into a graph."""

    def __init__(self, function: Flat, known: list[Pattern]):
        self.graph = Graph()
        self.tensors = {x: self.graph.input(x.name, x.shape, x.dtype) for x in function.inputs}
        wanted, matched = set(function.outputs), {}
        for node in reversed(function.nodes):
            if wanted.isdisjoint(node.outputs):
                continue
            matches = ((pattern, pattern.match(node)) for pattern in known)
            matched[node] = next(((pattern, inputs) for pattern, inputs in matches if inputs is not None), None)
            wanted.update(matched[node][1] if matched[node] else node.inputs)
        for node in function.nodes:
            if node in matched:
                made = self._matched(node, *matched[node]) if matched[node] else self._node(node)
                self.tensors.update(zip(node.outputs, made, strict=True))
        self.outputs = [self.full(value) for value in function.outputs]

    def lazy(self, x: Value) -> Tensor:
        """Returns a value that may have to be repeated along axes on use."""
        if x.known is None:
            return self.tensors[x]
        shape = x.known.shape
        while shape[:1] == (1,):
            shape = shape[1:]
        return self.graph.constant(x.known.reshape(shape), x.name)

    def full(self, x: Value) -> Tensor:
        """Returns a value in its full size."""
        if x.known is not None and x.static:
            return self.graph.constant(np.broadcast_to(x.known, x.shape), x.name)
        return self.graph.expand(self.lazy(x), x.shape)

    def _matched(self, node: Node, pattern: Pattern, inputs: list[Value]) -> list[Tensor]:
        tensors = [self.full(x) for x in inputs]
        return [self.graph.add(pattern.operator, node.outputs[0].shape, *tensors, **pattern.attributes)]

    def _node(self, node: Node) -> list[Tensor]:
        if node.name in _SAME:
            return [self.elementwise(_SAME[node.name], *map(self.lazy, node.inputs))]
        if node.name in _REDUCED:
            axes = self.graph.ints(*node.params["axes"])
            return [
                self.graph.add(_REDUCED[node.name], node.outputs[0].shape, self.full(node.inputs[0]), axes, keepdims=0)
            ]
        if node.name not in OPERATORS:
            raise ValueError(f"JAX's {node.name} has no equivalent in ONNX here")
        made = OPERATORS[node.name](self, node)
        return made if isinstance(made, list) else [made]

    def number(self, value: int | float) -> Tensor:
        """Returns a float32 that repeats along every axis."""
        return self.graph.constant(np.float32(value))

    def elementwise(self, operator: str, *inputs: Tensor, **attributes: Any) -> Tensor:
        return self.graph.add(operator, broadcast(*(x.shape for x in inputs)), *inputs, **attributes)


def broadcast(*shapes: tuple[Any, ...]) -> tuple[Any, ...]:
    """Returns the shape to which arrays broadcast; sizes may be symbolic."""
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    return tuple(next((size for size in sizes if size != 1), 1) for sizes in zip(*padded, strict=True))


def _convert(to: Converter, node: Node) -> Tensor:
    wanted = type_of(node.params["new_dtype"])
    x = to.lazy(node.inputs[0])
    return x if type_of(node.inputs[0].dtype) == wanted else to.graph.add("Cast", x.shape, x, to=wanted)


def _select(to: Converter, node: Node) -> Tensor:
    where, otherwise, value = map(to.lazy, node.inputs)
    lowest = node.inputs[1].known
    if node.inputs[0].dtype != np.bool_:
        raise ValueError("JAX's select_n of more than two values has no equivalent in ONNX here")
    if lowest is not None and lowest.dtype.kind == "f" and (lowest <= _MASKED).all():
        # The mask is added to the scores: it is the same in every layer, and saves a pass.
        mask = to.elementwise("Where", where, to.number(0), otherwise)
        return to.elementwise("Add", value, mask)
    return to.elementwise("Where", where, value, otherwise)


def _broadcast(to: Converter, node: Node) -> Tensor:
    (x,), rank, axes = node.inputs, len(node.outputs[0].shape), node.params["broadcast_dimensions"]
    if axes == tuple(range(rank - len(axes), rank)):
        return to.lazy(x)
    y = to.graph.ranked(to.lazy(x), len(axes))
    return to.graph.unsqueeze(y, [axis for axis in range(rank) if axis not in axes])


def _squeeze(to: Converter, node: Node) -> Tensor:
    return to.graph.add(
        "Squeeze", node.outputs[0].shape, to.full(node.inputs[0]), to.graph.ints(*node.params["dimensions"])
    )


def _iota(to: Converter, node: Node) -> Tensor:
    shape, axis = node.outputs[0].shape, node.params["dimension"]
    size = to.graph.add("Squeeze", (), to.graph.sizes(shape[axis : axis + 1]))
    zero, step = to.graph.constant(0), to.graph.constant(1)
    numbers = to.graph.add("Range", shape[axis : axis + 1], zero, size, step)
    numbers = to.graph.unsqueeze(numbers, range(1, len(shape) - axis))
    if node.outputs[0].dtype.kind != "f":
        return numbers
    return to.graph.add("Cast", numbers.shape, numbers, to=TYPES["f"])


def _slice(to: Converter, node: Node) -> Tensor:
    start, stop, steps = (node.params[name] for name in ("start_indices", "limit_indices", "strides"))
    x, axes = node.inputs[0], range(len(start))
    parts = [to.graph.sizes(tuple(ends)) for ends in (start, stop)]
    sizes = [to.graph.ints(*axes), to.graph.ints(*(steps or (1,) * len(start)))]
    return to.graph.add("Slice", node.outputs[0].shape, to.full(x), *parts, *sizes)


def _split(to: Converter, node: Node) -> list[Tensor]:
    shapes, sizes = [x.shape for x in node.outputs], to.graph.ints(*node.params["sizes"])
    return list(to.graph.add_many("Split", shapes, to.full(node.inputs[0]), sizes, axis=node.params["axis"]))


def _concatenate(to: Converter, node: Node) -> Tensor:
    parts = map(to.full, node.inputs)
    return to.graph.add("Concat", node.outputs[0].shape, *parts, axis=node.params["dimension"])


def _pad(to: Converter, node: Node) -> Tensor:
    low, high, inner = zip(*node.params["padding_config"], strict=True)
    if any(inner) or min(*low, *high) < 0:
        raise ValueError("JAX's pad between or off elements has no equivalent in ONNX here")
    x, value = map(to.full, node.inputs)
    return to.graph.add("Pad", node.outputs[0].shape, x, to.graph.ints(*low, *high), value)


def _gather(to: Converter, node: Node) -> Tensor:
    """Takes one place along one axis, or a place for each element of the batch; rows of a table are a pattern."""
    (table, at), numbers, shape = node.inputs, node.params["dimension_numbers"], node.outputs[0].shape
    batch, (axis, *others) = numbers.operand_batching_dims, numbers.start_index_map
    if others or numbers.collapsed_slice_dims != (axis,):
        raise ValueError("JAX's gather of several indices has no equivalent in ONNX here")
    rest = table.shape[axis + 1 :]
    if at.uniform and axis == 0 and shape[len(shape) - len(rest) :] == rest:
        return to.graph.add("Gather", rest, to.full(table), to.lazy(at), axis=0)
    trailing = tuple(range(len(shape) - len(rest), len(shape)))
    if batch != tuple(range(axis)) or numbers.start_indices_batching_dims != batch or numbers.offset_dims != trailing:
        raise ValueError("JAX's gather along such axes has no equivalent in ONNX here")
    return to.graph.add("GatherND", shape, to.full(table), to.full(at), batch_dims=len(batch))


def _argmax(to: Converter, node: Node) -> Tensor:
    (axis,) = node.params["axes"]
    return to.graph.add("ArgMax", node.outputs[0].shape, to.full(node.inputs[0]), axis=axis, keepdims=0)


def _cumulative(to: Converter, node: Node) -> Tensor:
    axis = to.graph.constant(node.params["axis"])
    reverse = int(node.params["reverse"])
    return to.graph.add("CumSum", node.outputs[0].shape, to.full(node.inputs[0]), axis, reverse=reverse)


def _dot(to: Converter, node: Node) -> Tensor:
    """Uses a MatMul if the axes are in its order, or are after transposing one side; else an Einsum."""
    (left, right), shape = node.inputs, node.outputs[0].shape
    (of_left, of_right), (batch, other_batch) = node.params["dimension_numbers"]
    x, y, ranks = to.full(left), to.full(right), (len(left.shape), len(right.shape))
    last = (ranks[0] - 1,), (ranks[1] - 1,)
    of_matrices = ranks[1] == len(batch) + 2 and (not batch or ranks[0] == ranks[1])
    if of_matrices and of_left == last[0] and batch == other_batch == tuple(range(len(batch))):
        if of_right == last[1]:
            y = to.graph.transpose(y, (*batch, ranks[1] - 1, ranks[1] - 2))
        return to.graph.add("MatMul", shape, x, y)
    letters = iter(string.ascii_lowercase)
    names = [[next(letters) for _ in range(rank)] for rank in ranks]
    for left, right in zip((*of_left, *batch), (*of_right, *other_batch), strict=True):
        names[1][right] = names[0][left]
    free = [
        [name for axis, name in enumerate(side) if axis not in taken]
        for side, taken in zip(names, ((*of_left, *batch), (*of_right, *other_batch)), strict=True)
    ]
    result = [*(names[0][axis] for axis in batch), *free[0], *free[1]]
    equation = f"{''.join(names[0])},{''.join(names[1])}->{''.join(result)}"
    return to.graph.add("Einsum", shape, x, y, equation=equation)


def _clamp(to: Converter, node: Node) -> Tensor:
    low, x, high = map(to.lazy, node.inputs)
    return to.elementwise("Min", to.elementwise("Max", x, low), high)


def _of_one(*operators: str) -> Callable[[Converter, Node], Tensor]:
    """Chains operators one after another."""

    def made(to: Converter, node: Node) -> Tensor:
        x = to.elementwise(operators[0], *map(to.lazy, node.inputs))
        for operator in operators[1:]:
            x = to.elementwise(operator, x)
        return x

    return made


def _square(to: Converter, node: Node) -> Tensor:
    x = to.lazy(node.inputs[0])
    return to.elementwise("Mul", x, x)


OPERATORS: dict[str, Callable[[Converter, Node], Tensor | list[Tensor]]] = {
    "argmax": _argmax,
    "broadcast_in_dim": _broadcast,
    "clamp": _clamp,
    "concatenate": _concatenate,
    "convert_element_type": _convert,
    "cumsum": _cumulative,
    "dim_as_value": lambda to, node: to.graph.add("Squeeze", (), to.graph.sizes((node.params["dim"],))),
    "dot_general": _dot,
    "erfc": lambda to, node: to.elementwise("Sub", to.number(1), to.elementwise("Erf", to.lazy(node.inputs[0]))),
    "gather": _gather,
    "integer_pow": lambda to, node: to.elementwise("Pow", to.lazy(node.inputs[0]), to.number(node.params["y"])),
    "iota": _iota,
    "ne": _of_one("Equal", "Not"),
    "pad": _pad,
    "rem": lambda to, node: to.elementwise("Mod", *map(to.lazy, node.inputs), fmod=1),
    "reshape": lambda to, node: to.graph.reshape(to.full(node.inputs[0]), node.outputs[0].shape),
    "rsqrt": _of_one("Sqrt", "Reciprocal"),
    "select_n": _select,
    "slice": _slice,
    "split": _split,
    "square": _square,
    "squeeze": _squeeze,
    "transpose": lambda to, node: to.graph.transpose(to.full(node.inputs[0]), node.params["permutation"]),
}
