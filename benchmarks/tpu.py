"""What the training step is on a TPU, compiled ahead of time on a machine without one.

`python -m benchmarks.tpu` compiles the program's own step (bf16, AdaKron, every chip its own rows) for whole
topologies, by libtpu's compiler (`pip install .[tpu]`) and from shapes alone. It ends with exit code 1 where the
compiled step is not what it has to be:

    one gradient is all that chips tell each other, a few scalars and random keys aside, once a step and in no loop
    the next state lies in the memory of the state before
    nothing passes to or from the host within the step

Times are no measurements. `roofline` is a floor: the larger of the products' FLOPs at the chip's peak, and of twice
the arguments and temporaries at the memory's (weights are read forward and backward, what is kept between the two is
written and read). The products are counted in the traced step, those of a loop over layers once a layer: the
compiler's own count has a loop's body once. `cycles` adds up what the compiler itself expects of every operation, a
loop's as often as it runs.
"""

import argparse
import dataclasses
import importlib.util
import json
import math
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import topologies

from adakron_jax.architectures.config import NAMED, EncoderConfig
from adakron_jax.data.packing import Batch
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.methods import AdaKron
from adakron_jax.params import Tree, split_params
from adakron_jax.problems import Classification
from adakron_jax.splice import is_trainable
from benchmarks.dense import dense_batch
from train.engine import optim
from train.engine.sharding import make_shardings
from train.engine.step import TrainState, compile_steps, init_state
from train.options.mesh import MeshShape

TOPOLOGIES = ("v5e:2x4", "v5e:16x16", "v6e:2x4")
_COLLECTIVES = "all-reduce|all-gather|reduce-scatter|collective-permute|collective-broadcast|all-to-all"
_HOST = "infeed|outfeed|send|recv|host-transfer"
_OTHERS = 4096  # the loss, the number of examples; and XLA may have each device make some of the layers' random keys
_BYTES = {"pred": 1, "u8": 1, "s8": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4, "f64": 8, "s64": 8}


@dataclasses.dataclass(frozen=True)
class Chip:
    """A chip's peaks: bf16 FLOP/s, HBM in bytes/s and in bytes."""

    flops: float
    bandwidth: float
    memory: float


# https://cloud.google.com/tpu/docs/v6e, the table of both
CHIPS = {"v5e": Chip(197e12, 819e9, 16e9), "v6e": Chip(918e12, 1640e9, 32e9)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", nargs="+", choices=sorted(NAMED), default=sorted(NAMED))
    parser.add_argument("--topology", nargs="+", default=TOPOLOGIES, help=f"default: {' '.join(TOPOLOGIES)}")
    parser.add_argument("--rows", type=int, default=64, help="of a chip (default: 64)")
    parser.add_argument("--seq", type=int, default=128, help="tokens of a row (default: 128)")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    args = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")  # nothing runs, and no other accelerator is asked
    try:
        chips = {name: devices(name) for name in args.topology}
    except ValueError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    print(
        f"{'encoder':13} {'topology':9} {'remat':5} {'compile':>7} {'arguments':>9} {'temporary':>9} {'output':>7} "
        f"{'all-reduce':>10} {'TFLOP':>6} {'once':>6} {'roofline':>8} {'cycles':>7}",
        flush=True,
    )
    rows = []
    for topology in args.topology:
        for encoder in args.encoder:
            for remat in (False, True):
                print(f"compiling {encoder} for {topology}{' with remat' * remat}", file=sys.stderr)
                try:
                    row = figures(NAMED[encoder], chips[topology], CHIPS[topology[:3]], args.rows, args.seq, remat)
                except Broken as error:
                    print(f"{encoder} on {topology}: {error}", file=sys.stderr)
                    sys.exit(1)
                rows.append({"encoder": encoder, "topology": topology, "remat": remat, **row})
                print(as_line(rows[-1]), flush=True)
                if args.json:
                    args.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def as_line(row: dict[str, Any]) -> str:
    mega = {name: row[f"{name}_bytes"] / 1e6 for name in ("argument", "temporary", "output", "all_reduce")}
    return (
        f"{row['encoder']:13} {row['topology']:9} {'yes' if row['remat'] else 'no':5} {row['compile_seconds']:5.0f} s "
        f"{mega['argument']:6.0f} MB {mega['temporary']:6.0f} MB {mega['output']:4.0f} MB {mega['all_reduce']:7.2f} MB "
        f"{row['flops'] / 1e12:6.2f} {row['compiler_flops'] / 1e12:6.2f} {1e3 * row['roofline_seconds']:5.1f} ms "
        f"{row['cycles'] / 1e6:5.0f} M"
    )


def devices(topology: str) -> Sequence[Any]:
    """The chips of a topology such as v5e:2x4; ValueError without libtpu, or for one that it does not know."""
    if importlib.util.find_spec("libtpu") is None:
        raise ValueError("libtpu is not installed; accepted: pip install .[tpu]")
    if topology.partition(":")[0] not in CHIPS:
        raise ValueError(f"topology is {topology!r}; accepted: {' or '.join(CHIPS)}, then such as :2x4")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # there is no cloud machine around us to ask
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # nor a chip that only one process could have
    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"topology is {topology!r}; accepted: one that libtpu knows ({reason})") from None


