"""Attention in one kernel, interpreted: what attention step by step gives, dropout and gradients included."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adakron_jax.encoders.inputs import Packed, padded
from adakron_jax.encoders.ops import fused
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.methods import AdaKron
from adakron_jax.params import merge_params, split_params
from adakron_jax.splice import is_trainable
from adakron_jax.xla.precision import fuses
from tests.support.architectures import BERT

SEQ, DROP = 64, 26
CONFIG = dataclasses.replace(
    BERT, hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64, max_position_embeddings=SEQ
)


def kept(words: jax.Array, drop: int) -> jax.Array:
    """The weights [rows, heads, queries, keys] that these words keep, where a byte below `drop` drops one."""
    rows, heads, part, keys = words.shape
    parts = words[:, :, None] >> jnp.arange(0, 32, 8, dtype=jnp.uint32).reshape(1, 1, fused.PARTS, 1, 1) & 255
    return (parts >= drop).reshape(rows, heads, fused.PARTS * part, keys)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("drop", [0, DROP])
def test_context_and_gradients_are_those_of_attention_by_steps(drop, dtype):
    *keys, of_segments, of_words = jax.random.split(jax.random.key(0), 6)
    queries, keys, values, cotangent = (jax.random.normal(key, (2, 2, SEQ, 16)).astype(dtype) for key in keys)
    segments = jnp.sort(jax.random.randint(of_segments, (2, SEQ), 0, 4))
    mask = (segments[:, :, None] == segments[:, None, :])[:, None]
    words = jax.random.bits(of_words, (2, 2, SEQ // fused.PARTS, SEQ), jnp.uint32) if drop else None

    def by_steps(queries, keys, values):
        scores = jnp.einsum("rhqd,rhkd->rhqk", queries, keys, precision="highest")
        weights = jax.nn.softmax(jnp.where(mask, scores, -1e30))
        if words is not None:
            weights = jnp.where(kept(words, drop), weights / (1 - drop / 256), 0)
        return jnp.einsum("rhqk,rhkd->rhqd", weights, values, precision="highest")

    def at_once(*by_head):
        return fused.attend(drop, *by_head, mask, words)

    @jax.jit
    def both():
        wide = [x.astype(jnp.float32) for x in (queries, keys, values, cotangent)]
        context, pullback = jax.vjp(at_once, queries, keys, values)
        expected, expected_pullback = jax.vjp(by_steps, *wide[:3])
        return (context, *pullback(cotangent)), (expected, *expected_pullback(wide[3]))

    for got, expected in zip(*both(), strict=True):
        assert got.dtype == dtype
        error = np.abs(np.asarray(got, np.float32) - expected).max() / np.abs(expected).max()
        assert error < (1e-5 if dtype == jnp.float32 else 2e-2)


@pytest.fixture(scope="module")
def params() -> Any:
    return jax.jit(SequenceClassifier(CONFIG, AdaKron()).init)(jax.random.key(0), packed())["params"]


def packed() -> Packed:
    """Three examples in a row, and a row of padding but for one."""
    tokens, segments, positions = (np.zeros((2, SEQ), np.int32) for _ in range(3))
    starts = np.zeros((2, 3), np.int32)
    for row, slot, start, length in ((0, 0, 0, 30), (0, 1, 30, 20), (0, 2, 50, 9), (1, 0, 0, 40)):
        at = slice(start, start + length)
        tokens[row, at] = np.random.default_rng(start).integers(1, 20, length)
        segments[row, at], positions[row, at], starts[row, slot] = slot + 1, np.arange(length), start
    return Packed(*map(jnp.asarray, (tokens, np.zeros_like(tokens), segments, positions, starts)))


def test_a_model_gives_the_same_packed_and_padded_and_by_steps(params):
    model, inputs = SequenceClassifier(CONFIG, AdaKron(), fused=True), packed()
    tokens = np.zeros((3, SEQ), np.int32)
    for slot in range(3):
        of_example = inputs.tokens[0][inputs.segments[0] == slot + 1]
        tokens[slot, : len(of_example)] = of_example

    @jax.jit
    def logits() -> Any:
        by_steps = dataclasses.replace(model, fused=False).apply({"params": params}, inputs)
        alone = model.apply({"params": params}, padded(tokens, tokens > 0))
        return model.apply({"params": params}, inputs)[0], by_steps[0], alone[:, 0]

    at_once, by_steps, alone = logits()
    np.testing.assert_allclose(at_once, by_steps, atol=1e-5)
    np.testing.assert_allclose(at_once, alone, atol=1e-5)


def test_dropout_is_that_of_the_key_and_of_the_whole_batch(params):
    """Parts of a batch under a vmap have the masks of the batch, so that a mesh or micro-batches change nothing."""
    model = SequenceClassifier(CONFIG, AdaKron(), fused=True)

    @jax.jit
    def logits(inputs, seed):
        rngs = {"dropout": jax.random.key(seed)}
        return model.apply({"params": params}, inputs, deterministic=False, rngs=rngs)

    inputs = packed()
    parts = jax.vmap(logits, (0, None))(jax.tree.map(lambda x: x[:, None], inputs), 0)
    np.testing.assert_allclose(logits(inputs, 0), parts[:, 0], atol=1e-5)
    assert not np.allclose(logits(inputs, 0)[0], logits(inputs, 1)[0], atol=1e-3)


def test_adapters_side_by_side_give_what_each_gives_alone(params):
    """As a bank has them: one frozen tree, a trainable tree for each row."""
    model, inputs = SequenceClassifier(CONFIG, AdaKron(), fused=True), jax.tree.map(lambda x: x[:, None], packed())
    trainable, frozen = split_params(params, is_trainable(model.method))
    adapters = [jax.tree.map(lambda x, more=more: x + more, trainable) for more in (0.0, 0.02)]

    def logits(adapter: Any, inputs: Packed) -> Any:
        return model.apply({"params": merge_params(adapter, frozen)}, inputs)

    @jax.jit
    def both() -> Any:
        rows = (jax.tree.map(lambda x, row=row: x[row], inputs) for row in range(2))
        alone = jnp.stack([logits(*one) for one in zip(adapters, rows, strict=True)])
        return jax.vmap(logits)(jax.tree.map(lambda *x: jnp.stack(x), *adapters), inputs), alone

    np.testing.assert_allclose(*both(), atol=1e-5)


def test_one_gpu_in_a_narrow_precision_has_the_kernel():
    assert fuses(jnp.bfloat16, 1, "cuda")
    assert not any((fuses(jnp.float32, 1, "cuda"), fuses(jnp.bfloat16, 2, "cuda"), fuses(jnp.bfloat16, 1, "cpu")))
    assert not fuses(jnp.bfloat16)
    assert jax.device_count() > 1  # among which a user's program may divide its arrays
    assert not fuses(jnp.bfloat16, platform="cuda")
