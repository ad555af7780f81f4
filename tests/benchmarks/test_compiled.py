"""The step as compilers give it: what is read off its text, one gradient told once, the state's memory reused."""

import dataclasses
import importlib.util
import re
import sys

import jax
import jax.numpy as jnp
import pytest

from adakron_jax.architectures.config import BERT_BASE
from adakron_jax.methods import AdaKron
from benchmarks import compiled
from benchmarks.compiled import batch_of_shapes, faults, figures, matmul_flops, steps_of_shapes
from benchmarks.hlo import Collective, Executable, device_groups
from benchmarks.targets import TARGETS
from train.options.mesh import MeshShape

SMALL = dataclasses.replace(
    BERT_BASE,
    vocab_size=70,
    hidden_size=96,
    num_layers=4,
    num_heads=2,
    intermediate_size=128,
    max_position_embeddings=32,
)
# A loop that runs five times: a fusion that reads one of ten rows of an array and multiplies it, and a row written.
TEXT = """HloModule step, input_output_alias={ {0}: (0, {}, may-alias), {1}: (1, {}, must-alias) }

%fused (part.0: bf16[10,8,16], part.1: s32[]) -> f32[8,4] {
  %part.0 = bf16[10,8,16]{2,1,0:T(8,128)(2,1)} parameter(0)
  %part.1 = s32[]{:T(128)} parameter(1)
  %row = bf16[1,8,16]{2,1,0} dynamic-slice(%part.0, %part.1, %part.1, %part.1), dynamic_slice_sizes={1,8,16}
  %flat = bf16[8,16]{1,0} bitcast(%row)
  %weight = bf16[16,4]{1,0} constant({...})
  ROOT %product = f32[8,4]{1,0} dot(%flat, %weight), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%updated (old: f32[10,8], new: f32[1,8], at: s32[]) -> f32[10,8] {
  %old = f32[10,8]{1,0} parameter(0)
  %new = f32[1,8]{1,0} parameter(1)
  %at = s32[] parameter(2)
  ROOT %written = f32[10,8]{1,0} dynamic-update-slice(%old, %new, %at, %at)
}

%body (arg: (bf16[10,8,16], s32[], f32[10,8], f32[1,8])) -> (bf16[10,8,16], s32[], f32[10,8], f32[1,8]) {
  %arg = (bf16[10,8,16]{2,1,0}, s32[], f32[10,8]{1,0}, /*index=3*/f32[1,8]{1,0}) parameter(0)
  %x = bf16[10,8,16]{2,1,0} get-tuple-element(%arg), index=0
  %i = s32[] get-tuple-element(%arg), index=1
  %old = f32[10,8]{1,0} get-tuple-element(%arg), index=2
  %new = f32[1,8]{1,0} get-tuple-element(%arg), index=3
  %gemm = f32[8,4]{1,0} fusion(%x, %i), kind=kCustom, calls=%fused, metadata={op_name="jit(step)/transpose(jvp(Model))/layers/3/query/dot_general"}, backend_config={"estimated_cycles":"100"}
  %kept = f32[10,8]{1,0} fusion(%old, %new, %i), kind=kLoop, calls=%updated, metadata={op_name="jit(step)/jvp(Model)/while/body/closed_call/add"}
  ROOT %out = (bf16[10,8,16]{2,1,0}, s32[], f32[10,8]{1,0}, f32[1,8]{1,0}) tuple(%x, %i, %kept, %new)
}

%condition (arg: (bf16[10,8,16], s32[], f32[10,8], f32[1,8])) -> pred[] {
  %arg = (bf16[10,8,16]{2,1,0}, s32[], f32[10,8]{1,0}, f32[1,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%arg), index=1
  %five = s32[]{:T(128)} constant(5)
  ROOT %less = pred[] compare(%i, %five), direction=LT
}

ENTRY %main (x: (bf16[10,8,16], s32[], f32[10,8], f32[1,8])) -> f32[2] {
  %x = (bf16[10,8,16]{2,1,0}, s32[], f32[10,8]{1,0}, f32[1,8]{1,0}) parameter(0)
  %loop = (bf16[10,8,16]{2,1,0}, s32[], f32[10,8]{1,0}, f32[1,8]{1,0}) while(%x), condition=%condition, body=%body
  %g = f32[2]{0} constant({1, 2})
  ROOT %sum = f32[2]{0} all-reduce(%g), replica_groups={{0,2},{1,3}}, to_apply=%add, metadata={op_name="jit(step)/sum"}
}
"""  # noqa: E501


