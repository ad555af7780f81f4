"""An ONNX graph under construction: tensors, constants, and shapes that are known only when it runs."""

import ast
import dataclasses
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 20, 9
# Integers are as wide as shapes and indices in ONNX.
TYPES = {"f": TensorProto.FLOAT, "i": TensorProto.INT64, "u": TensorProto.INT64, "b": TensorProto.BOOL}
_OF_SIZES = {ast.Add: "Add", ast.Sub: "Sub", ast.Mult: "Mul", ast.Pow: "Pow"}


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A named tensor of the graph, with its shape there."""

    name: str
    shape: tuple[Any, ...]


class Graph:
    """Nodes in their order; the same node is never made twice."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self.inputs: list[onnx.ValueInfoProto] = []
        self._made: dict[Any, tuple[Tensor, ...]] = {}
        self._sized: dict[str, tuple[str, int]] = {}  # a size as an expression -> a tensor and its axis of that size
        self._transposed: dict[Tensor, tuple[Tensor, tuple[int, ...]]] = {}

    def input(self, name: str, shape: tuple[Any, ...], dtype: np.dtype) -> Tensor:
        self.inputs.append(_described(name, shape, dtype))
        return self._known(Tensor(name, shape))

    def add(self, operator: str, shape: tuple[Any, ...], *inputs: Tensor, **attributes: Any) -> Tensor:
        """Adds a node with one output."""
        return self.add_many(operator, [shape], *inputs, **attributes)[0]

    def add_many(self, operator: str, shapes: list[Any], *inputs: Tensor, **attributes: Any) -> tuple[Tensor, ...]:
        key = operator, tuple(inputs), tuple(sorted((k, str(v)) for k, v in attributes.items()))
        if key not in self._made:
            name = f"{operator}_{len(self.nodes)}"
            outputs = [f"{name}/{i}" if len(shapes) > 1 else name for i in range(len(shapes))]
            names = [tensor.name for tensor in inputs]
            self.nodes.append(helper.make_node(operator, names, outputs, name, **attributes))
            self._made[key] = tuple(self._known(Tensor(*pair)) for pair in zip(outputs, shapes, strict=True))
        return self._made[key]

    def _known(self, tensor: Tensor) -> Tensor:
        for axis, size in enumerate(tensor.shape):
            if not isinstance(size, int):
                self._sized.setdefault(_written(size), (tensor.name, axis))
        return tensor

    def constant(self, array: Any, name: str = "") -> Tensor:
        array = np.asarray(array)
        array = array.astype(np.int64) if array.dtype.kind in "iu" else array
        key = (name, array.shape) if name else (array.dtype.str, array.shape, array.tobytes())
        if key not in self._made:
            name = f"constant_{len(self.weights)}" if not name or name in self.weights else name
            self.weights[name] = array
            self._made[key] = (Tensor(name, array.shape),)
        return self._made[key][0]

    def ints(self, *values: Any) -> Tensor:
        return self.constant(np.array(values, np.int64))

    def sizes(self, shape: tuple[Any, ...]) -> Tensor:
        """Returns a shape as a tensor."""
        if all(isinstance(size, int) for size in shape):
            return self.ints(*shape)
        parts = [self.ints(size) if isinstance(size, int) else self._size(size) for size in shape]
        return parts[0] if len(parts) == 1 else self.add("Concat", (len(shape),), *parts, axis=0)

    def _size(self, size: Any) -> Tensor:
        """Returns a symbolic size from a tensor that has it, or computed as in `2*length^2 + -1*length`."""
        return self._computed(_parsed(size))

    def _computed(self, size: Any) -> Tensor:
        if (known := self._sized.get(ast.unparse(size))) is not None:
            return self.add("Shape", (1,), Tensor(known[0], ()), start=known[1], end=known[1] + 1)
        match size:
            case ast.BinOp(left, operator, right) if type(operator) in _OF_SIZES:
                return self.add(_OF_SIZES[type(operator)], (1,), self._computed(left), self._computed(right))
            case ast.UnaryOp(ast.USub(), operand):
                return self.add("Neg", (1,), self._computed(operand))
            case ast.Constant(int(number)):
                return self.ints(number)
        raise ValueError(f"the size {ast.unparse(size)} has no equivalent in ONNX here")

    def expand(self, x: Tensor, shape: tuple[Any, ...]) -> Tensor:
        """Expands a tensor to a shape to which it broadcasts."""
        x = self.ranked(x, len(shape))
        if x.shape == shape:
            return x
        wanted = tuple(1 if have == size else size for have, size in zip(x.shape, shape, strict=True))
        return self.add("Expand", shape, x, self.sizes(wanted))

    def ranked(self, x: Tensor, rank: int) -> Tensor:
        """Adds axes of size 1 before the others."""
        return self.unsqueeze(x, range(rank - len(x.shape)))

    def unsqueeze(self, x: Tensor, axes: Any) -> Tensor:
        axes, sizes = list(axes), iter(x.shape)
        if not axes:
            return x
        shape = tuple(1 if axis in axes else next(sizes) for axis in range(len(axes) + len(x.shape)))
        return self.add("Unsqueeze", shape, x, self.ints(*axes))

    def reshape(self, x: Tensor, shape: tuple[Any, ...]) -> Tensor:
        """Reshapes to the same number of elements."""
        if x.shape == shape:
            return x
        copied = [size == have and not isinstance(size, int) for size, have in zip(shape, x.shape, strict=False)]
        copied += [False] * (len(shape) - len(copied))
        free = [axis for axis, size in enumerate(shape) if not isinstance(size, int) and not copied[axis]]
        if len(free) > 1:
            return self.add("Reshape", shape, x, self.sizes(shape))
        if not free and all(copied[:-1]) and len(shape) < len(x.shape):
            free = [len(shape) - 1]
        sizes = [-1 if axis in free else 0 if copied[axis] else shape[axis] for axis in range(len(shape))]
        return self.add("Reshape", shape, x, self.ints(*sizes))

    def transpose(self, x: Tensor, permutation: tuple[int, ...]) -> Tensor:
        """Transposes a tensor; two transpositions in a row become one."""
        if x in self._transposed:
            x, before = self._transposed[x]
            permutation = tuple(before[axis] for axis in permutation)
        if permutation == tuple(range(len(permutation))):
            return x
        y = self.add("Transpose", tuple(x.shape[axis] for axis in permutation), x, perm=permutation)
        self._transposed[y] = x, permutation
        return y

    def model(self, outputs: dict[str, Tensor], producer: str, version: str) -> onnx.ModelProto:
        """Returns the model, with only the nodes that the outputs need."""
        wanted, nodes = {tensor.name for tensor in outputs.values()}, []
        for node in reversed(self.nodes):
            if wanted & set(node.output):
                wanted |= set(node.input)
                nodes.insert(0, node)
        renamed = {tensor.name: name for name, tensor in outputs.items()}
        for node in nodes:
            for names in (node.input, node.output):
                names[:] = [renamed.get(name, name) for name in names]
        return helper.make_model(
            helper.make_graph(
                nodes,
                "classifier",
                self.inputs,
                [_described(name, tensor.shape, np.dtype(np.float32)) for name, tensor in outputs.items()],
                [numpy_helper.from_array(np.array(x, order="C"), n) for n, x in self.weights.items() if n in wanted],
            ),
            producer_name=producer,
            producer_version=version,
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )


def _parsed(size: Any) -> ast.expr:
    return ast.parse(str(size).replace("^", "**"), mode="eval").body


def _written(size: Any) -> str:
    return ast.unparse(_parsed(size))


def type_of(dtype: Any) -> int:
    """Returns ONNX's type for one of NumPy's."""
    return TYPES[np.dtype(dtype).str[1]]  # of "<f4"


def _described(name: str, shape: tuple[Any, ...], dtype: np.dtype) -> onnx.ValueInfoProto:
    sizes = [size if isinstance(size, int) else str(size) for size in shape]
    return helper.make_tensor_value_info(name, type_of(dtype), sizes)
