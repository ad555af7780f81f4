"""The predictor: logits in the examples' order, however many batches are computed at once."""

import dataclasses

import jax
import numpy as np
import pytest

from adakron_jax import predictor
from adakron_jax.data.examples import Examples
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.params import unflatten
from adakron_jax.splice import Method
from tests.support.architectures import BERT


def test_batches_computed_at_once_give_the_same_logits_in_order(monkeypatch: pytest.MonkeyPatch):
    model = SequenceClassifier(dataclasses.replace(BERT, max_position_embeddings=64), Method(), num_labels=3)
    params = unflatten(model.fresh(jax.random.key(0), lambda path: True))
    lengths = np.random.default_rng(0).integers(3, 60, 300)
    tokens = np.random.default_rng(1).integers(1, 50, lengths.sum()).astype(np.int32)
    offsets = np.r_[0, lengths.cumsum()]
    examples = Examples(tokens, np.zeros_like(tokens), offsets, np.zeros(len(lengths), np.int32), empty_texts=0)
    monkeypatch.setitem(predictor.POSITIONS, jax.default_backend(), 256)
    logits = {}
    for threads in (0, 3):
        monkeypatch.setattr(predictor, "threads", lambda threads=threads: threads)
        done: list[int] = []
        logits[threads] = predictor.logits_of(model, params, examples, done.append)
        assert done == sorted(done)
        assert done[-1] == 300
        assert len(done) > 10
    np.testing.assert_array_equal(logits[0], logits[3])


def test_what_a_thread_raises_reaches_the_caller():
    class Batch:
        inputs = type("Inputs", (), {"tokens": np.zeros((1, 8))})

    def forward(inputs: object, layout: int) -> jax.Array:
        if layout == 2:
            raise ValueError("the third batch")
        return jax.numpy.zeros(1)

    with pytest.raises(ValueError, match="the third batch"):
        list(predictor.by_batch(forward, [(Batch, number) for number in range(6)]))  # pyright: ignore[reportArgumentType]