def figures(
    encoder: EncoderConfig, chips: Sequence[Any], chip: Chip, rows: int, seq: int, remat: bool
) -> dict[str, Any]:
    """What is known of the step for `rows` rows a chip; Broken where it is not what it has to be."""
    step, state, frozen = step_of_shapes(encoder, chips, remat)
    traced = step.trace(state, frozen, batch_of_shapes(encoder, rows * len(chips), seq))
    begun = time.perf_counter()
    executable = traced.lower().compile()
    seconds, text = time.perf_counter() - begun, executable.as_text()
    found = check(text, state)
    memory = executable.memory_analysis()
    arguments, temporary = memory.argument_size_in_bytes, memory.temp_size_in_bytes
    flops = {str(dtype): count / len(chips) for dtype, count in matmul_flops(traced.jaxpr).items()}
    floors = {
        "compute": sum(flops.values()) / chip.flops,
        "memory": 2 * (arguments + temporary) / chip.bandwidth,
    }
    return {
        "chips": len(chips),
        "compile_seconds": seconds,
        "argument_bytes": arguments,
        "temporary_bytes": temporary,
        "output_bytes": memory.output_size_in_bytes,
        "donated_bytes": memory.alias_size_in_bytes,
        "memory_share": (arguments + temporary + memory.generated_code_size_in_bytes) / chip.memory,
        "all_reduces": len(found),
        "all_reduce_bytes": sum(each.bytes + each.other_bytes for each in found),
        "flops": sum(flops.values()),
        "flops_by_operands": flops,
        "compiler_flops": executable.cost_analysis()["flops"],
        "floors_seconds": floors,
        "roofline_seconds": max(floors.values()),
        "cycles": cycles(text, encoder.num_layers - 2),
    }


def step_of_shapes(
    encoder: EncoderConfig, chips: Sequence[Any], remat: bool, dtype: Any = jnp.bfloat16
) -> tuple[Any, TrainState, Tree]:
    """The program's own step, jitted over the chips; state and frozen tree as shapes."""
    method = AdaKron()
    model = SequenceClassifier(encoder, method, dtype, num_labels=2, remat=remat)
    trainable, frozen = split_params(model.shapes(), is_trainable(method))
    frozen = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), frozen)
    schedule = optim.linear_schedule(1e-4, 1000, 0.06)
    optimizer = optim.adamw(0.1)
    state = jax.eval_shape(lambda tree: init_state(tree, optimizer, schedule, 0), trainable)
    shardings = make_shardings(MeshShape(data=len(chips)), encoder, chips)
    step = compile_steps(model, Classification.losses, optimizer, shardings, state, frozen).train
    return step.jitted, state, frozen


def batch_of_shapes(encoder: EncoderConfig, rows: int, seq: int) -> Batch:
    batch = dense_batch(encoder, rows, seq)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), batch)


