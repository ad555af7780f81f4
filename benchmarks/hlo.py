"""Reads the text of a compiled executable: which kernels it runs, how often, what they move and compute.

Every kernel of the entry computation and of loops' bodies counts, as often as it runs. Its bytes are those of operands
and results; where a fusion only slices an operand, or updates a result in place, those of the slice.
"""

import dataclasses
import functools
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

_BYTES = {"pred": 1, "bf16": 2, "f16": 2, "c64": 8, "c128": 16}  # other types have their bits in their names
# What runs no kernel of its own.
_FREE = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id")
_FREE += ("opt-barrier", "optimization-barrier", "domain", "add-dependency", "while", "call", "conditional")
_COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
_HOST = ("infeed", "outfeed", "send", "recv")
_SLICES = ("slice", "dynamic-slice", "gather")
_VIEWS = ("bitcast", "reshape", "get-tuple-element", "convert", "copy", "transpose")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line: `name = type op(inner), attributes`."""

    name: str
    type: str
    op: str
    inner: str
    attributes: str
    root: bool

    @functools.cached_property
    def operands(self) -> list[str]:
        return re.findall(r"%([\w.-]+)", self.inner)

    @functools.cached_property
    def bytes(self) -> int:
        return sum(array.bytes for array in arrays(self.type))

    @property
    def kind(self) -> str:
        """The operation, without the halves of an asynchronous one."""
        return self.op.removesuffix("-start").removesuffix("-done")

    def called(self, attribute: str) -> str | None:
        match = re.search(rf"\b{attribute}=%?([\w.-]+)", self.attributes)
        return match and match[1]

    def number(self, pattern: str) -> int:
        match = re.search(pattern, self.attributes)
        return int(match[1]) if match else 0


Computation = Mapping[str, Instruction]


@dataclasses.dataclass(frozen=True)
class Kernel:
    """What an executable runs `times` times.

    Attributes:
      operation: where it comes from, by its `op_name`.
      bytes, flops, cycles: of all times together; cycles are the compiler's own estimate, which TPUs have.
    """

    name: str
    operation: str
    times: int
    bytes: int
    flops: int
    cycles: int


@dataclasses.dataclass(frozen=True)
class Collective:
    """What devices exchange.

    Attributes:
      bytes: of floating-point arrays, of all times together.
      other_bytes: of scalars and integers.
      looped: whether it is in a loop.
      groups: of devices, none where all are one group.
    """

    kind: str
    bytes: int
    other_bytes: int
    looped: bool
    groups: tuple[tuple[int, ...], ...]


class Array(NamedTuple):
    """One array of a type such as `(f32[2,3]{1,0}, s32[])`; no bytes if it lies in a TPU's vector memory."""

    kind: str
    dims: list[int]
    bytes: int


def arrays(text: str) -> Iterator[Array]:
    for kind, shape, layout in re.findall(r"\b([a-z]+\d*\w*)\[([\d,]*)\](\{[^}]*\})?", text):
        bits = re.search(r"\d+", kind)
        width = _BYTES.get(kind, int(bits[0]) / 8 if bits else 0)
        yield Array(kind, dims(shape), 0 if "S(1)" in layout else math.ceil(width * math.prod(dims(shape))))


def dims(text: str) -> list[int]:
    return [int(size) for size in text.split(",") if size]


def parse(text: str) -> tuple[dict[str, Computation], str]:
    """Computations by name, and the entry's name."""
    computations: dict[str, dict[str, Instruction]] = {}
    entry, lines = "", None
    for line in text.splitlines():
        if line[:1] in ("%", "E") and line.endswith("{"):
            name = line.removeprefix("ENTRY ").split()[0].lstrip("%")
            entry = name if line.startswith("ENTRY") else entry
            lines = computations.setdefault(name, {})
        elif lines is not None and (instruction := _instruction(line)):
            lines[instruction.name] = instruction
    return dict(computations), entry


