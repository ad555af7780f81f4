"""DeBERTa: which vector an offset has, what a convolution sees, and that rows of any length have the same offsets."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adakron_jax.encoders.deberta import _rows
from adakron_jax.encoders.encoder import Encoder
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.methods import Full, Head, LoRA
from adakron_jax.params import flatten
from tests.encoders.test_bert import LENGTHS, packed_pairs
from tests.methods.test_contract import make_setup, run_steps
from tests.support.architectures import DEBERTA


def test_nearby_offsets_have_a_vector_to_themselves_and_further_ones_share_it() -> None:
    reach = np.arange(-20, 21)
    assert DEBERTA.relative_reach == 20
    rows = dict(zip(reach.tolist(), _rows(DEBERTA).tolist(), strict=True))
    assert [rows[offset] for offset in range(7)] == [6, 7, 8, 9, 10, 10, 10]
    assert [rows[offset] for offset in (7, 19, 20)] == [10, 11, 11]
    assert [rows[offset] for offset in (-1, -3, -4, -19, -20)] == [5, 3, 2, 1, 0]
    published = dataclasses.replace(DEBERTA, max_position_embeddings=512, position_buckets=256)
    rows = _rows(published)
    assert (rows[512 - 128 : 512 + 129] == np.arange(128, 385)).all()
    assert (rows[512 + 511], rows[512 + 512], rows[512 - 511], rows[512 - 512]) == (511, 511, 1, 0)
    assert set(rows) == set(range(512))


def test_a_longer_row_changes_nothing() -> None:
    setup, inputs = make_setup(LoRA(("query", "key"), r=2), DEBERTA), packed_pairs(DEBERTA)
    longer = jax.tree.map(lambda x: x if x.shape[1] == 2 else jnp.pad(x, ((0, 0), (0, 9))), inputs)
    logits, same = (jax.jit(setup.model.apply)({"params": setup.params}, rows) for rows in (inputs, longer))
    np.testing.assert_allclose(same, logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("taps", [1, 3])
def test_the_convolution_sees_neighbours_of_the_same_example(taps: int) -> None:
    config = dataclasses.replace(DEBERTA, num_layers=1, conv_kernel=taps)
    model, inputs = Encoder(config, Head()), packed_pairs(config)
    params = jax.jit(model.init)(jax.random.key(0), inputs)["params"]
    layer = params["layers"]["0"]
    for block in ("attention", "ffn"):  # the layer mixes nothing
        layer[block]["dense"]["kernel"] = jnp.zeros_like(layer[block]["dense"]["kernel"])
    apart = dataclasses.replace(inputs, tokens=jnp.arange(32).reshape(2, 16))

    def token(table: jax.Array, place: int) -> jax.Array:
        changed = params | {"embeddings": params["embeddings"] | {"word": {"embedding": table}}}
        return model.apply({"params": changed}, apart)[0, place, 0]

    for place in (LENGTHS[0] - 1, LENGTHS[0]):  # on both sides of a border
        touched = jax.jit(jax.grad(token), static_argnums=1)(params["embeddings"]["word"]["embedding"], place)
        beside = {place - 1, place, place + 1} if taps == 3 else {place}
        expected = {at for at in beside if (at < LENGTHS[0]) == (place < LENGTHS[0])}
        assert set(np.flatnonzero(np.abs(touched).sum(axis=1))) == expected


@pytest.mark.nightly
def test_a_mesh_of_devices_gives_the_losses_of_one_dropout_included() -> None:
    config = dataclasses.replace(DEBERTA, num_layers=2, num_heads=2)
    setup = make_setup(Full(), config)
    losses = [run_steps(setup, mesh, steps=2)[2] for mesh in ("data=1", "data=4,model=2")]
    np.testing.assert_allclose(losses[1], losses[0], rtol=0, atol=1e-5)


def test_without_a_convolution_there_are_no_parameters_of_one() -> None:
    paths = flatten(SequenceClassifier(dataclasses.replace(DEBERTA, conv_kernel=0), Head()).shapes())
    assert not any("convolution" in path for path in paths)
    assert paths["encoder/embeddings/offset/embedding"].shape == (12, DEBERTA.hidden_size)
