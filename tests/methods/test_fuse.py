"""Merging: the simpler method computes the same, and its leaves are exactly those of its own model."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.methods.registry import METHODS, fusable, fuse
from adakron_jax.params import Tree, flatten, graft
from adakron_jax.splice import DENSES, Leaves, Method, is_added
from tests.encoders.test_bert import BERT, packed_pairs
from tests.support.architectures import MODERNBERT

CONFIG = dataclasses.replace(BERT, hidden_size=64, num_layers=2, intermediate_size=128)
MODERN = dataclasses.replace(MODERNBERT, hidden_size=64, num_layers=2, intermediate_size=128)
DENSE = tuple(site.value for site in DENSES)
# The fields a method is fused with, where its defaults leave something out.
FIELDS: dict[str, list[dict[str, Any]]] = {
    "c3a": [{"targets": ("query", "ffn_inner"), "block_size": 32}, {"block_size": 1, "scales": (1.0, 0.0, -2.0, 1.5)}],
    "fourierft": [{"targets": DENSE, "n_frequency": 30}, {"n_frequency": 4096, "scales": (9.0, 0.0, -20.0, 15.0)}],
    "hadamard": [{"place": "after_dense"}, {"place": "context"}],
    "ia3": [{}, {"targets": ("ffn_inner", "query", "attention_context", "attention_dense", "ffn_dense")}],
    "krona": [
        {"targets": DENSE, "a_shape": (16, 4), "scale": 0.5},
        {
            "targets": ("query", "ffn_inner"),
            "a_shape": (8, 8, 8, 16),
            "ranks": (0, 2, 3, 0),
            "scales": (1.0, 0.0, -2.0, 1.5),
        },
    ],
    "lora": [{"targets": DENSE, "r": 3, "alpha": 5.0}, {"r": 3, "scales": (1.0, 0.0, -0.5, 2.0)}],
    "dora": [{"targets": DENSE, "r": 3}, {"r": 3, "scales": (1.0, 0.0, -0.5, 2.0)}],
    "pissa": [{"targets": DENSE, "r": 3}, {"r": 3, "scales": (1.0, 0.1, 0.5, 2.0)}],
    "hira": [{"targets": DENSE, "r": 3, "scales": (0.5,) * 12}],
    "randlora": [{"targets": ("query", "ffn_inner", "ffn_dense"), "r": 5, "alpha": 7.0}],
    "vblora": [
        {"targets": DENSE, "vectors": 6, "vector_length": 16, "topk": 3},
        {"vectors": 6, "vector_length": 32, "form": "topk"},
    ],
    "miss": [
        {"targets": DENSE, "r": 5},
        {"targets": DENSE, "r": 6, "form": "mini", "mini_r": 4},
        {"targets": DENSE, "r": 8, "form": "bat"},
    ],
    "oft": [{"targets": DENSE, "block_size": 8}, {"cayley": "neumann", "scales": (0.1, 0.0, -0.2, 0.15)}],
    "prefix": [{}, {"layers": "1", "shift_positions": True}],
    "vera": [{}, {"targets": ("key", "ffn_inner", "ffn_dense"), "r": 5, "scales": (1.0,) * 5 + (0.5,)}],
    "madakron": [{"mixture": "full"}, {"mixture": "partial"}],
}
CASES = [METHODS[name](**fields) for name in fusable() for fields in FIELDS.get(name, [{}])]


def random_leaves(shapes: Tree, seed: int = 0) -> dict[str, np.ndarray]:
    """Every leaf random and none of them at its start: vectors that scale near 1, matrices that keep sizes."""
    rng = np.random.default_rng(seed)

    def leaf(path: str, shape: tuple[int, ...]) -> np.ndarray:
        x = rng.standard_normal(shape)
        if path.endswith("/projection/original"):  # LoReFT's, whose diagonal is not trained
            np.fill_diagonal(x, -np.sqrt(shape[-2]))
        if path.endswith("/bias"):
            x = 0.2 * x
        elif len(shape) == 1:
            x = 1 + 0.2 * x
        else:
            x = x / np.sqrt(shape[-2])
        return x.astype(np.float32)

    return {path: leaf(path, x.shape) for path, x in sorted(flatten(shapes).items())}


@functools.cache
def model_of(method: Method, config: EncoderConfig = CONFIG) -> tuple[SequenceClassifier, Tree]:
    """The model with a method, and its shapes."""
    model = SequenceClassifier(config, method, num_labels=3)
    return model, model.shapes()


@functools.cache
def forward(method: Method, config: EncoderConfig = CONFIG) -> Callable[[Leaves], jax.Array]:
    """The logits of the packed examples with a method's leaves, which must be exactly those of its model."""
    model, shapes = model_of(method, config)
    inputs = packed_pairs(config)
    apply = jax.jit(lambda params: model.apply({"params": params}, inputs))
    return lambda leaves: apply(graft(shapes, leaves))


