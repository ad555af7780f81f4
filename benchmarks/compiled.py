"""The training step and prediction, compiled for machines that are not here: what they hold, move, compute and cost.

    python -m benchmarks.compiled --target h200 v5e v6e --model bert-base roberta-large --mesh data=1

The compilers of NVIDIA's GPUs and of TPUs run without the device (`pip install .[compiled]`, in an environment of its
own: jax would look for a GPU from then on; the two CUDA packages by `--no-deps`). Everything is compiled from shapes:
the program's own functions, AdaKron, bf16, every device its own rows. Exit code 1 says that the step is not what it
has to be:

    the next state lies in the memory of the state before
    nothing passes to or from the host
    devices that share the rows exchange one gradient a step, a few scalars aside, and in no loop

Times are estimates. Of an H200 each kernel costs the larger of its bytes at 4.3 TB/s and its matmuls at 790 TFLOP/s,
both as measured there, and 2.5 us; of a TPU, the compiler's own cycles. What devices exchange costs its memory traffic.
"""

import argparse
import dataclasses
import math
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters.partial_eval import dce_jaxpr

from adakron_jax.architectures.config import NAMED, EncoderConfig
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.methods import AdaKron
from adakron_jax.methods.registry import METHODS, make_method
from adakron_jax.params import Tree, split_params
from adakron_jax.problems import Classification
from adakron_jax.splice import Method, is_trainable
from adakron_jax.xla.precision import fuses
from benchmarks.harness import write_json
from benchmarks.hlo import Collective, Executable, Kernel
from benchmarks.ours import dense_batch
from benchmarks.targets import TARGETS, Target, devices
from train.engine.steps import optim
from train.engine.steps.sharding import make_shardings
from train.engine.steps.step import Steps, TrainState, compile_steps, init_state
from train.options.mesh import MeshShape, parse_mesh

WORK = ("step", "predict")
TOP = 10  # groups of operations that are listed
SCALARS = 4096  # bytes that devices may exchange besides the gradient: loss, counts, random keys


MODELS = NAMED | {
    "deberta-v3-base": dataclasses.replace(
        NAMED["bert-base"],
        model_type="deberta-v2",
        vocab_size=128100,
        type_vocab_size=0,
        layer_norm_eps=1e-7,
        position_buckets=256,
    )
}


def steps_of_shapes(
    encoder: EncoderConfig,
    method: Method,
    mesh: MeshShape,
    chips: Sequence[Any],
    remat: bool = False,
    dtype: Any = jnp.bfloat16,
) -> tuple[Steps, TrainState, Tree]:
    """The program's own steps, jitted over the devices; state and frozen tree as shapes."""
    fused = fuses(dtype, mesh.devices, chips[0].platform)
    model = SequenceClassifier(encoder, method, dtype, fused, num_labels=2, remat=remat)
    trainable, frozen = split_params(model.shapes(), is_trainable(method))
    frozen = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), frozen)
    schedule = optim.linear_schedule(1e-4, 1000, 0.06)
    optimizer = optim.adamw(0.1)
    state = jax.eval_shape(lambda tree: init_state(tree, optimizer, schedule, 0), trainable)
    shardings = make_shardings(mesh, encoder, chips)
    return compile_steps(model, Classification.losses, optimizer, shardings, state, frozen), state, frozen


def batch_of_shapes(rows: int, seq: int) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), dense_batch(rows, seq))


def matmul_flops(jaxpr: Any) -> int:
    """FLOPs of all matmuls of a traced function, all devices together; those in a loop as often as it runs.

    What nothing reads is left out, such as the gradients of frozen kernels, as compilers do.
    """
    read, _ = dce_jaxpr(jaxpr.jaxpr, [True] * len(jaxpr.jaxpr.outvars))
    return _matmul_flops(read)


