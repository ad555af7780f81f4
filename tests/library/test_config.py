"""The encoder's configuration, as read from `config.json`."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from adakron_jax.architectures.config import BERT_BASE, NAMED, ROBERTA_LARGE, EncoderConfig
from adakron_jax.architectures.model_types import ARCHITECTURES

ORACLES = Path(__file__).parents[1] / "oracles"
BERT = json.loads((ORACLES / "base-bert" / "config.json").read_text())
ROBERTA = json.loads((ORACLES / "base-roberta" / "config.json").read_text())
# As Google published it with the first BERT: no model type's defaults, no epsilon, no padding token.
GOOGLE = {
    "attention_probs_dropout_prob": 0.1,
    "directionality": "bidi",
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 768,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pooler_fc_size": 768,
    "pooler_type": "first_token_transform",
    "type_vocab_size": 2,
    "vocab_size": 30522,
}


def without(values: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in keys}


TINY_BERT = EncoderConfig(
    model_type="bert",
    vocab_size=97,
    hidden_size=32,
    num_layers=3,
    num_heads=4,
    intermediate_size=64,
    max_position_embeddings=40,
    type_vocab_size=2,
    pad_id=0,
    layer_norm_eps=1e-12,
    hidden_dropout=0.1,
    attention_dropout=0.1,
    classifier_dropout=0.1,
    initializer_range=0.02,
)


def test_a_published_bert_is_read_field_by_field():
    assert EncoderConfig.from_folder(ORACLES / "base-bert") == TINY_BERT


def test_a_published_roberta_is_read_field_by_field():
    others = {"max_position_embeddings": 42, "type_vocab_size": 1, "pad_id": 1, "layer_norm_eps": 1e-5}
    expected = dataclasses.replace(TINY_BERT, model_type="roberta", **others)
    assert EncoderConfig.from_folder(ORACLES / "base-roberta") == expected


@pytest.mark.parametrize(
    ("model_type", "offset", "longest"),
    [("bert", 0, 40), ("roberta", 2, 40), ("xlm-roberta", 2, 40), ("camembert", 2, 40), ("distilbert", 0, 40)]
    + [("electra", 0, 40), ("modernbert-cls", 0, 64)],
)
def test_positions_begin_after_the_padding_token_in_roberta_s_kin_and_at_0_elsewhere(
    model_type: str, offset: int, longest: int
):
    config = EncoderConfig.from_folder(ORACLES / f"base-{model_type}")
    assert (config.position_offset, config.max_length, config.head_dim) == (offset, longest, 8)


def test_bert_s_positions_begin_at_0_whatever_its_padding_token():
    config = EncoderConfig.from_hugging_face(BERT | {"pad_token_id": 7})
    assert (config.pad_id, config.position_offset, config.max_length) == (7, 0, 40)


def test_roberta_s_positions_follow_its_padding_token():
    config = EncoderConfig.from_hugging_face(ROBERTA | {"pad_token_id": 4})
    assert (config.pad_id, config.position_offset, config.max_length) == (4, 5, 37)


def test_the_first_bert_configurations_get_what_they_left_unsaid():
    config = EncoderConfig.from_hugging_face({"model_type": "bert"} | GOOGLE)
    assert (config.layer_norm_eps, config.pad_id) == (1e-12, 0)
    assert config == BERT_BASE


def test_what_a_configuration_says_wins_over_what_others_left_unsaid():
    config = EncoderConfig.from_hugging_face(BERT | {"layer_norm_eps": 1e-6, "initializer_range": 0.5})
    assert (config.layer_norm_eps, config.initializer_range) == (1e-6, 0.5)


@pytest.mark.parametrize("key", ["layer_norm_eps", "pad_token_id"])
def test_a_roberta_gets_no_silent_epsilon_and_no_silent_padding_token(key: str):
    with pytest.raises(ValueError, match=f"^missing from the encoder's configuration: {key}$"):
        EncoderConfig.from_hugging_face(without(ROBERTA, key))


def test_every_missing_key_is_named():
    with pytest.raises(ValueError, match="missing .*: hidden_size, num_hidden_layers, vocab_size$"):
        EncoderConfig.from_hugging_face(without(BERT, "vocab_size", "num_hidden_layers", "hidden_size"))


@pytest.mark.parametrize(
    ("given", "rate"), [({}, 0.1), ({"classifier_dropout": None}, 0.1), ({"classifier_dropout": 0.0}, 0.0)]
)
def test_the_classifier_s_dropout_is_the_hidden_one_unless_given(given: dict[str, Any], rate: float):
    assert EncoderConfig.from_hugging_face(BERT | given).classifier_dropout == rate


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"model_type": "gpt2"}, f"model_type is 'gpt2'; accepted: {', '.join(ARCHITECTURES)}"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'; accepted: gelu"),
        ({"hidden_act": "gelu_new"}, "hidden_act is 'gelu_new'; accepted: gelu"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'; accepted: absolute"),
        ({"is_decoder": True}, "is_decoder is True; accepted: False"),
        ({"add_cross_attention": True}, "add_cross_attention is True; accepted: False"),
        ({"num_attention_heads": 5}, "hidden_size 32 is not a multiple of num_heads 5"),
        ({"num_hidden_layers": 0}, "num_layers is 0; accepted: at least 1"),
        ({"num_attention_heads": 0}, "num_heads is 0; accepted: at least 1"),
        ({"vocab_size": -1}, "vocab_size is -1; accepted: at least 1"),
        ({"hidden_dropout_prob": 1.0}, "hidden_dropout is 1.0; accepted: 0 <= rate < 1"),
        ({"attention_probs_dropout_prob": -0.1}, "attention_dropout is -0.1; accepted: 0 <= rate < 1"),
        ({"classifier_dropout": 2.0}, "classifier_dropout is 2.0; accepted: 0 <= rate < 1"),
    ],
)
def test_what_is_unsupported_or_out_of_range_is_refused_with_what_is_accepted(given: dict[str, Any], complaint: str):
    with pytest.raises(ValueError, match=f"^{complaint}$"):
        EncoderConfig.from_hugging_face(BERT | given)


def test_a_configuration_without_a_model_type_is_refused():
    with pytest.raises(ValueError, match=f"^model_type is None; accepted: {', '.join(ARCHITECTURES)}$"):
        EncoderConfig.from_hugging_face(GOOGLE)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"model_type": "bert",', "Expecting"),
        ("", "Expecting value"),
        ("[]", "not a JSON object"),
        (json.dumps(BERT | {"hidden_size": "32"}), ""),
        (json.dumps(BERT | {"hidden_act": "relu"}), "hidden_act is 'relu'"),
        (json.dumps(without(BERT, "vocab_size")), "vocab_size"),
        (json.dumps(BERT | {"pad_token_id": None}), "pad_token_id|pad_id"),
        (json.dumps(BERT | {"pad_token_id": -1}), "pad_token_id|pad_id"),
        (json.dumps(BERT | {"layer_norm_eps": None}), "layer_norm_eps"),
    ],
    ids=[
        *("half a JSON", "empty", "a list", "a size in quotes", "unsupported", "a key short"),
        *("no padding token", "a negative padding token", "no epsilon"),
    ],
)
def test_a_file_with_a_mistake_is_named(tmp_path: Path, text: str, complaint: str):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=f"config.json: .*({complaint})") as refusal:
        EncoderConfig.from_folder(tmp_path)
    assert str(refusal.value).startswith(str(tmp_path))


def test_a_folder_without_a_configuration_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="has no config.json; accepted: a Hugging Face model folder$"):
        EncoderConfig.from_folder(tmp_path)


def test_the_named_encoders_are_the_paper_s():
    assert NAMED == {"bert-base": BERT_BASE, "roberta-large": ROBERTA_LARGE}
    assert (ROBERTA_LARGE.position_offset, ROBERTA_LARGE.max_length, ROBERTA_LARGE.head_dim) == (2, 512, 64)


@pytest.mark.parametrize("encoder", NAMED.values(), ids=NAMED)
def test_what_is_written_for_hugging_face_is_read_as_the_same(encoder: EncoderConfig):
    assert EncoderConfig.from_hugging_face(encoder.to_hugging_face()) == encoder
