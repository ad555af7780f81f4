"""Tokenizers of the encoders besides BERT, read from `tokenizer.json` alone."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer as Fast
from tokenizers import models, normalizers, pre_tokenizers, processors

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


@pytest.mark.parametrize("texts", [("a film", "b"), ("", "b"), ("b", ""), ("b",), ("",)])
def test_texts_are_read_back_empty_ones_too(tmp_path: Path, texts: tuple[str, ...]):
    write_tokenizer(tmp_path, "xlm-roberta", "XLMRobertaTokenizer")  # which has two marks between a pair
    tokenizer = Tokenizer(tmp_path, 20)
    assert tokenizer.decode(tokenizer.encode([[text] for text in texts], 16).tokens.tolist()) == texts


# A small unigram, and what SentencePiece's library and transformers 4 make of some texts with it.
SPM = Path(__file__).parent / "spm"


def test_deberta_s_pieces_are_read_from_sentencepiece_s_file_as_its_own_library_does(tmp_path: Path):
    shutil.copytree(SPM, tmp_path / "spm")
    (tmp_path / "spm" / "config.json").write_text('{"model_type": "deberta-v2"}')
    expected = json.loads((SPM / "expected.json").read_text())
    tokenizer = Tokenizer(tmp_path / "spm", 200)
    assert [tokenizer.fast(text)["input_ids"] for text in expected["texts"]] == expected["ids"]
    pair = tokenizer.encode([["a b"], ["c d"]], 32)
    assert pair.tokens.tolist() == expected["pair"]["input_ids"]
    assert pair.token_types.tolist() == expected["pair"]["token_type_ids"]
    assert tokenizer.decode(expected["pair"]["input_ids"]) == ("a b", "c d")
    # Saved as transformers saves it, and read again with its own normalisation.
    tokenizer.fast.backend_tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.fast.save_pretrained(tmp_path / "spm")
    again = Tokenizer(tmp_path / "spm", 200)
    assert again.fast("A  B")["input_ids"] == again.fast("a  b")["input_ids"]


@pytest.mark.parametrize("size", [1, 500, 1790])
def test_a_damaged_file_of_pieces_is_named(size: int, tmp_path: Path):
    (tmp_path / "config.json").write_text('{"model_type": "deberta-v2"}')
    (tmp_path / "spm.model").write_bytes((SPM / "spm.model").read_bytes()[:size])
    with pytest.raises(ValueError, match=r"no usable tokenizer \(spm.model is cut off\)"):
        _ = Tokenizer(tmp_path, 200).fast


def test_rules_that_claim_more_than_the_file_of_pieces_has_are_refused(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"model_type": "deberta-v2"}')
    normalizer = b"\x1a\x06\x12\x04\xff\xff\xff\xff"  # 4 GB of rules, for which the library would make room
    (tmp_path / "spm.model").write_bytes((SPM / "spm.model").read_bytes() + normalizer)
    with pytest.raises(ValueError, match=r"no usable tokenizer \(spm.model is damaged\)"):
        _ = Tokenizer(tmp_path, 200).fast


def test_pieces_alone_are_refused_with_what_is_accepted(tmp_path: Path):
    (tmp_path / "sentencepiece.bpe.model").write_bytes(b"pieces")
    with pytest.raises(ValueError, match="accepted: tokenizer.json, vocab.txt, vocab.json, spm.model$"):
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
    with pytest.raises(ValueError, match="1 labels for 2 examples; accepted: one for each"):
        tokenizer.encode(["one", "two"], 32, labels=[1])