def test_a_kernel_moves_its_slices_and_counts_as_often_as_its_loop_runs() -> None:
    executable = Executable(TEXT)
    by_name = {kernel.name: kernel for kernel in executable.kernels()}
    gemm, kept = by_name["gemm"], by_name["kept"]
    assert gemm.times == 5
    assert gemm.bytes == 5 * (8 * 16 * 2 + 4 + 8 * 4 * 4)
    assert gemm.flops == 5 * 2 * 8 * 4 * 16
    assert gemm.cycles == 500
    assert gemm.operation == "backward Model/layers/*/query/dot_general"
    assert kept.bytes == 5 * (4 + 2 * 8 * 4)
    assert kept.operation == "forward Model/add"
    assert by_name.keys() == {"gemm", "kept", "less", "sum"}
    assert executable.collectives() == [Collective("all-reduce", 8, 0, False, ((0, 2), (1, 3)))]
    assert executable.donated == 2
    known = TEXT.replace("body=%body", 'body=%body, backend_config={"known_trip_count":{"n":"7"}}')
    assert {kernel.times for kernel in Executable(known).kernels()} == {1, 7}


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("replica_groups={{0,1},{2,3}}, x", ((0, 1), (2, 3))),
        ("replica_groups={}", ()),
        ("replica_groups=[2,2]<=[4], x", ((0, 1), (2, 3))),
        ("replica_groups=[2,2]<=[2,2]T(1,0)", ((0, 2), (1, 3))),
        ("replica_groups=mesh['a'=2,'b'=2] {'a'}, x", ((0, 2), (1, 3))),
        ("source_target_pairs={{0,1},{1,0}}", ((0, 1), (1, 0))),
    ],
)
def test_groups_of_devices_are_read_in_every_form(text: str, groups: tuple[tuple[int, ...], ...]) -> None:
    assert device_groups(text) == groups


@pytest.mark.parametrize(
    "mesh", [pytest.param(MeshShape(data=8), marks=pytest.mark.nightly), MeshShape(data=4, model=2)]
)
def test_devices_tell_each_other_one_gradient_once_a_step(mesh: MeshShape) -> None:
    steps, state, frozen = steps_of_shapes(SMALL, AdaKron(), mesh, jax.devices(), dtype=jnp.float32)
    batch = batch_of_shapes(2 * mesh.data, 16)
    executable = Executable(steps.train.jitted.trace(state, frozen, batch).lower().compile().as_text())
    assert executable.collectives()
    assert faults(executable, state, mesh) == []


def test_a_step_that_is_not_as_it_has_to_be_is_told_so() -> None:
    _, state, _ = steps_of_shapes(SMALL, AdaKron(), MeshShape(), jax.devices()[:1])
    pair = jax.ShapeDtypeStruct((2,), jnp.float32)
    state = dataclasses.replace(state, step=None, seed=None, opt_state=None, schedule=pair, trainable=pair)
    mesh = MeshShape(data=2, model=2)
    assert faults(Executable(TEXT), state, mesh) == []
    assert faults(Executable(TEXT.replace("{{0,2},{1,3}}", "{{0,1},{2,3}}")), state, mesh) == []
    large = TEXT.replace("= f32[2]{0} all-reduce", "= f32[2000]{0} all-reduce")
    looped = TEXT.replace("%kept = f32[10,8]{1,0} fusion(%old", "%kept = f32[10,8]{1,0} all-reduce(%old")
    for text, reason in (
        (large, "8,000 bytes of arrays are exchanged over data; accepted: one gradient, 8"),
        (looped, "an all-reduce of 1,600 bytes over data in a loop"),
        (TEXT.replace(" all-reduce(", " all-gather("), "an all-gather of 8 bytes over data; accepted"),
        (TEXT.replace("may-alias", ""), "1 leaves of the state are donated; accepted: all 2"),
        (TEXT.replace("ROOT %sum", "%sent = token[] outfeed(%g)\n  ROOT %sum"), "it exchanges with the host: outfeed"),
    ):
        assert any(re.match(re.escape(reason), fault) for fault in faults(Executable(text), state, mesh)), reason


def test_the_flops_of_a_step_are_those_counted_by_hand() -> None:
    deep = dataclasses.replace(BERT_BASE, num_layers=12)
    steps, state, frozen = steps_of_shapes(deep, AdaKron(), MeshShape(), jax.devices()[:1])
    counted = matmul_flops(steps.train.jitted.trace(state, frozen, batch_of_shapes(64, 128)).jaxpr)
    hidden, tokens = 768, 64 * 128
    layer = tokens * (2 * 12 * hidden**2 + 4 * 128 * hidden)  # the dense kernels; scores and contexts
    # Forward 11 layers in full; backward 10, and of each only what leads to the values below, frozen as weights are.
    assert counted == pytest.approx((11 + 10) * layer, rel=0.05)


def test_what_a_cpu_compiles_has_figures_by_operation() -> None:
    steps, state, frozen = steps_of_shapes(SMALL, AdaKron(), MeshShape(), jax.devices()[:1])
    traced = steps.train.jitted.trace(state, frozen, batch_of_shapes(2, 16))
    found = figures(traced.lower().compile(), matmul_flops(traced.jaxpr), TARGETS["h200"])
    assert found["seconds"] > 0
    assert sum(group["kernels"] for group in found["groups"]) == found["kernels"] > 0
    assert any("attention" in group["operation"] for group in found["groups"])


@pytest.mark.parametrize("target", TARGETS)
def test_a_compiler_that_is_not_there_is_named(
    target: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("XLA_FLAGS", "")
    assert compiled.main(["--target", target]) == 2
    assert "is not installed; accepted: pip install .[compiled]" in capsys.readouterr().err


@pytest.mark.nightly
def test_the_step_compiles_for_a_tpu_with_its_state_donated(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("libtpu")
    mesh = MeshShape(data=4)
    steps, state, frozen = steps_of_shapes(SMALL, AdaKron(), mesh, compiled.devices("v5e", 4))
    traced = steps.train.jitted.trace(state, frozen, batch_of_shapes(32, 32))
    executable = traced.lower().compile()
    assert faults(Executable(executable.as_text()), state, mesh) == []
    assert figures(executable, 1, TARGETS["v5e"])["cycles"] > 0
    assert sys.modules["libtpu"]