def _matmul_flops(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            sizes = [equation.invars[0].aval.shape[axis] for axis in contracted]
            total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(sizes)
        parts = [_matmul_flops(part) for part in _inner(equation.params.values())]
        if equation.primitive.name == "cond":  # one of its branches runs
            total += max(parts)
        else:
            total += _times(equation) * sum(parts)
    return total


def _times(equation: Any) -> int:
    """How often what is inside an operation runs."""
    if equation.primitive.name == "pallas_call":
        return math.prod(equation.params["grid_mapping"].grid)
    return equation.params["length"] if equation.primitive.name == "scan" else 1


def _inner(values: Iterable[Any]) -> Iterable[Any]:
    for value in values:
        value = getattr(value, "jaxpr", value)
        if hasattr(value, "eqns"):
            yield value
        elif isinstance(value, tuple | list):
            yield from _inner(value)


def faults(executable: Executable, state: TrainState, mesh: MeshShape) -> list[str]:
    """What the compiled step is not, of what it has to be."""
    wrong = [f"it exchanges with the host: {', '.join(host)}"] if (host := executable.host()) else []
    leaves = len(jax.tree.leaves(state))
    if executable.donated != leaves:
        wrong.append(f"{executable.donated} leaves of the state are donated; accepted: all {leaves}")
    shared = [op for op in executable.collectives() if over_data(op, mesh)]
    for op in shared:
        if op.kind not in ("all-reduce", "reduce-scatter") and op.bytes:
            wrong.append(f"an {op.kind} of {op.bytes:,} bytes over data; accepted: all-reduces of the gradient")
        if op.looped:
            wrong.append(f"an {op.kind} of {op.bytes + op.other_bytes:,} bytes over data in a loop")
    gradient = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state.trainable))
    if (exchanged := sum(op.bytes for op in shared)) > gradient + SCALARS:  # scalars may be joined to it
        wrong.append(f"{exchanged:,} bytes of arrays are exchanged over data; accepted: one gradient, {gradient:,}")
    if (others := sum(op.other_bytes for op in shared)) > SCALARS:
        wrong.append(f"{others:,} bytes of scalars and integers are exchanged; accepted: at most {SCALARS:,}")
    return wrong


