"""A JAX function as a flat list of primitives, with everything folded that does not depend on its inputs.

Shapes may be symbolic (`jax.export.symbolic_shape`). A value's known contents are an array that broadcasts to its
shape: a single 0 stands for zeros of [batch, 1].
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

_CALLS = ("jit", "pjit", "closed_call", "checkpoint", "custom_jvp_call", "custom_vjp_call", "custom_vmap_call")
_MOVES = ("broadcast_in_dim", "reshape", "transpose", "squeeze", "slice", "copy", "stop_gradient")
_NEUTRAL = {"mul": (1, (0, 1)), "add": (0, (0, 1)), "sub": (0, (1,)), "div": (1, (1,))}
ELEMENTWISE = {
    *("abs", "add", "and", "clamp", "convert_element_type", "cos", "div", "eq", "erf", "erfc", "exp", "exp2", "expm1"),
    *("floor", "ge", "gt", "integer_pow", "is_finite", "le", "log", "log1p", "logistic", "lt", "max", "min", "mul"),
    *("ne", "neg", "not", "or", "pow", "rem", "rsqrt", "select_n", "sign", "sin", "sqrt", "square", "sub", "tanh"),
}


@dataclasses.dataclass(eq=False)
class Value:
    """An array of the function.

    Attributes:
      shape, dtype: as in JAX.
      known: its contents, if they do not depend on the inputs.
      node, index: the primitive that computes it, and the number of its output; None for an input.
      name: of an input, or of the constant that it holds.
    """

    shape: tuple[Any, ...]
    dtype: np.dtype
    known: np.ndarray | None = None
    node: "Node | None" = None
    index: int = 0
    name: str = ""

    @classmethod
    def of(cls, atom: Any, known: Any = None, name: str = "") -> "Value":
        """Makes the value of a variable or a literal of JAX."""
        aval = atom.aval
        return cls(aval.shape, aval.dtype, None if known is None else np.asarray(known, aval.dtype), name=name)

    @property
    def uniform(self) -> bool:
        """Whether one known number fills the array."""
        return self.known is not None and self.known.size == 1

    @property
    def static(self) -> bool:
        return all(isinstance(size, int) for size in self.shape)


@dataclasses.dataclass(eq=False)
class Node:
    """A primitive applied to values."""

    primitive: Any
    params: dict[str, Any]
    inputs: list[Value]
    outputs: list[Value]

    @property
    def name(self) -> str:
        return self.primitive.name


@dataclasses.dataclass(frozen=True)
class Flat:
    """A function as its primitives, in an order in which they can be computed."""

    inputs: list[Value]
    nodes: list[Node]
    outputs: list[Value]


def flat(function: Callable[..., Any], inputs: Mapping[str, Any], constants: Mapping[str, Any] | None = None) -> Flat:
    """Traces `function(constants, *inputs)`, or `function(*inputs)` without constants.

    Args:
      inputs: name -> shape and type.
      constants: name -> array.
    """
    leaves = dict(sorted((constants or {}).items()))
    given = (leaves,) if constants is not None else ()
    closed = jax.make_jaxpr(function)(*given, *inputs.values())
    names = [*leaves, *inputs]
    values = [Value.of(atom, leaves.get(name), name) for name, atom in zip(names, closed.jaxpr.invars, strict=True)]
    nodes: list[Node] = []
    with jax.default_matmul_precision("float32"):
        outputs = _inline(closed, values, nodes)
    return Flat(values[len(leaves) :], nodes, outputs)


def _inline(called: ClosedJaxpr | Jaxpr, inputs: Sequence[Value], nodes: list[Node]) -> list[Value]:
    """Appends a function's primitives, and those of the functions that it calls; returns its outputs."""
    jaxpr, constants = (called.jaxpr, called.consts) if isinstance(called, ClosedJaxpr) else (called, [])
    values = dict(zip(jaxpr.invars, inputs, strict=True))
    for variable, constant in zip(jaxpr.constvars, constants, strict=True):
        values[variable] = Value.of(variable, constant)

    def read(atom: Any) -> Value:
        return Value.of(atom, atom.val) if isinstance(atom, Literal) else values[atom]

    for equation in jaxpr.eqns:
        given = [read(atom) for atom in equation.invars]
        if equation.primitive.name in _CALLS:
            inner = next(x for x in equation.params.values() if isinstance(x, ClosedJaxpr | Jaxpr))
            outputs = _inline(inner, given, nodes)
        elif platforms := equation.params.get("branches_platforms"):
            # Branches for one platform's compiler are not for ONNX.
            outputs = _inline(equation.params["branches"][platforms.index(None)], given[1:], nodes)
        else:
            outputs = list(map(Value.of, equation.outvars))
            node = Node(equation.primitive, dict(equation.params), given, outputs)
            if (simpler := _simplified(node)) is not None:
                outputs = simpler
            else:
                for index, value in enumerate(outputs):
                    value.node, value.index = node, index
                nodes.append(node)
        values.update(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _simplified(node: Node) -> list[Value] | None:
    """Returns the outputs if they need no primitive, else None."""
    inputs, (output, *others) = node.inputs, node.outputs
    if node.name in ("copy", "stop_gradient"):
        return [inputs[0]]
    if node.name == "select_n" and inputs[0].uniform:
        return [inputs[1 + int(inputs[0].known.item())]]  # pyright: ignore[reportOptionalMemberAccess]
    if node.name == "lt" and inputs[1].uniform and inputs[1].known == 0 and _is_index(inputs[0]):
        return [dataclasses.replace(output, known=np.array(False))]
    for place in range(len(inputs)):
        number, places = _NEUTRAL.get(node.name, (None, ()))
        same = inputs[1 - place] if place in places else None
        if same is not None and inputs[place].uniform and inputs[place].known == number and same.shape == output.shape:
            return [same]
    if node.name == "dim_as_value" or any(value.known is None for value in inputs):
        return None
    arrays: list[Any] = [value.known for value in inputs]
    if node.name in _MOVES and inputs[0].uniform:
        return [dataclasses.replace(output, known=arrays[0].reshape(()))]
    if node.name in ELEMENTWISE:
        if not all(value.static for value in inputs) and math.prod(np.broadcast_shapes(*(x.shape for x in arrays))) > 1:
            return None
        arrays = list(map(np.asarray, np.broadcast_arrays(*arrays)))
    elif all(value.static for value in (*inputs, *node.outputs)):
        arrays = [np.broadcast_to(array, value.shape) for array, value in zip(arrays, inputs, strict=True)]
    else:
        return None
    if node.name in ("reshape", "squeeze"):
        results, name = [arrays[0].reshape(output.shape)], inputs[0].name
    else:
        computed, name = node.primitive.bind(*map(jnp.asarray, arrays), **node.params), ""
        results = computed if node.primitive.multiple_results else [computed]
    return [
        dataclasses.replace(value, known=np.asarray(array), node=node, index=index, name=name)
        for index, (value, array) in enumerate(zip([output, *others], results, strict=True))
    ]


def _is_index(value: Value) -> bool:
    """Returns whether a value counts from 0, where JAX checks whether an index counts from the end."""
    while value.node is not None and value.node.name in (*_MOVES, "convert_element_type"):
        value = value.node.inputs[0]
    return value.node is not None and value.node.name in ("argmax", "iota")
