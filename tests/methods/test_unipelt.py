"""UniPELT's gates: each is its example's alone, and multiplies what it should."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adakron_jax.encoders.inputs import Packed, Places
from adakron_jax.encoders.module import Stream
from adakron_jax.encoders.ops.attention import Attention
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.methods import LoRA, Pfeiffer, UniPELT
from adakron_jax.params import unflatten
from adakron_jax.splice import Method
from tests.encoders.test_bert import BERT
from tests.methods.test_fuse import random_leaves

CONFIG = dataclasses.replace(BERT, num_layers=2)
FIELDS: dict[str, Any] = {"r": 4, "length": 3, "mid": 6, "lora_r": 2}
ROW = 16
FIRST, SECOND = np.split(np.random.default_rng(0).integers(2, CONFIG.vocab_size, 13).astype(np.int32), [6])


def row_of(*examples: np.ndarray, seq: int = ROW) -> Packed:
    """One row with two slots; an example alone fills the first."""
    arrays = {name: np.zeros((1, seq), np.int32) for name in ("tokens", "token_types", "segments", "positions")}
    starts, end = np.zeros((1, 2), np.int32), 0
    for slot, tokens in enumerate(examples):
        place = (0, slice(end, end + len(tokens)))
        arrays["tokens"][place] = tokens
        arrays["segments"][place] = slot + 1
        arrays["positions"][place] = np.arange(len(tokens))
        starts[0, slot], end = end, end + len(tokens)
    return jax.tree.map(jnp.asarray, Packed(**arrays, starts=starts))


class Gated:
    """A model whose gates open differently for every example."""

    def __init__(self, method: Method):
        self.model = SequenceClassifier(CONFIG, method, num_labels=3)
        leaves = random_leaves(self.model.shapes())
        self.leaves = {path: 4 * leaf if path.endswith("gate/kernel") else leaf for path, leaf in leaves.items()}
        self.compiled = jax.jit(jax.value_and_grad(self.measured, has_aux=True))

    def measured(self, leaves: dict[str, Any], inputs: Packed, slot: Any) -> tuple[jax.Array, jax.Array]:
        logits = self.model.apply({"params": unflatten(leaves)}, inputs)[0]
        return logits[slot] @ jnp.array([1.0, -2.0, 0.5]), logits

    def logits(self, inputs: Packed) -> np.ndarray:
        """Of the row's examples [slots, labels]."""
        return np.asarray(self.compiled(self.leaves, inputs, 0)[0][1])

    def gradients(self, inputs: Packed, slot: int) -> dict[str, np.ndarray]:
        """Of one example's logits."""
        return jax.tree.map(np.asarray, self.compiled(self.leaves, inputs, slot)[1])


@pytest.fixture(
    scope="module",
    params=[UniPELT(("adapter", "prefix"), **FIELDS), UniPELT(("adapter", "prefix", "lora"), **FIELDS)],
    ids=["ap", "apl"],
)
def gated(request: pytest.FixtureRequest) -> Gated:
    return Gated(request.param)


def test_a_packed_example_has_the_logits_and_gradients_that_it_has_alone(gated: Gated) -> None:
    together = row_of(FIRST, SECOND)
    for slot, example in enumerate((FIRST, SECOND)):
        alone = row_of(example)
        np.testing.assert_allclose(gated.logits(together)[slot], gated.logits(alone)[0], rtol=0, atol=1e-5)
        found, expected = gated.gradients(together, slot), gated.gradients(alone, 0)
        for path, grad in found.items():
            np.testing.assert_allclose(grad, expected[path], rtol=1e-5, atol=1e-5, err_msg=path)
        for name in {path.split("@")[1] for path in expected if "/gate/" in path}:
            assert max(np.abs(grad).max() for path, grad in expected.items() if path.endswith(f"@{name}")) > 1e-4, name