def over_data(op: Collective, mesh: MeshShape) -> bool:
    """Whether it passes between devices with different rows."""
    if not op.groups:
        return mesh.data > 1
    return any(len({device // mesh.model for device in group}) > 1 for group in op.groups)


def groups(kernels: Iterable[Kernel], target: Target) -> list[dict[str, Any]]:
    """What the operations of one name cost together, the most expensive first."""
    seconds: dict[str, float] = defaultdict(float)
    times: Counter[str] = Counter()
    moved: Counter[str] = Counter()
    for kernel in kernels:
        seconds[kernel.operation] += target.seconds(kernel)
        times[kernel.operation] += kernel.times
        moved[kernel.operation] += kernel.bytes
    return [
        {"operation": name, "seconds": spent, "kernels": times[name], "bytes": moved[name]}
        for name, spent in sorted(seconds.items(), key=lambda item: -item[1])
    ]


def figures(compiled: Any, flops: int, target: Target) -> dict[str, Any]:
    """What is known of a compiled function that computes `flops` on each device."""
    executable, memory = Executable(compiled.as_text()), compiled.memory_analysis()
    kernels = executable.kernels()
    seconds = sum(map(target.seconds, kernels))
    return {
        "argument_bytes": memory.argument_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "kernels": sum(kernel.times for kernel in kernels),
        "bytes": sum(kernel.bytes for kernel in kernels),
        "exchanged_bytes": sum(op.bytes + op.other_bytes for op in executable.collectives()),
        "flops": flops,
        "cycles": sum(kernel.cycles for kernel in kernels),
        "seconds": seconds,
        "share_of_peak": flops / seconds / target.peak if seconds else 0.0,
        "groups": groups(kernels, target),
    }


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", nargs="+", choices=TARGETS, default=["h200", "v5e"], help="(default: h200 v5e)")
    parser.add_argument(
        "--model", nargs="+", choices=sorted(MODELS), default=["bert-base"], help="(default: bert-base)"
    )
    parser.add_argument("--work", nargs="+", choices=WORK, default=list(WORK), help="(default: both)")
    parser.add_argument("--mesh", default="data=1", help="devices, as --mesh of a run (default: %(default)s)")
    parser.add_argument("--method", choices=sorted(METHODS), default=AdaKron.name, help="(default: %(default)s)")
    parser.add_argument("--rows", type=int, default=64, help="of a device (default: %(default)s)")
    parser.add_argument("--seq", type=int, default=128, help="tokens of a row (default: %(default)s)")
    parser.add_argument("--remat", action="store_true", help="compute a layer's values again instead of keeping them")
    parser.add_argument("--top", type=int, default=TOP, help="groups of operations listed (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--text", type=Path, help="a folder for the compiled text")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    given = parse(argv)
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_autotune_level=0"  # there is nothing to try
    jax.config.update("jax_platforms", "cpu")  # nothing runs, and no other accelerator is asked
    rows, wrong = [], []
    try:
        mesh = parse_mesh(given.mesh)
        for target in given.target:
            chips = devices(target, mesh.devices)
            for model in given.model:
                for name, line, faulty in compile_all(given, target, model, mesh, chips):
                    rows.append(line)
                    wrong += [f"{name}: {fault}" for fault in faulty]
                    print(shown(line, given.top), flush=True)
                    write_json(given.json, rows)
    except ValueError as error:
        print(f"compiled: {error}", file=sys.stderr)
        return 2
    for line in wrong:
        print(line, file=sys.stderr)
    return int(bool(wrong))


def compile_all(
    given: argparse.Namespace, target: str, model: str, mesh: MeshShape, chips: Sequence[Any]
) -> Iterator[tuple[str, dict[str, Any], list[str]]]:
    """Compiles each of `--work`: a name, its figures, and what is wrong with it."""
    encoder = MODELS[model]
    steps, state, frozen = steps_of_shapes(encoder, make_method(given.method, {}), mesh, chips, given.remat)
    batch = batch_of_shapes(given.rows * mesh.data, given.seq)
    for work in given.work:
        if work == "step":
            traced = steps.train.jitted.trace(state, frozen, batch)
        else:  # rows without micro-batches
            inputs = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), batch.inputs)
            traced = steps.evaluate.jitted.trace(state.trainable, frozen, inputs)
        begun = time.perf_counter()
        compiled = traced.lower().compile()
        text = str(compiled.as_text())
        about = {"target": target, "model": model, "work": work, "mesh": str(mesh), "remat": given.remat}
        about |= {"compile_seconds": time.perf_counter() - begun}
        name = "-".join((target, model, work, str(mesh)))
        if given.text:
            given.text.mkdir(parents=True, exist_ok=True)
            (given.text / f"{name}.hlo").write_text(text, encoding="utf-8")
        faulty = faults(Executable(text), state, mesh) if work == "step" else []
        yield name, about | figures(compiled, matmul_flops(traced.jaxpr) // mesh.devices, TARGETS[target]), faulty


def shown(line: dict[str, Any], top: int) -> str:
    """Figures in a line, and the groups that cost most below it."""
    head = (
        f"{line['target']} {line['model']} {line['work']} {line['mesh']}: {1e3 * line['seconds']:.1f} ms, "
        f"{line['share_of_peak']:.0%} of peak; {line['flops'] / 1e12:.2f} TFLOP, {line['bytes'] / 1e9:.1f} GB, "
        f"{line['kernels']:,} kernels, temporaries {line['temporary_bytes'] / 1e9:.2f} GB, arguments "
        f"{line['argument_bytes'] / 1e9:.2f} GB, exchanged {line['exchanged_bytes'] / 1e6:.2f} MB; "
        + (f"{line['cycles'] / 1e6:.1f} M cycles; " if line["cycles"] else "")
        + f"compiled in {line['compile_seconds']:.0f} s"
    )
    lines = (
        f"  {1e3 * group['seconds']:7.3f} ms {group['kernels']:5} kernels {group['bytes'] / 1e9:6.2f} GB  "
        f"{group['operation']}"
        for group in line["groups"][:top]
    )
    return "\n".join([head, *lines])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
