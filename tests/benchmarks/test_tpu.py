"""The step on many devices: one gradient told once, the state's memory reused; on a TPU, by its compiler alone."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adakron_jax.architectures.config import BERT_BASE
from benchmarks.tpu import CHIPS, Broken, batch_of_shapes, check, devices, figures, matmul_flops, step_of_shapes

# Of four layers, two are in a loop.
SMALL = dataclasses.replace(
    BERT_BASE,
    vocab_size=50,
    hidden_size=96,
    num_layers=4,
    num_heads=2,
    intermediate_size=128,
    max_position_embeddings=32,
)
ALIASES = ", ".join(f"{{{i}}}: ({i}, {{}}, may-alias)" for i in range(4))
MOVED = f"HloModule step, input_output_alias={{ {ALIASES} }}"
MOVED += """
%body (arg: f32[2]) -> f32[2] {
  ROOT %sum = f32[2]{0} all-reduce(%arg), to_apply=%add
}
ENTRY %main (arg: f32[2]) -> f32[2] {
  ROOT %loop = f32[2]{0} while(%arg), condition=%body, body=%body
}
"""


@pytest.mark.parametrize("micro", [1, 2])
def test_devices_tell_each_other_one_gradient_once_a_step_outside_of_every_loop(micro: int) -> None:
    step, state, frozen = step_of_shapes(SMALL, jax.devices(), remat=False, dtype=jnp.float32)
    batch = batch_of_shapes(SMALL, micro * len(jax.devices()), 16)
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((micro, len(jax.devices()), *x.shape[2:]), x.dtype), batch)
    text = step.lower(state, frozen, batch).compile().as_text()
    assert " while(" in text
    assert check(text, state)


def test_a_step_that_is_not_as_it_has_to_be_is_refused_with_the_reason() -> None:
    _, state, _ = step_of_shapes(SMALL, jax.devices()[:1], remat=False)
    pair = jax.ShapeDtypeStruct((2,), jnp.float32)
    state = dataclasses.replace(
        state, step=None, seed=None, opt_state=None, trainable=pair
    )  # and three of the schedule
    fine = MOVED.replace("while(%arg), condition=%body, body=%body", "call(%arg), to_apply=%body")
    assert [each.bytes for each in check(fine, state)] == [8]
    for text, reason in (
        (MOVED, "an all-reduce of 8 bytes in a loop; accepted: one after it"),
        (fine.replace("= f32[2]{0} all-reduce", "= f32[4]{0} all-gather"), "an all-gather of 16 bytes; accepted"),
        (fine.replace("= f32[2]{0} all-reduce", "= f32[4]{0} all-reduce"), "16 bytes of arrays all-reduced; accepted"),
        (fine.replace("may-alias", "", 1), "3 leaves of the state donated; accepted: all 4"),
        (fine + " %x = send(%y)", "'send(' ; accepted".replace(" ;", ";")),
    ):
        with pytest.raises(Broken, match=re.escape(reason)):
            check(text, state)


def test_matmuls_are_counted_once_a_layer_and_by_the_type_of_their_operands() -> None:
    matrix, vector = jnp.ones((3, 3)), jnp.ones(3, jnp.bfloat16)

    def twice(x):
        return jax.lax.scan(lambda x, _: (matrix @ x, None), x, length=2)[0]

    counted = matmul_flops(jax.make_jaxpr(lambda x: (twice(x), vector @ vector))(jnp.ones(3)).jaxpr)
    assert counted == {np.dtype("float32"): 2 * 2 * 9, np.dtype(jnp.bfloat16): 2 * 3}


def test_the_flops_of_a_step_are_those_counted_by_hand() -> None:
    deep = dataclasses.replace(BERT_BASE, num_layers=42)
    step, state, frozen = step_of_shapes(deep, jax.devices()[:1], remat=False)
    counted = matmul_flops(step.trace(state, frozen, batch_of_shapes(deep, 64, 128)).jaxpr)
    hidden, tokens = 768, 64 * 128
    layer = tokens * (2 * 12 * hidden**2 + 4 * 128 * hidden)  # the dense kernels; scores and contexts
    # Forward 41 layers in full; backward 40, and of each only what leads to the values below, frozen as weights are.
    assert sum(counted.values()) == pytest.approx((41 + 40) * layer, rel=0.03)
    assert counted[np.dtype(jnp.bfloat16)] > 0.98 * sum(counted.values())


def test_the_step_compiles_for_a_tpu_in_bf16_with_its_state_donated() -> None:
    pytest.importorskip("libtpu")
    found = figures(SMALL, devices("v5e:2x2"), CHIPS["v5e"], rows=8, seq=32, remat=True)
    assert found["chips"] == 4
    assert found["argument_bytes"] > found["donated_bytes"] > 0
    assert found["roofline_seconds"] > 0
    assert found["cycles"] > 0
