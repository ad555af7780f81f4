"""The encoder: packing changes nothing, attention stays in its segment, dropout is unbiased, precision a policy."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jaxtyping import Array, Float

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.encoders.encoder import Encoder
from adakron_jax.encoders.inputs import Packed, blank
from adakron_jax.encoders.module import take
from adakron_jax.encoders.ops import norm
from adakron_jax.encoders.ops.dropout import Dropout, parts_of_axis, parts_of_words, random_words
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.methods import Head
from adakron_jax.params import unflatten
from adakron_jax.splice import Method, Site, Splice
from adakron_jax.testing import LENGTHS, as_batch, examples, make_setup
from tests.support.architectures import BERT, DISTINCT, MODERNBERT

ALL = pytest.mark.parametrize("config", DISTINCT, ids=lambda config: config.model_type)


def packed_pairs(config: EncoderConfig) -> Packed:
    """The same examples, two a row of 16 tokens."""
    ids, mask = examples(config)
    inputs = {name: np.zeros((2, 16), np.int32) for name in ("tokens", "token_types", "segments", "positions")}
    starts = np.zeros((2, 2), np.int32)
    for example, length in enumerate(LENGTHS):
        row, slot = divmod(example, 2)
        start = LENGTHS[example - 1] if slot else 0
        place = (row, slice(start, start + length))
        inputs["tokens"][place] = ids[example, :length]
        inputs["segments"][place] = slot + 1
        inputs["positions"][place] = np.arange(length)
        starts[row, slot] = start
    return Packed(**jax.tree.map(jnp.asarray, inputs), starts=jnp.asarray(starts))


@ALL
def test_packed_rows_give_the_tokens_of_padded_ones_and_the_last_layer_may_compute_the_first_alone(
    config: EncoderConfig,
) -> None:
    encoder, params = Encoder(config, Head()), make_setup(Head(), config).params["encoder"]
    packed, alone = (as_batch(config, per_row)[0] for per_row in (2, 1))
    run = jax.jit(lambda inputs, starts: encoder.apply({"params": params}, inputs, True, starts))
    firsts = run(packed, packed.starts)
    np.testing.assert_allclose(firsts, take(run(packed, None), packed.starts), rtol=0, atol=1e-5)
    np.testing.assert_allclose(firsts[:2].reshape(4, -1), run(alone, alone.starts)[:, 0], rtol=0, atol=1e-5)


def test_no_gradient_crosses_from_one_segment_to_another_or_from_padding() -> None:
    model = Encoder(BERT, Head())
    inputs = packed_pairs(BERT)
    params = jax.jit(model.init)(jax.random.key(0), inputs)
    table = params["params"]["embeddings"]["word"]["embedding"]

    def first_example_of_first_row(word_vectors: jax.Array) -> jax.Array:
        changed = jax.tree.map(lambda x: x, params)
        changed["params"]["embeddings"]["word"]["embedding"] = word_vectors
        each_its_own = dataclasses.replace(inputs, tokens=jnp.arange(32).reshape(2, 16))
        return model.apply(changed, each_its_own)[0, : LENGTHS[0], 0].sum()

    touched = np.abs(jax.jit(jax.grad(first_example_of_first_row))(table)).sum(axis=1) > 0
    assert set(np.flatnonzero(touched)) == set(range(LENGTHS[0]))


TRACED: list[tuple[int, ...]] = []


class Traced(nn.Module):
    """Notes each trace."""

    @nn.compact
    def __call__(self, x: Float[Array, "rows seq d"], **_: Any) -> Float[Array, "rows seq d"]:
        TRACED.append(x.shape)
        return x


@dataclasses.dataclass(frozen=True)
class Tracing(Method):
    name: ClassVar[str] = "tracing"

    def splices(self, config: EncoderConfig, dtype: Any = None) -> Mapping[Site, Splice]:
        return {Site.FFN_DENSE: Splice(Traced, label="traced")}


@pytest.mark.parametrize("config", [BERT, MODERNBERT], ids=lambda config: config.model_type)
def test_layers_alike_are_traced_once_and_nothing_loops_over_them(config: EncoderConfig) -> None:
    config = dataclasses.replace(config, num_layers=5)
    model, inputs = SequenceClassifier(config, Tracing()), packed_pairs(BERT)
    params = unflatten(model.fresh(jax.random.key(0), lambda path: True))
    TRACED.clear()
    traced = jax.make_jaxpr(lambda params: model.apply({"params": params}, inputs))(params)
    # Of the last layer the first tokens alone are computed.
    assert [(2, 16, config.hidden_size), (2, 2, config.hidden_size)] == TRACED
    assert "scan[" not in str(traced)
    assert "while[" not in str(traced)


def test_layers_start_from_different_values() -> None:
    params = jax.jit(SequenceClassifier(BERT, Head()).init)(jax.random.key(0), blank(1, 4, 1))["params"]
    layers = params["encoder"]["layers"]
    assert list(layers) == [str(i) for i in range(BERT.num_layers)]
    assert not np.allclose(*(layers[i]["ffn"]["dense"]["kernel"] for i in "01"))


def test_bfloat16_computes_in_bfloat16_but_returns_float32_logits() -> None:
    model = SequenceClassifier(BERT, Head(), jnp.bfloat16)
    inputs = packed_pairs(BERT)
    params = jax.jit(model.init)(jax.random.key(0), inputs)
    logits = jax.jit(model.apply)(params, inputs)
    exact = jax.jit(SequenceClassifier(BERT, Head()).apply)(params, inputs)
    assert logits.dtype == jnp.float32
    assert 0 < np.abs(logits - exact).max() < 0.2
    assert (
        Encoder(BERT, Head(), jnp.bfloat16).apply({"params": params["params"]["encoder"]}, inputs).dtype == "bfloat16"
    )


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_drops_at_its_rate_and_keeps_the_expectation(rate: float) -> None:
    x = jnp.ones((400, 501))
    y = Dropout(rate).apply({}, x, False, rngs={"dropout": jax.random.key(0)})
    rate = round(rate * 256) / 256  # a mask's word has eight bits
    deviation = np.sqrt(rate * (1 - rate) / x.size)
    assert abs(float((y == 0).mean()) - rate) < 5 * deviation
    assert abs(float(y.mean()) - 1) < 5 * deviation / (1 - rate)
    rows = (np.asarray(y) == 0).reshape(400, 501).astype(float)
    assert abs(np.corrcoef(rows[:, 0:-1:2].ravel(), rows[:, 1::2].ravel())[0, 1]) < 0.02


@pytest.mark.parametrize("implementation", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_the_random_words_are_those_of_jax(implementation: str) -> None:
    for seed, shape in ((0, (3, 7)), (12345, (2, 3, 5)), (2**32 - 1, (1000,))):
        key = jax.random.fold_in(jax.random.key(seed, impl=implementation), 7)
        np.testing.assert_array_equal(random_words(key, shape), jax.random.bits(key, shape, jnp.uint32))


@pytest.mark.parametrize("implementation", ["rbg", "unsafe_rbg"])
def test_dropout_takes_keys_of_other_implementations(implementation: str) -> None:
    drop, x = Dropout(0.5), jnp.ones((2, 40, 50))
    key = jax.random.key(1, impl=implementation)
    y = jax.jit(lambda key, x: drop.apply({}, x, False, rngs={"dropout": key}))(key, x)
    assert abs(float(y.mean()) - 1) < 0.1
    parts = jax.vmap(lambda x: drop.apply({}, x, False, rngs={"dropout": key}))(x)
    np.testing.assert_array_equal(parts.shape, x.shape)
    assert abs(float(parts.mean()) - 1) < 0.1


@pytest.mark.parametrize("of_platform", [parts_of_words, parts_of_axis])
def test_each_platforms_random_parts_are_uniform_and_those_of_the_row(of_platform: Callable[..., jax.Array]) -> None:
    parts, few = (np.asarray(of_platform(jax.random.key(0), jnp.ones((rows, 30, 51)))) for rows in (100, 3))
    counts = np.bincount(parts.ravel(), minlength=256)
    assert len(counts) == 256
    assert np.abs(counts - parts.size / 256).max() < 6 * np.sqrt(parts.size / 256)
    np.testing.assert_array_equal(few, parts[:3])


def test_a_rows_dropout_does_not_depend_on_how_many_rows_there_are() -> None:
    rngs = {"dropout": jax.random.key(0)}
    few, many = (Dropout(0.3).apply({}, jnp.ones((rows, 7, 10)), False, rngs=rngs) for rows in (3, 8))
    np.testing.assert_array_equal(few, many[:3])


def test_no_dropout_when_deterministic_or_at_rate_zero() -> None:
    x = jnp.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(Dropout(0.5).apply({}, x, True), x)
    np.testing.assert_array_equal(Dropout(0.0).apply({}, x, False), x)


def test_fresh_leaves_are_those_of_a_whole_initialisation() -> None:
    model = SequenceClassifier(BERT, Head())
    whole = jax.jit(model.init)(jax.random.key(3), blank(1, 1, 1))["params"]
    fresh = model.fresh(jax.random.key(3), lambda path: path.startswith("classifier/"))
    assert set(fresh) == {"classifier/kernel", "classifier/bias"}
    np.testing.assert_allclose(fresh["classifier/kernel"], whole["classifier"]["kernel"], rtol=1e-6)


def test_dropout_of_a_batch_in_parts_is_that_of_the_whole_and_of_other_keys_is_another() -> None:
    x, layer = jnp.ones((4, 3, 10)), Dropout(0.5)
    draw = lambda key, x: layer.apply({}, x, False, rngs={"dropout": key})  # noqa: E731
    key, keys = jax.random.key(0), jax.random.split(jax.random.key(1), 2)
    parts = jax.vmap(draw, in_axes=(None, 0))(key, x.reshape(2, 2, 3, 10))
    np.testing.assert_array_equal(parts.reshape(x.shape), draw(key, x))
    for of_x, given in ((None, x), (0, jnp.stack([x, 2 * x]))):
        apart = jnp.stack([draw(key, given if of_x is None else given[i]) for i, key in enumerate(keys)])
        np.testing.assert_array_equal(jax.vmap(draw, in_axes=(0, of_x))(keys, given), apart)


def test_remat_changes_gradients_by_no_more_than_rounding_and_keeps_less() -> None:
    config = dataclasses.replace(BERT, num_layers=3)
    params = make_setup(Head(), config).params
    inputs = jax.tree.map(lambda x: jnp.tile(x, (16, 1)), packed_pairs(config))  # more of them than of parameters

    def loss(remat: bool):
        model, rngs = SequenceClassifier(config, Head(), num_labels=3, remat=remat), {"dropout": jax.random.key(1)}
        return lambda params: model.apply({"params": params}, inputs, False, rngs=rngs).var()

    losses = [loss(remat) for remat in (False, True)]
    kept, again = (jax.jit(jax.grad(loss))(params) for loss in losses)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=1e-5), again, kept)
    # What the backward pass is given; a CPU's compiler shares what it then computes a second time.
    kept, again = (jax.eval_shape(lambda p, loss=loss: jax.vjp(loss, p)[1], params) for loss in losses)
    assert count_all(again) < 0.5 * count_all(kept)


def count_all(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_a_tpu_s_layer_norm_and_its_gradients_are_those_of_the_two_passes() -> None:
    of_x, of_scale, of_cotangent = jax.random.split(jax.random.key(0), 3)
    x, cotangent = 3 * jax.random.normal(of_x, (2, 5, 64)) + 2, jax.random.normal(of_cotangent, (2, 5, 64))
    scale = jax.random.normal(of_scale, (1, 1, 64))
    y, pullback = jax.vjp(functools.partial(norm.two_passes, 1e-5), x, scale)
    expected = y, *pullback(cotangent)
    got = norm.one_pass(1e-5, x, scale), *norm.one_pass_backward(1e-5, x, scale, cotangent)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
