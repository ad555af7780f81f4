"""What the head reads, and what it is."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adakron_jax.encoders.encoder import Encoder
from adakron_jax.encoders.inputs import Packed, padded
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.params import flatten
from adakron_jax.splice import Method
from tests.library.test_params import TINY_BERT

ROBERTA = dataclasses.replace(TINY_BERT, model_type="roberta", type_vocab_size=1, pad_id=1)
IDS = np.array([[2, 5, 6, 4], [2, 3, 0, 0]])
LENGTHS = (IDS > 0).sum(axis=1)


def test_the_mean_is_over_an_example_s_own_tokens():
    model = SequenceClassifier(TINY_BERT, Method(), num_labels=3, pooling="mean", head="linear")
    inputs = padded(jnp.asarray(IDS), jnp.asarray(IDS > 0, jnp.int32), jnp.zeros(IDS.shape, jnp.int32))
    params = model.init(jax.random.key(0), inputs)["params"]
    logits = model.apply({"params": params}, inputs)
    hidden = Encoder(TINY_BERT, Method()).apply({"params": params["encoder"]}, inputs)
    means = np.stack([hidden[i, :length].mean(axis=0) for i, length in enumerate(LENGTHS)])
    expected = means @ params["classifier"]["kernel"] + params["classifier"]["bias"][None]
    np.testing.assert_allclose(logits[:, 0], expected, rtol=0, atol=1e-6)

    row = np.concatenate([IDS[0, :4], IDS[1, :2]])[None]
    packed = Packed(
        tokens=jnp.asarray(row),
        token_types=jnp.zeros(row.shape, jnp.int32),
        segments=jnp.asarray([[1, 1, 1, 1, 2, 2]]),
        positions=jnp.asarray([[0, 1, 2, 3, 0, 1]]),
        starts=jnp.asarray([[0, 4]]),
    )
    np.testing.assert_allclose(model.apply({"params": params}, packed)[0], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("config", "pooling", "head", "expected"),
    [
        (TINY_BERT, "pooler", "own", {"pooler/kernel", "pooler/bias", "classifier/kernel", "classifier/bias"}),
        (TINY_BERT, "first", "own", {"classifier/kernel", "classifier/bias"}),
        (ROBERTA, "mean", "linear", {"classifier/kernel", "classifier/bias"}),
        (
            TINY_BERT,
            "first",
            "gelu",
            {f"classifier/{x}/{y}" for x in ("dense", "out_proj") for y in ("kernel", "bias")},
        ),
        (ROBERTA, "pooler", "own", {f"classifier/{x}/{y}" for x in ("dense", "out_proj") for y in ("kernel", "bias")}),
    ],
)
def test_the_head_has_the_parameters_of_its_form(config, pooling, head, expected):
    shapes = SequenceClassifier(config, Method(), pooling=pooling, head=head).shapes()
    assert {path for path in flatten(shapes) if not path.startswith("encoder/")} == expected


def test_a_pooler_that_is_not_read_is_left_out_and_other_strangers_are_refused():
    params = flatten(
        SequenceClassifier(TINY_BERT, Method()).init(jax.random.key(0), padded(*[jnp.ones((1, 2), int)] * 3))
    )
    leaves = {path.removeprefix("params/"): leaf for path, leaf in params.items()}
    head = {path: leaves.pop(path) for path in list(leaves) if path.startswith("classifier/")}
    mean = SequenceClassifier(TINY_BERT, Method(), pooling="mean")
    assert (
        flatten(mean.assemble(leaves, head)).keys() == {p for p in leaves if not p.startswith("pooler")} | head.keys()
    )
    with pytest.raises(ValueError, match="unexpected pooler/kernel"):
        mean.assemble({}, leaves | head)
