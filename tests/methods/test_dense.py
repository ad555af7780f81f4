"""What a module is given of the dense whose output it replaces."""

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import numpy as np
import pytest
from flax import linen as nn

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.methods import Head
from adakron_jax.params import flatten, unflatten
from adakron_jax.splice import DENSES, Method, Site, Splice
from tests.encoders.test_bert import packed_pairs
from tests.support.architectures import BERT, MODERNBERT


class Doubled(nn.Module):
    """Twice what the dense computes, from its input and its parameters alone."""

    @nn.compact
    def __call__(self, y: Any, inputs: Any, dense: Mapping[str, Any], **_: Any) -> Any:
        bias = dense["bias"].reshape(1, 1, -1) if "bias" in dense else 0
        return 2 * (inputs @ dense["kernel"] + bias)


class Doubling(Method):
    name: ClassVar[str] = "doubling"

    def splices(self, config: Any, dtype: Any = None) -> Mapping[Site, Splice]:
        return {site: Splice(functools.partial(Doubled), label="doubled") for site in DENSES}


@pytest.mark.parametrize("config", [BERT, MODERNBERT], ids=lambda config: config.model_type)
def test_a_module_is_given_the_parameters_of_every_dense(config: EncoderConfig) -> None:
    model, inputs = SequenceClassifier(config, Doubling()), packed_pairs(config)
    params = jax.jit(model.init)(jax.random.key(0), inputs)["params"]

    def doubled(path: str, leaf: Any) -> Any:
        *_, name, _ = path.split("/")
        return 2 * leaf if "layers" in path and name in ("query", "key", "value", "dense", "hidden") else leaf

    leaves = {path: doubled(path, leaf) for path, leaf in flatten(params).items()}
    plain = model.clone(method=Head())
    logits = jax.jit(lambda params: model.apply({"params": params}, inputs))(params)
    expected = jax.jit(lambda params: plain.apply({"params": params}, inputs))(unflatten(leaves))
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)
