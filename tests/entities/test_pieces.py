"""Words as pieces: where labels stand, and that nothing of a long sentence is lost."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Fast
from tokenizers import models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from adakron_jax.data.examples import Examples
from adakron_jax.data.sentences import Sentences
from adakron_jax.entities.pieces import CONTINUES, NONE, encode_words, on_all_pieces, word_offsets
from adakron_jax.tokenizer import Tokenizer

LETTERS = "abcdefgh"
SPECIAL = {"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]", "pad_token": "[PAD]"}


def write_tokenizer(folder: Path, byte_level: bool = False, nested: bool = False) -> Tokenizer:
    """A letter is a piece: of WordPiece `##b` within a word, of byte-level BPE `Ġ` before each."""
    pieces = [*SPECIAL.values(), *LETTERS, *(f"##{letter}" for letter in LETTERS), "Ġ"]
    vocabulary = {piece: code for code, piece in enumerate(pieces)}
    if byte_level:
        fast = Fast(models.BPE(vocabulary, []))
        before = pre_tokenizers.ByteLevel(add_prefix_space=False)
        fast.pre_tokenizer = pre_tokenizers.Sequence([before]) if nested else before  # pyright: ignore
    else:
        fast = Fast(models.WordPiece(vocabulary, unk_token="[UNK]"))  # pyright: ignore
        fast.normalizer = normalizers.BertNormalizer()  # pyright: ignore
        fast.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # pyright: ignore
    fast.post_processor = processors.TemplateProcessing(  # pyright: ignore
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 1)]
    )
    PreTrainedTokenizerFast(tokenizer_object=fast, **SPECIAL).save_pretrained(folder)
    return Tokenizer(folder, len(vocabulary))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return write_tokenizer(tmp_path_factory.mktemp("letters"))


def pieces(tokenizer: Tokenizer, examples: Examples) -> list[str]:
    return [
        " ".join(tokenizer.fast.convert_ids_to_tokens(part.tolist()))
        for part in np.split(examples.tokens, examples.offsets[1:-1])
    ]


def test_a_label_stands_on_the_first_piece_of_its_word(tokenizer: Tokenizer):
    sentences = Sentences.of_words([["abc", "d"], [], ["É", "\ufe0f", "a"]])
    examples = encode_words(tokenizer, sentences, 16, np.array([3, 0, 1, 2, 0], np.int32))
    assert pieces(tokenizer, examples) == ["[CLS] a ##b ##c d [SEP]", "[CLS] [SEP]", "[CLS] e [UNK] a [SEP]"]
    assert examples.labels.tolist() == [NONE, 3, -1, -1, 0, NONE, NONE, NONE, NONE, 1, 2, 0, NONE]
    assert examples.rows.tolist() == [0, 1, 2]
    assert (examples.empty_texts, examples.cut) == (1, 0)
    assert word_offsets(examples).tolist() == [0, 2, 2, 5]


@pytest.mark.parametrize("nested", [False, True])
def test_byte_level_pieces_have_a_space_before_every_word(tmp_path: Path, nested: bool):
    tokenizer = write_tokenizer(tmp_path, byte_level=True, nested=nested)
    examples = encode_words(tokenizer, Sentences.of_words([["ab", "c"]]), 16)
    assert pieces(tokenizer, examples) == ["[CLS] Ġ a b Ġ c [SEP]"]
    assert examples.labels.tolist() == [NONE, 0, CONTINUES, CONTINUES, 0, CONTINUES, NONE]


def test_pieces_are_those_of_transformers(tokenizer: Tokenizer):
    words = ["abc", "x", "d", "É", "e.f"]
    examples = encode_words(tokenizer, Sentences.of_words([words]), 32)
    encoded = tokenizer.fast(words, is_split_into_words=True)
    assert examples.tokens.tolist() == encoded["input_ids"]
    ids = encoded.word_ids()
    first = [word is not None and word != before for word, before in zip(ids, [None, *ids], strict=False)]
    assert (examples.labels == 0).tolist() == first


def test_a_word_s_further_pieces_can_have_labels_that_continue_its_own(tokenizer: Tokenizer):
    sentences = Sentences.of_words([["ab", "cd", "ef"]])
    labels = encode_words(tokenizer, sentences, 16, np.array([3, 4, 0], np.int32)).labels
    assert on_all_pieces(labels).tolist() == [NONE, 3, 4, 4, 4, 0, 0, NONE]


def test_a_long_sentence_becomes_windows_of_whole_words_that_overlap(tokenizer: Tokenizer):
    sentences = Sentences.of_words([["ab", "c", "de", "f", "gh", "a", "b"], ["c"]])
    examples = encode_words(tokenizer, sentences, 8, np.arange(8, dtype=np.int32))
    assert pieces(tokenizer, examples) == ["[CLS] a ##b c d ##e f [SEP]", "[CLS] f g ##h a b [SEP]", "[CLS] c [SEP]"]
    first, second, third = np.split(examples.labels, examples.offsets[1:-1])
    assert first.tolist() == [NONE, 0, -1, 1, 2, -1, NONE, NONE]
    assert second.tolist() == [NONE, 3, 4, -1, 5, 6, NONE]
    assert third.tolist() == [NONE, 7, NONE]
    assert (examples.rows.tolist(), examples.cut) == ([0, 0, 1], 1)


@given(st.lists(st.lists(st.integers(1, 12), max_size=12), min_size=1, max_size=6), st.integers(3, 12))
def test_every_word_has_its_label_once_and_in_order(tokenizer: Tokenizer, lengths: list[list[int]], max_length: int):
    sentences = Sentences.of_words([[LETTERS[i % 8] * i for i in words] for words in lengths])
    codes = np.arange(len(sentences.bounds), dtype=np.int32)
    examples = encode_words(tokenizer, sentences, max_length, codes)
    assert examples.labels[examples.labels >= 0].tolist() == codes.tolist()
    assert examples.lengths.max() <= max_length
    assert word_offsets(examples).tolist() == sentences.offsets.tolist()
    assert np.unique(examples.rows).tolist() == list(range(len(lengths)))
    assert examples.cut == np.count_nonzero(np.bincount(examples.rows) > 1)
    assert examples.count == len(lengths)
    taken = examples.take(np.arange(len(lengths))[::-1])
    assert np.sort(taken.labels).tolist() == np.sort(examples.labels).tolist()
    assert examples.first(1).labels.tolist() == examples.labels[: examples.offsets[(examples.rows == 0).sum()]].tolist()


def test_a_word_of_very_many_pieces_keeps_the_first_of_them(tmp_path: Path):
    tokenizer = write_tokenizer(tmp_path, byte_level=True)
    sentences = Sentences.of_words([["a" * 100_000, "b"]])
    examples = encode_words(tokenizer, sentences, 16, np.array([1, 2], np.int32))
    assert examples.labels[examples.labels >= 0].tolist() == [1, 2]
    assert examples.lengths.tolist() == [16, 4]