def _instruction(line: str) -> Instruction | None:
    if not (match := re.match(r"\s+(ROOT )?%?([\w.-]+) = ", line)):
        return None
    end = _end(line, match.end()) if line[match.end()] == "(" else line.index(" ", match.end())
    opened = line.index("(", end)
    closed = _end(line, opened)
    op, kind, inner = line[end:opened].strip(), line[match.end() : end], line[opened + 1 : closed - 1]
    return Instruction(match[2], kind, op, inner, line[closed:], bool(match[1]))


def _end(line: str, start: int) -> int:
    """The place after the parenthesis that closes the one at `start`."""
    depth = 0
    for place in range(start, len(line)):
        depth += (line[place] == "(") - (line[place] == ")")
        if depth == 0:
            return place + 1
    return len(line)


class Executable:
    """The text of a compiled function, parsed."""

    def __init__(self, text: str):
        self.computations, self.entry = parse(text)
        self.donated = text.partition("\n")[0].count("-alias)")
        self.times: Counter[str] = Counter()  # how often each computation runs that is no part of a kernel
        self.looped: set[str] = set()  # those that run within a loop
        self._run(self.entry, 1, looped=False)

    def _run(self, name: str, times: int, looped: bool) -> None:
        self.times[name] += times
        self.looped |= {name} if looped else set()
        for line in self.computations[name].values():
            if line.op == "while":
                for part in filter(None, (line.called("body"), line.called("condition"))):
                    self._run(part, times * self._trips(line), looped=True)
            elif line.op in ("call", "conditional", "async-start"):
                called = re.findall(r"%([\w.-]+)", line.attributes.partition("metadata")[0])
                for part in (part for part in called if part in self.computations):
                    self._run(part, times, looped)

    def _trips(self, loop: Instruction) -> int:
        """How often a loop runs; where the compiler does not say, the number that its condition compares with."""
        if known := loop.number(r'"known_trip_count":\{"n":"(\d+)"'):
            return known
        condition = self.computations[loop.called("condition") or ""].values()
        return max(
            (int(line.inner) for line in condition if line.op == "constant" and line.inner.isdecimal()), default=1
        )

    def kernels(self) -> list[Kernel]:
        kernels = []
        for name, times in self.times.items():
            for line in (computation := self.computations[name]).values():
                if line.op in _FREE or line.op.endswith("-done") or line.op == "async-start":
                    continue
                moved, flops = self._moved(line, computation), self._flops(line, computation)
                cycles = line.number(r'"estimated_cycles":"(\d+)"')
                kernels.append(Kernel(line.name, operation(line), times, times * moved, times * flops, times * cycles))
        return kernels

    def _moved(self, line: Instruction, computation: Computation) -> int:
        fused = self.computations.get(line.called("calls") or "")
        if fused is None:
            if line.op.endswith("-start"):
                return max((array.bytes for array in arrays(line.type)), default=0)
            if line.op in _SLICES:
                return 2 * line.bytes
            if line.op in ("dynamic-update-slice", "scatter") and len(line.operands) > 1:
                return 2 * computation[line.operands[-1 if line.op == "scatter" else 1]].bytes
            return line.bytes + sum(computation[name].bytes for name in line.operands if name in computation)
        return sum(_read(part, fused) for part in fused.values() if part.op == "parameter") + _written(fused)

    def _flops(self, line: Instruction, computation: Computation) -> int:
        """Those of its matmuls."""
        if line.op == "dot":
            contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", line.attributes)
            left, result = (next(arrays(text)).dims for text in (computation[line.operands[0]].type, line.type))
            return 2 * math.prod(result) * math.prod(left[axis] for axis in dims(contracted[1] if contracted else ""))
        fused = self.computations.get(line.called("calls") or "")
        return sum(self._flops(part, fused) for part in fused.values()) if fused else 0

    def collectives(self) -> list[Collective]:
        return [
            _collective(line, times, name in self.looped)
            for name, times in self.times.items()
            for line in self.computations[name].values()
            if line.kind in _COLLECTIVES and not line.op.endswith("-done")
        ]

    def host(self) -> list[str]:
        """What it exchanges with the host."""
        pattern = re.compile(r'custom_call_target="[^"]*callback|is_host_transfer=true')
        every = (line for computation in self.computations.values() for line in computation.values())
        return [line.op for line in every if line.kind in _HOST or pattern.search(line.attributes)]


