"""Tokenizers of the encoders besides BERT, read from `tokenizer.json` alone."""

import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer as Fast
from tokenizers import models, pre_tokenizers, processors

from adakron_jax.tokenizer import Tokenizer

PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁a", "▁film", "b", "▁"]
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


def write_tokenizer(folder: Path, model_type: str, tokenizer_class: str) -> None:
    fast = Fast(models.Unigram([(piece, -float(i)) for i, piece in enumerate(PIECES)], unk_id=3))
    fast.pre_tokenizer = pre_tokenizers.Metaspace()
    fast.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    fast.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    (folder / "tokenizer_config.json").write_text(json.dumps(SPECIAL | {"tokenizer_class": tokenizer_class}))


@pytest.mark.parametrize(
    ("model_type", "tokenizer_class"),
    [
        ("xlm-roberta", "XLMRobertaTokenizer"),
        ("camembert", "CamembertTokenizer"),
        ("modernbert", "PreTrainedTokenizerFast"),
    ],
)
def test_pieces_are_read_without_sentencepiece(tmp_path: Path, model_type: str, tokenizer_class: str):
    write_tokenizer(tmp_path, model_type, tokenizer_class)
    encoded = Tokenizer(tmp_path, 20).fast(["a film"], ["b"], return_token_type_ids=True)
    assert encoded["input_ids"] == [[0, 4, 5, 2, 2, 7, 6, 2]]
    assert encoded["token_type_ids"] == [[0] * 8]


def test_pieces_alone_are_refused_with_what_is_accepted(tmp_path: Path):
    (tmp_path / "sentencepiece.bpe.model").write_bytes(b"pieces")
    with pytest.raises(ValueError, match="no usable tokenizer; accepted: tokenizer.json, vocab.txt, vocab.json$"):
        Tokenizer(tmp_path, 20)


def test_texts_alone_are_one_column_and_labels_go_with_them(tiny: Path):
    tokenizer = Tokenizer.from_pretrained(str(tiny))
    alone, column = (
        tokenizer.encode(["one two", "three"], 32, labels=[1, 0]),
        tokenizer.encode([["one two", "three"]], 32),
    )
    np.testing.assert_array_equal(alone.tokens, column.tokens)
    assert (alone.labels.tolist(), alone.labels.dtype) == ([1, 0], np.int32)
    assert column.labels.tolist() == [0, 0]
    assert tokenizer.encode(["one"], 32, labels=[0.5]).labels.dtype == np.float32
    with pytest.raises(ValueError, match="1 labels of 2 examples; accepted: one for each"):
        tokenizer.encode(["one", "two"], 32, labels=[1])