def test_an_examples_tokens_do_not_matter_to_its_neighbour(gated: Gated) -> None:
    before = gated.logits(row_of(FIRST, SECOND))
    for changed, row in enumerate((row_of(FIRST[::-1], SECOND), row_of(FIRST, SECOND[::-1]))):
        after = gated.logits(row)
        np.testing.assert_allclose(after[1 - changed], before[1 - changed], rtol=0, atol=1e-6)
        assert np.abs(after[changed] - before[changed]).max() > 1e-3


def test_the_amount_of_padding_changes_nothing(gated: Gated) -> None:
    inputs = row_of(FIRST, seq=len(FIRST))
    without = jax.jit(lambda leaves: gated.measured(leaves, inputs, 0)[1])(gated.leaves)
    np.testing.assert_allclose(gated.logits(row_of(FIRST))[0], without[0], rtol=0, atol=1e-5)


def test_the_prefix_gate_scales_the_prefixes_keys_and_values_for_its_examples_queries() -> None:
    module = Attention(CONFIG, UniPELT(("prefix",), length=3, mlp=False))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 9, CONFIG.hidden_size)).astype(np.float32)
    segments = np.array([[1, 1, 1, 1, 2, 2, 2, 0, 0]], np.int32)
    everywhere = {"deterministic": True, "shared": None, "layer": 0}
    places = Places(jnp.asarray(segments), jnp.zeros(segments.shape, jnp.int32))
    arguments = (jnp.asarray(x), places, Stream(jnp.asarray(x)), places, everywhere)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *arguments))["params"]
    params = unflatten(random_leaves(shapes))
    found = np.asarray(jax.jit(lambda params: module.apply({"params": params}, *arguments))(params))[0]

    def dense(name: str, x: np.ndarray) -> np.ndarray:
        return x @ params[name]["kernel"] + params[name]["bias"]

    own, gates = params["keys_values@unipelt"], []
    for example in (1, 2):
        at = segments[0] == example
        tokens = x[0, at]
        opened = tokens @ own["gate"]["kernel"] + own["gate"]["bias"]
        gates.append(np.mean(1 / (1 + np.exp(-opened))))
        queries, keys, values = (dense(name, tokens) for name in ("query", "key", "value"))
        keys = np.concatenate([gates[-1] * own["key"], keys])
        values = np.concatenate([gates[-1] * own["value"], values])
        heads = []
        for q, k, v in zip(*(np.split(y, CONFIG.num_heads, axis=1) for y in (queries, keys, values)), strict=True):
            weights = np.exp(q @ k.T / np.sqrt(CONFIG.head_dim))
            heads.append(weights / weights.sum(axis=1, keepdims=True) @ v)
        np.testing.assert_allclose(found[at], dense("dense", np.concatenate(heads, axis=1)), rtol=0, atol=1e-5)
    assert abs(gates[0] - gates[1]) > 0.01


@pytest.mark.parametrize(
    ("part", "plain"), [("adapter", Pfeiffer(4)), ("lora", LoRA(r=2, alpha=2.0))], ids=["adapter", "lora"]
)
def test_behind_an_open_gate_a_part_is_the_method_that_it_stands_for(part: str, plain: Method) -> None:
    config = dataclasses.replace(CONFIG, num_layers=1)
    gated = SequenceClassifier(config, UniPELT((part,), **FIELDS), num_labels=3)
    leaves = random_leaves(gated.shapes())
    gates = [path for path in leaves if path.endswith("/gate/bias")]
    assert gates
    opened = leaves | {path: np.full_like(leaves[path], 50) for path in gates}
    same = {path.replace("@unipelt/", f"@{plain.name}/"): x for path, x in leaves.items() if "/gate/" not in path}
    expected = logits_of(SequenceClassifier(config, plain, num_labels=3))(same)
    logits = logits_of(gated)
    np.testing.assert_allclose(logits(opened), expected, rtol=0, atol=1e-5)
    assert np.abs(logits(leaves) - expected).max() > 1e-3


def logits_of(model: SequenceClassifier) -> Callable[[dict[str, np.ndarray]], jax.Array]:
    inputs = row_of(FIRST, SECOND)
    return jax.jit(lambda leaves: model.apply({"params": unflatten(leaves)}, inputs))
