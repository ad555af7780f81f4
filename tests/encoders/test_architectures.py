"""Every model type: what its `config.json` says, and where its tensors lie."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from adakron_jax import adapter
from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.model_types import ARCHITECTURES
from adakron_jax.encoders import pretrained
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.methods import Full, Head
from adakron_jax.params import flatten
from tests.support.architectures import MODERNBERT, TINY
from train.engine.steps.sharding import make_shardings
from train.options.mesh import MeshShape

ORACLES = Path(__file__).parents[1] / "oracles"
BASES = sorted(path.name for path in ORACLES.glob("base-*") if path.name != "base-bert-legacy")
ALL = pytest.mark.parametrize("config", TINY.values(), ids=TINY)
Leaves = dict[str, np.ndarray]


def published(folder: str) -> dict[str, Any]:
    return json.loads((ORACLES / folder / "config.json").read_text())


def random_leaves(config: EncoderConfig) -> Leaves:
    shapes, rng = flatten(SequenceClassifier(config, Head()).shapes()), np.random.default_rng(0)
    return {path: rng.standard_normal(shape.shape).astype(np.float32) for path, shape in sorted(shapes.items())}


def assert_equal(leaves: Leaves, expected: Leaves) -> None:
    assert leaves.keys() == expected.keys()
    jax.tree.map(np.testing.assert_array_equal, leaves, expected)


@ALL
def test_a_mesh_divides_every_kernel_of_attention_and_of_the_feed_forward_block(config: EncoderConfig):
    shardings = make_shardings(MeshShape(data=4, model=2), config)
    kernels = flatten(shardings.of(SequenceClassifier(config, Head()).shapes()))
    kernels = {path: leaf.spec for path, leaf in kernels.items() if re.search(r"/(attention|ffn)/.*/kernel$", path)}
    assert len(kernels) >= 6 * config.num_layers
    assert {path for path, spec in kernels.items() if "model" not in spec} == set()


def test_there_is_a_tiny_encoder_and_an_oracle_of_every_type():
    assert list(TINY) == list(ARCHITECTURES)
    assert {published(folder)["model_type"] for folder in BASES} == set(ARCHITECTURES)


@ALL
def test_every_pretrained_leaf_and_every_leaf_of_the_head_has_a_place(config: EncoderConfig):
    leaves = random_leaves(config)
    base = {path for path in leaves if not path.startswith("classifier/")}
    assert set(pretrained.table(config)) == base
    assert set(config.architecture.head) == leaves.keys() - base


@ALL
def test_from_checkpoint_is_the_inverse_of_to_checkpoint(config: EncoderConfig):
    leaves = {path: leaf for path, leaf in random_leaves(config).items() if path in pretrained.table(config)}
    assert_equal(pretrained.from_checkpoint(pretrained.to_checkpoint(leaves, config), config), leaves)


@pytest.mark.parametrize("folder", BASES)
def test_to_checkpoint_is_the_inverse_of_from_checkpoint(folder: str):
    config, tensors = EncoderConfig.from_folder(ORACLES / folder), load_file(ORACLES / folder / "model.safetensors")
    used = {name: tensor for name, tensor in tensors.items() if not name.startswith("roberta.pooler.")}
    assert_equal(pretrained.to_checkpoint(pretrained.from_checkpoint(tensors, config), config), used)


@pytest.mark.parametrize("folder", BASES)
def test_a_configuration_is_read_as_todays_transformers_writes_it(folder: str):
    from transformers import AutoConfig

    config = EncoderConfig.from_folder(ORACLES / folder)
    assert EncoderConfig.from_hugging_face(config.to_hugging_face()) == config
    today = json.loads(AutoConfig.from_pretrained(ORACLES / folder).to_json_string(use_diff=False))
    assert EncoderConfig.from_hugging_face(today) == config


@pytest.mark.parametrize(
    ("folder", "given", "complaint"),
    [
        ("distilbert", {"activation": "relu"}, "activation is 'relu'; accepted: gelu"),
        ("distilbert", {"dim": None}, "missing from the encoder's configuration: dim"),
        ("electra", {"embedding_size": 0}, "embedding_size is 0; accepted: at least 1"),
        ("electra", {"hidden_act": "gelu_new"}, "hidden_act is 'gelu_new'; accepted: gelu"),
        ("camembert", {"position_embedding_type": "relative_key"}, ".* is 'relative_key'; accepted: absolute"),
        ("xlm-roberta", {"layer_norm_eps": None}, "missing from the encoder's configuration: layer_norm_eps"),
        ("modernbert-cls", {"hidden_activation": "silu"}, "hidden_activation is 'silu'; accepted: gelu"),
        ("modernbert-cls", {"attention_bias": True}, "attention_bias is True; accepted: False"),
        ("modernbert-cls", {"classifier_pooling": "max"}, "classifier_pooling is 'max'; accepted: cls, mean"),
        ("modernbert-cls", {"global_rope_theta": 1.0}, "global_theta is 1.0; accepted: above 1"),
        ("modernbert-cls", {"hidden_size": 20}, "hidden_size 20 gives heads of 5; accepted: even numbers"),
        ("deberta-v3", {"pos_att_type": "c2p"}, r"pos_att_type is 'c2p'; accepted: p2c\|c2p"),
        ("deberta-v3", {"pos_att_type": 7}, r"pos_att_type is 7; accepted: p2c\|c2p"),
        ("deberta-v3", {"pos_att_type": None}, r"pos_att_type is ''; accepted: p2c\|c2p"),
        ("deberta-v3", {"relative_attention": None}, "relative_attention is None; accepted: True"),
        ("deberta-v3", {"share_att_key": False}, "share_att_key is False; accepted: True"),
        ("deberta-v3", {"norm_rel_ebd": "none"}, "norm_rel_ebd is 'none'; accepted: layer_norm"),
        ("deberta-v3", {"position_biased_input": True}, "position_biased_input is True; accepted: False"),
        ("deberta-v3", {"type_vocab_size": 2}, "type_vocab_size is 2; accepted: 0"),
        ("deberta-v3", {"position_buckets": -1}, "position_buckets is -1; accepted: at least 2"),
        ("deberta-v3", {"position_buckets": 24}, "position_buckets is 24; accepted: 2 to 21, of offsets below 12"),
        ("deberta-v3", {"pooler_hidden_act": "tanh"}, "pooler_hidden_act is 'tanh'; accepted: gelu"),
        ("deberta-v3", {"pooler_hidden_size": 16}, "pooler_hidden_size is 16; accepted: 32"),
        ("deberta-v3", {"pooler_dropout": 0.1}, "pooler_dropout is 0.1; accepted: 0"),
        ("deberta-v3", {"embedding_size": 16}, "embedding_size is 16; accepted: 32"),
        ("deberta-v2-conv", {"attention_head_size": 16}, "attention_head_size is 16; accepted: 8"),
        ("deberta-v2-conv", {"conv_kernel_size": 4}, "conv_kernel is 4; accepted: 0 or an odd number"),
        ("deberta-v2-conv", {"conv_groups": 2}, "conv_groups is 2; accepted: 1"),
        ("deberta-v2-conv", {"conv_act": "tanh"}, "conv_act is 'tanh'; accepted: gelu"),
        (
            "modernbert-cls",
            {"layer_types": ["sliding_attention"] * 4},
            r"layer_types is .*; accepted: full_attention at regular intervals from the first layer",
        ),
        (
            "modernbert-cls",
            {"rope_parameters": {"full_attention": {"rope_type": "yarn", "rope_theta": 1e4}}},
            "rope_type is 'yarn'; accepted: default",
        ),
    ],
)
def test_what_is_not_computed_is_refused_with_what_is(folder: str, given: dict[str, Any], complaint: str):
    with pytest.raises(ValueError, match=f"^{complaint}$"):
        EncoderConfig.from_hugging_face(published(f"base-{folder}") | given)


def test_tensors_of_several_leaves_are_joined_and_parted_again():
    leaves = random_leaves(MODERNBERT)
    tensors = adapter.to_tensors(leaves, Full(), MODERNBERT)
    width = MODERNBERT.hidden_size
    assert tensors["model.layers.1.attn.Wqkv.weight"].shape == (3 * width, width)
    key = leaves["encoder/layers/1/attention/key/kernel"].T
    np.testing.assert_array_equal(tensors["model.layers.1.attn.Wqkv.weight"][width : 2 * width], key)
    assert_equal(adapter.from_tensors(tensors, list(leaves), Full(), MODERNBERT), leaves)
    query = {path: leaf for path, leaf in leaves.items() if "query" in path}
    with pytest.raises(ValueError, match=r"incomplete model.layers.0.attn.Wqkv.weight"):
        pretrained.to_checkpoint(query, MODERNBERT)


def test_a_tensor_that_does_not_divide_into_its_leaves_is_named():
    leaves = random_leaves(MODERNBERT)
    tensors = adapter.to_tensors(leaves, Full(), MODERNBERT)
    cut = {name: tensor[:-1] if "Wi" in name else tensor for name, tensor in tensors.items()}
    with pytest.raises(ValueError, match=r"misshapen model.layers.0.mlp.Wi.weight"):
        adapter.from_tensors(cut, list(leaves), Full(), MODERNBERT)
    base = {name: tensor for name, tensor in cut.items() if name.startswith("model.")}
    with pytest.raises(ValueError, match=r"misshapen layers.0.mlp.Wi.weight \(63, 16\), expected \(64, 16\)"):
        pretrained.from_checkpoint(base, MODERNBERT)


def test_a_new_head_of_modernbert_begins_with_the_pretrained_one():
    leaves = random_leaves(MODERNBERT)
    base = {path: leaf for path, leaf in leaves.items() if path in pretrained.table(MODERNBERT)}
    kernel = leaves["classifier/dense/kernel"]
    checkpoint = pretrained.to_checkpoint(base, MODERNBERT) | {"head.dense.weight": kernel.T}
    read = pretrained.from_checkpoint(checkpoint, MODERNBERT)
    assert read.keys() == base.keys() | {"classifier/dense/kernel"}
    np.testing.assert_array_equal(read["classifier/dense/kernel"], kernel)
    assert pretrained.fingerprint(read) == pretrained.fingerprint(base)
    linear = SequenceClassifier(MODERNBERT, Head(), head="linear")
    fresh = linear.fresh(jax.random.key(0), lambda path: path not in read)
    assert "dense" not in linear.assemble(read, fresh)["classifier"]


def test_an_electra_of_one_width_has_no_projection():
    config = dataclasses.replace(TINY["electra"], embedding_size=16)
    assert not any("projection" in path for path in pretrained.table(config))