def _read(parameter: Instruction, fused: Computation) -> int:
    """Bytes that a fusion reads of a parameter."""
    total, waiting, seen = 0, [parameter.name], set()
    while waiting:
        name = waiting.pop()
        for user in (line for line in fused.values() if name in line.operands):
            if user.name in seen:
                continue
            seen.add(user.name)
            if user.op in _SLICES and user.operands[0] == name:
                total += user.bytes
            elif user.op == "dynamic-update-slice" and user.operands[0] == name:
                continue  # updated in place
            elif user.op in _VIEWS and not user.root:
                waiting.append(user.name)
            else:
                return parameter.bytes
    return min(total, parameter.bytes)


def _written(fused: Computation) -> int:
    """Bytes of a fusion's results."""
    (root,) = (line for line in fused.values() if line.root)
    total = 0
    for result in [fused[name] for name in root.operands] if root.op == "tuple" else [root]:
        source = result
        while source.op in _VIEWS and source.operands:
            source = fused[source.operands[0]]
        total += fused[source.operands[1]].bytes if source.op == "dynamic-update-slice" else result.bytes
    return total


def _collective(line: Instruction, times: int, looped: bool) -> Collective:
    moved: Counter[bool] = Counter()
    for array in arrays(line.type.replace("S(1)", "")):
        moved["f" in array.kind and array.dims != []] += times * array.bytes
    return Collective(line.kind, moved[True], moved[False], looped, device_groups(line.attributes))


def device_groups(attributes: str) -> tuple[tuple[int, ...], ...]:
    """The devices that exchange with each other: listed, as an iota such as `[4,2]<=[2,4]T(1,0)`, or by axes of a mesh;
    none for a form that is not known, which stands for all devices as one.
    """
    if match := re.search(r"(?:replica_groups|source_target_pairs)=\{((?:\{[\d,]*\},?)*)\}", attributes):
        return tuple(tuple(dims(group)) for group in re.findall(r"\{([\d,]+)\}", match[1]))
    if match := re.search(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", attributes):
        return _groups(shape := dims(match[3]), dims(match[4] or "") or range(len(shape)), int(match[2]))
    if match := re.search(r"replica_groups=mesh\[((?:'\w+'=\d+,?)+)\] \{((?:'\w+',?)+)\}", attributes):
        axes, chosen = dict(re.findall(r"'(\w+)'=(\d+)", match[1])), re.findall(r"'(\w+)'", match[2])
        shape, order = [int(size) for size in axes.values()], [name for name in axes if name not in chosen] + chosen
        places = [list(axes).index(name) for name in order]
        return _groups(shape, places, math.prod(int(axes[name]) for name in chosen))
    return ()


def _groups(shape: Sequence[int], order: Sequence[int], size: int) -> tuple[tuple[int, ...], ...]:
    """Devices numbered along `shape`, its axes transposed into `order`, in groups of one size."""
    devices = [0]
    for axis in order:
        stride = math.prod(shape[axis + 1 :])
        devices = [number + index * stride for number in devices for index in range(shape[axis])]
    return tuple(tuple(devices[start : start + size]) for start in range(0, len(devices), size))


def operation(line: Instruction) -> str:
    """Where an instruction comes from: its `op_name` with the wrappers of transformations left out, layers as one."""
    if not (match := re.search(r'op_name="((?:[^"\\]|\\.)*)"', line.attributes)):
        return line.op
    name = match[1]
    direction = "backward " if "transpose(" in name else "forward " if "jvp(" in name else ""
    parts = re.sub(r"transpose\(|jvp\(|vmap\(|\)|\\", "", re.sub(r"j?it\([^()]*\)/?", "", name)).split("/")
    skipped = ("while", "body", "closed_call", "checkpoint", "rematted_computation", "cond")
    path = "/".join(part for part in parts if part and part not in skipped)
    return f"{direction}{re.sub(r'(?<=[/_.])[0-9]+(?=/|$)', '*', path)}"