@dataclasses.dataclass
class Setup:
    method: Method
    leaves: dict[str, np.ndarray]
    fused_method: Method
    fused: Leaves


@pytest.fixture(scope="module", params=CASES, ids=str)
def setup(request: pytest.FixtureRequest) -> Setup:
    method = request.param
    leaves = random_leaves(model_of(method)[1])
    return Setup(method, leaves, *fuse(method, dict(leaves), CONFIG))


def test_merged_and_unmerged_logits_agree(setup: Setup) -> None:
    unfused = forward(setup.method)(setup.leaves)
    np.testing.assert_allclose(forward(setup.fused_method)(setup.fused), unfused, rtol=0, atol=1e-5)
    # It says something only where the method matters to the logits.
    stronger = {path: 1.5 * leaf if is_added(path) else leaf for path, leaf in setup.leaves.items()}
    assert np.abs(forward(setup.method)(stronger) - unfused).max() > 1e-3


def test_the_merged_method_is_a_simpler_one(setup: Setup) -> None:
    own = {path for path in setup.leaves if is_added(path)}
    left = {path for path in setup.fused if is_added(path)}
    assert setup.fused_method != setup.method
    assert sum(setup.fused[path].size for path in left) < sum(setup.leaves[path].size for path in own)


def test_what_is_not_the_encoders_passes_untouched(setup: Setup) -> None:
    others = {path for path in setup.leaves if not path.startswith("encoder/")}
    assert others == {"classifier/kernel", "classifier/bias", "pooler/kernel", "pooler/bias"}
    assert all(setup.fused[path] is setup.leaves[path] for path in others)


def test_the_leaves_given_are_not_changed_and_may_be_of_numpy_or_of_jax(setup: Setup) -> None:
    copies = {path: leaf.copy() for path, leaf in setup.leaves.items()}
    given = dict(copies)
    _, fused = setup.method.fuse(given, CONFIG)
    assert list(given) == list(setup.leaves)
    assert all(given[path] is copies[path] for path in given)
    for path, leaf in setup.leaves.items():
        np.testing.assert_array_equal(copies[path], leaf, err_msg=path)
    _, of_jax = setup.method.fuse({path: jnp.asarray(leaf) for path, leaf in setup.leaves.items()}, CONFIG)
    assert of_jax.keys() == fused.keys()
    for path, leaf in fused.items():
        assert leaf.dtype == of_jax[path].dtype == np.float32
        np.testing.assert_allclose(of_jax[path], leaf, rtol=0, atol=1e-6, err_msg=path)


@pytest.mark.parametrize("name", ["ia3", "lora", "prefix"])
def test_on_modernbert_they_agree_too(name: str) -> None:
    method = METHODS[name](**FIELDS[name][0])
    leaves = random_leaves(model_of(method, MODERN)[1])
    fused_method, fused = method.fuse(leaves, MODERN)
    agreed = forward(fused_method, MODERN)(fused)
    np.testing.assert_allclose(agreed, forward(method, MODERN)(leaves), rtol=0, atol=1e-5)


def test_what_needs_a_bias_is_refused_where_there_is_none() -> None:
    method = METHODS["hadamard"]()
    leaves = random_leaves(model_of(method, MODERN)[1])
    with pytest.raises(ValueError, match="hadamard cannot be fused: modernbert has no bias"):
        method.fuse(leaves, MODERN)


@pytest.mark.parametrize("name", sorted(set(METHODS) - set(fusable())))
def test_what_cannot_be_merged_is_refused_by_name_with_what_can(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be fused") as caught:
        fuse(METHODS[name](), {}, CONFIG)
    assert str(caught.value) == f"method {name} cannot be fused; accepted: {', '.join(fusable())}"


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("prefix", {"mlp": False}, "method.mlp is False; accepted: true"),
        ("unipelt", {"mlp": False}, "method.mlp is False; accepted: true"),
        ("unipelt", {"parts": ("adapter", "lora")}, "method.parts is .*; accepted: a prefix among them"),
    ],
)
def test_what_is_as_simple_as_it_can_be_is_refused(name: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        METHODS[name](**fields).fuse({}, CONFIG)