def matmul_flops(jaxpr: Any) -> Counter:
    """FLOPs of all matmuls of a traced function, all devices together, by the wider operand's type."""
    counted: Counter = Counter()
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            left, right = (operand.aval for operand in equation.invars)
            (contracted, _), _ = equation.params["dimension_numbers"]
            size = math.prod(equation.outvars[0].aval.shape) * math.prod(left.shape[axis] for axis in contracted)
            counted[jnp.promote_types(left.dtype, right.dtype)] += 2 * size
        times = equation.params["length"] if equation.primitive.name == "scan" else 1
        for inner in _programs(equation.params.values()):
            counted.update({dtype: times * flops for dtype, flops in matmul_flops(inner).items()})
    return counted


def _programs(values: Iterable[Any]) -> Iterable[Any]:
    for value in values:
        value = getattr(value, "jaxpr", value)
        if hasattr(value, "eqns"):
            yield value
        elif isinstance(value, tuple | list):
            yield from _programs(value)


@dataclasses.dataclass(frozen=True)
class Collective:
    """What devices exchange: bytes of floating-point arrays, bytes of all else, and whether it is in a loop."""

    kind: str
    bytes: int
    other_bytes: int
    looped: bool


class Broken(Exception):
    """A compiled step is not what it has to be."""


def check(text: str, state: TrainState) -> list[Collective]:
    """The collectives of a compiled step; Broken says what is not as it has to be."""

    def require(fine: bool, found: str, accepted: str) -> None:
        if not fine:
            raise Broken(f"the step has {found}; accepted: {accepted}")

    found = collectives(text)
    for each in found:
        require(each.kind == "all-reduce", f"an {each.kind} of {each.bytes:,} bytes", "all-reduces of the gradient")
        require(not each.looped, f"an all-reduce of {each.bytes:,} bytes in a loop", "one after it")
    reduced = sum(each.bytes for each in found)
    gradient = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state.trainable))
    require(reduced == gradient, f"{reduced:,} bytes of arrays all-reduced", f"one gradient, {gradient:,} bytes")
    others = sum(each.other_bytes for each in found)
    require(others <= _OTHERS, f"{others:,} bytes of scalars and integers all-reduced", f"at most {_OTHERS:,}")
    donated, leaves = text.partition("\n")[0].count("-alias)"), len(jax.tree.leaves(state))
    require(donated == leaves, f"{donated} leaves of the state donated", f"all {leaves}")
    host = re.search(rf" ({_HOST})(-start)?\(|custom_call_target=\"[^\"]*callback", text)
    require(host is None, f"{host and host[0].strip()!r}", "no exchange with the host")
    return found


def collectives(text: str) -> list[Collective]:
    """Those of a compiled program's text."""
    pattern = re.compile(rf" = (.*?) ({_COLLECTIVES})(?:-start)?\(")
    programs, looped = computations(text), loops(text)
    found = []
    for name, lines in programs.items():
        for result, kind in (match.groups() for line in lines if (match := pattern.search(line))):
            sizes: Counter = Counter()
            for word, shape in re.findall(r"(\w+)\[([\d,]*)\]", result):
                sizes["f" in word and shape != ""] += _BYTES[word] * math.prod(map(int, filter(None, shape.split(","))))
            found.append(Collective(kind, sizes[True], sizes[False], name in looped))
    return found


def cycles(text: str, times: int) -> int:
    """Clock cycles that the TPU's compiler expects, each loop run `times` times."""
    looped, total = loops(text), 0
    for name, lines in computations(text).items():
        expected = sum(int(match[1]) for line in lines if (match := re.search(r'"estimated_cycles":"(\d+)"', line)))
        total += expected * (times if name in looped else 1)
    return total


def computations(text: str) -> dict[str, list[str]]:
    """A compiled program's computations: name -> lines."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if line[:1] in ("%", "E") and line.endswith("{"):
            lines = found.setdefault(line.removeprefix("ENTRY ").split()[0], [])
        lines.append(line)
    return found


def loops(text: str) -> set[str]:
    """Names of the computations that run within a loop."""
    programs = computations(text)
    calls = {name: set(re.findall(r"%[\w.-]+", "\n".join(lines))) & programs.keys() for name, lines in programs.items()}
    bodies = set(re.findall(r"(?:body|condition)=(%[\w.-]+)", text))
    inside: set[str] = set()
    while bodies:
        name = bodies.pop()
        inside.add(name)
        bodies |= calls[name] - inside
    return inside


if __name__ == "__main__":
    main()
