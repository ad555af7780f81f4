"""ModernBERT: what its tokens see, and where its positions are."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adakron_jax.encoders.encoder import Encoder
from adakron_jax.encoders.inputs import blank
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.methods import BitFit, Hadamard, Head
from adakron_jax.params import flatten
from tests.encoders.test_bert import LENGTHS, packed_pairs
from tests.support.architectures import MODERNBERT

LOCAL = dataclasses.replace(MODERNBERT, num_layers=1, global_every=2, window=4)


def reach(global_layers: bool) -> np.ndarray:
    """Of one layer, which tokens [32] the last token of the second row's first example depends on."""
    # Layer 0 is always global; of two layers, whether the second is local shows in its window alone.
    config = dataclasses.replace(LOCAL, num_layers=2, global_every=1 if global_layers else 2)
    model, inputs = Encoder(config, Head()), packed_pairs(config)
    params = jax.jit(model.init)(jax.random.key(0), inputs)["params"]
    # The first layer adds nothing, so that what is seen is the second's doing.
    for block in ("attention", "ffn"):
        kernel = params["layers"]["0"][block]["dense"]["kernel"]
        params["layers"]["0"][block]["dense"]["kernel"] = jnp.zeros_like(kernel)
    apart = dataclasses.replace(inputs, tokens=jnp.arange(32).reshape(2, 16))

    def last_token(table: jax.Array) -> jax.Array:
        changed = params | {"embeddings": params["embeddings"] | {"word": {"embedding": table}}}
        return model.apply({"params": changed}, apart)[1, LENGTHS[2] + LENGTHS[3] - 1, 0]

    touched = jax.jit(jax.grad(last_token))(params["embeddings"]["word"]["embedding"])
    return np.flatnonzero(np.abs(touched).sum(axis=1) > 0)


def test_a_local_layer_sees_half_a_window_to_each_side_within_its_example() -> None:
    end = 16 + LENGTHS[2] + LENGTHS[3]
    assert list(reach(global_layers=False)) == list(range(end - 3, end))


def test_a_global_layer_sees_its_example_and_no_other() -> None:
    start = 16 + LENGTHS[2]
    assert list(reach(global_layers=True)) == list(range(start, start + LENGTHS[3]))


def test_it_has_no_biases_but_the_projection_s_to_the_labels() -> None:
    paths = flatten(SequenceClassifier(MODERNBERT, Head()).shapes())
    assert [path for path in paths if path.endswith("bias")] == ["classifier/out_proj/bias"]


def test_what_needs_biases_says_so_in_one_line() -> None:
    with pytest.raises(ValueError, match="^method bitfit trains biases; modernbert has none: take another method"):
        SequenceClassifier(MODERNBERT, BitFit()).shapes()
    with pytest.raises(
        ValueError, match="^method hadamard cannot be fused: modernbert has no bias to take up its own$"
    ):
        Hadamard().fuse({}, MODERNBERT)


def test_its_own_pooling_is_what_its_configuration_says() -> None:
    inputs = packed_pairs(MODERNBERT)
    mean = dataclasses.replace(MODERNBERT, pooling="mean")
    params = jax.jit(SequenceClassifier(MODERNBERT, Head()).init)(jax.random.key(0), blank(1, 4, 1))
    own, asked, first = (
        jax.jit(model.apply)(params, inputs)
        for model in (
            SequenceClassifier(mean, Head()),
            SequenceClassifier(MODERNBERT, Head(), pooling="mean"),
            SequenceClassifier(mean, Head(), pooling="first"),
        )
    )
    np.testing.assert_allclose(own, asked, rtol=0, atol=1e-6)
    assert np.abs(own - first).max() > 1e-2
