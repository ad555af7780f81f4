"""Texts in, entities out: in characters of the text as it is given, whatever its length, and by both decodings."""

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import adakron_jax as ak
from adakron_jax import classifier as module
from adakron_jax.adapter import read_card
from adakron_jax.data.sentences import Sentences
from adakron_jax.entities.decode import DECODES, decode
from adakron_jax.entities.ragged import Ragged
from adakron_jax.entities.spans import Entity
from adakron_jax.params import flatten
from adakron_jax.problems.tokens import Tokens
from adakron_jax.splice import Method
from tests.library.test_classifier import make as make_text_classifier

LABELS = ("O", "B-person", "I-person", "B-place", "I-place")
LENGTH = 24
STRANGE = [
    "Zoe\u0308 met 👩‍👩‍👧 Ana\u00efs at caf\u00e9 N\u00ba 3 \U0001f1e9\U0001f1ea!",
    "\u212bngstr\u00f6m \ufb01ne \u0130stanbul \u4eac\u90fd\u5e02 x\u200dy",
    "  tabs\tand \u00a0 spaces\u2028 here  ",
    "",
    " \n ",
    "[SEP] [MASK] [UNK]",
    "a" * 100_000,
]
TEXTS = [f"{'a fine and long film ' * (i % 12)}no {i}" for i in range(24)] + STRANGE


def make(folder: Path, tiny: Path, method: Method | None = None, **more: Any) -> Path:
    """An adapter's folder, with values far enough from 0 to decide."""
    method = method or ak.AdaKron((2, 2))
    model, params = ak.from_pretrained(str(tiny), method, LABELS, problem="tokens", key=jax.random.key(0))
    trainable, frozen = ak.split_params(params, method)
    rng = np.random.default_rng(0)
    trainable = jax.tree.map(lambda x: x + rng.normal(0, 0.5, x.shape).astype(np.float32), trainable)
    ak.save_adapter(folder, model, ak.merge_params(trainable, frozen), **{"max_length": LENGTH} | more)
    return folder


@pytest.fixture(scope="module")
def folder(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("run") / "adapter", tiny)


@pytest.fixture(scope="module")
def finder(folder: Path) -> ak.TokenClassifier:
    return ak.TokenClassifier.load(folder.parent)


def alone(finder: ak.TokenClassifier, words: list[str]) -> np.ndarray:
    """The logits of a sentence's words, by their first pieces, in a padded row of its own."""
    encoded = finder.tokenizer.fast([words], is_split_into_words=True, padding="max_length", max_length=LENGTH)
    of = np.array(encoded.word_ids(0), dtype=float)
    first = [int(np.flatnonzero(of == word)[0]) for word in range(len(words))]
    inputs = ak.padded(np.array(encoded["input_ids"]), np.array(encoded["attention_mask"]))
    return np.asarray(jax.jit(finder.model.apply)({"params": finder.params}, inputs))[0, first]


def close(ours: list[Entity], others: list[Entity]) -> bool:
    plain = [dataclasses.replace(entity, score=0.0) for entity in ours]
    scores = [(one.score, other.score) for one, other in zip(ours, others, strict=False)]
    return plain == [dataclasses.replace(entity, score=0.0) for entity in others] and all(
        abs(one - other) < 1e-4 for one, other in scores
    )


def test_logits_are_those_of_each_text_alone(finder: ak.TokenClassifier):
    fast = finder.tokenizer.fast
    short = [text for text in TEXTS if text.strip() and len(fast(text)["input_ids"]) <= LENGTH]
    assert len(short) > 5
    logits = finder.logits([short])
    expected = [alone(finder, Sentences.of_texts([text]).words(0)) for text in short]
    np.testing.assert_allclose(logits.values, np.concatenate(expected), rtol=0, atol=2e-5)
    words = [Sentences.of_texts([text]).words(0) for text in short]
    np.testing.assert_allclose(finder.logits([words]).values, logits.values, rtol=0, atol=2e-5)


@pytest.mark.parametrize("how", DECODES)
def test_entities_are_characters_of_the_text_as_it_is_given(finder: ak.TokenClassifier, how: Any):
    predictions = finder.predict(TEXTS, decode=how)
    assert sum(map(len, predictions)) > 30
    for text, entities in zip(TEXTS, predictions, strict=True):
        for entity in entities:
            assert entity.text == text[entity.start : entity.end] == entity.text.strip() != ""
            assert entity.label in ("person", "place")
            assert 0 < entity.score <= 1
        ends = [bound for entity in entities for bound in (entity.start, entity.end)]
        assert ends == sorted(ends)


def test_a_mark_or_a_joiner_is_never_cut_from_its_letter(finder: ak.TokenClassifier):
    bounds = {bound for entity in finder.predict(STRANGE[0]) for bound in (entity.start, entity.end)}
    inside = {STRANGE[0].index("\u0308"), *(i for i, letter in enumerate(STRANGE[0]) if letter == "\u200d")}
    assert not bounds & inside


def test_of_a_long_text_nothing_is_lost(finder: ak.TokenClassifier):
    text = " ".join(f"film{i % 7}" for i in range(400))
    logits = finder.logits([[text]])
    assert logits.offsets.tolist() == [0, 400]
    assert len(finder.encode([[text]])) > 10
    # In the first window, a word has the logits that those of the window alone have.
    pieces = np.cumsum([len(ids) for ids in finder.tokenizer.fast(text.split(), add_special_tokens=False)["input_ids"]])
    window = text.split()[: int((pieces <= LENGTH - 2).sum())]
    first = len(window) * 3 // 4
    np.testing.assert_allclose(logits.values[:first], alone(finder, window)[:first], rtol=0, atol=2e-5)
    assert finder.predict(text)[-1].end > len(text) - 200


def test_one_text_gives_one_list_and_an_iterator_stays_lazy(
    finder: ak.TokenClassifier, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "WINDOW", 4)
    expected, drawn = finder.predict(TEXTS[:8]), []

    def endless() -> Iterator[str]:
        for i in itertools.count():
            drawn.append(i)
            yield TEXTS[i]

    stream = finder.predict(endless())
    assert not drawn
    for i, prediction in enumerate(itertools.islice(stream, 8)):
        assert close(prediction, expected[i])
        assert len(drawn) == 4 * (i // 4 + 1)
    assert close(finder.predict(TEXTS[5]), expected[5])
    assert finder.predict([]) == finder.predict("") == []


def test_pieces_are_joined_as_others_do(finder: ak.TokenClassifier):
    """As Hugging Face's aggregation_strategy="simple": a kind goes on until another one, or a tag that begins it."""
    tags = ["B-person", "I-person", "I-place", "B-place", "O", "I-person"]
    sentences = Sentences.of_words([list("abcdef")])
    logits = np.log(np.full((6, 5), 0.05) + 0.75 * np.eye(5)[[LABELS.index(tag) for tag in tags]])
    problem = Tokens(LABELS, decode="argmax")
    (entities,) = problem.predictions(Ragged(logits, sentences.offsets, sentences))
    assert [(entity.label, entity.text) for entity in entities] == [
        ("person", "a b"),
        ("place", "c"),
        ("place", "d"),
        ("person", "f"),
    ]
    assert entities[0].score == pytest.approx(0.8)


def test_the_decoding_may_be_chosen(finder: ak.TokenClassifier):
    logits = finder.logits([TEXTS])
    for how in ("viterbi", "argmax"):
        codes, _ = decode(logits.values, logits.offsets, Tokens(LABELS).tags, how)
        assert sum(map(len, finder.predict(TEXTS, decode=how))) == (codes % 2).sum()
    assert finder.predict(TEXTS, decode="viterbi") != finder.predict(TEXTS, decode="argmax")
    with pytest.raises(ValueError, match="^decode is 'beam'; accepted: viterbi, argmax$"):
        finder.predict(TEXTS, decode="beam")  # pyright: ignore[reportArgumentType, reportCallIssue]


@pytest.mark.parametrize("how", DECODES)
def test_evaluating_on_its_own_predictions_is_perfect(
    finder: ak.TokenClassifier, how: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "WINDOW", 10)
    spans = [[entity.to_dict() for entity in entities] for entities in finder.predict(TEXTS, decode=how)]
    told = finder.evaluate(iter(TEXTS), spans, decode=how)
    assert (told.examples, told["entity_f1"], told["token_accuracy"]) == (len(TEXTS), 1, 1)


def test_tags_of_words_are_held_against_predictions(finder: ak.TokenClassifier):
    told = finder.evaluate([["Anna", "lives"], ["in", "Ulm"]], [["B-person", "O"], ["O", "B-place"]])
    assert 0 <= told["entity_f1"] <= 1
    with pytest.raises(ValueError, match="labels, row 1: label has 1 tags for 2 words; accepted: one per word"):
        finder.evaluate([["a"], ["b", "c"]], [["O"], ["O"]])
    with pytest.raises(ValueError, match="labels, row 0: label has the kind 'time'; accepted: person, place"):
        finder.evaluate([["a"]], [["B-time"]])
    with pytest.raises(ValueError, match="2 labels for 1 texts"):
        finder.evaluate(["a"], [[], []])


def test_what_is_saved_again_or_fused_predicts_the_same(tiny: Path, tmp_path: Path):
    finder = ak.TokenClassifier.load(make(tmp_path / "adapter", tiny, ak.LoRA(r=2)))
    finder.save(tmp_path / "again")
    assert read_card(tmp_path / "again" / "adapter.json") == finder.card
    assert ak.TokenClassifier.load(tmp_path / "again").predict(TEXTS) == finder.predict(TEXTS)
    fused = finder.fuse()
    assert not [path for path in flatten(fused.params) if "@" in path]
    fused.save(tmp_path / "fused")
    for one, other in zip(finder.predict(TEXTS), ak.load(tmp_path / "fused").predict(TEXTS), strict=True):
        assert close(one, other)  # pyright: ignore[reportArgumentType]


def test_a_frame_s_column_is_the_adapter_s(tiny: Path, tmp_path: Path, finder: ak.TokenClassifier):
    polars = pytest.importorskip("polars")
    named = ak.TokenClassifier.load(make(tmp_path / "adapter", tiny, texts=["tokens"]))
    words = [["Anna", "lives"], ["in", "Ulm", "."]]
    assert named.predict(polars.DataFrame({"id": [1, 2], "tokens": words})) == finder.predict(words)
    with pytest.raises(ValueError, match="has no column 'tokens'; available: 'text'"):
        named.predict(polars.DataFrame({"text": ["a"]}))


def test_each_kind_of_adapter_has_its_classifier(folder: Path, tiny: Path, tmp_path: Path):
    other = make_text_classifier(tmp_path / "adapter", tiny)
    assert isinstance(ak.load(folder), ak.TokenClassifier)
    assert isinstance(ak.load(other), ak.TextClassifier)
    with pytest.raises(
        ValueError, match="predicts tokens of 2 kinds of entity: person, place; accepted: .* labels texts"
    ):
        ak.TextClassifier.load(folder)
    with pytest.raises(ValueError, match="predicts classification of 3 labels: neg, .*; accepted: .* finds entities"):
        ak.TokenClassifier.load(other)


@pytest.mark.parametrize(
    ("texts", "complaint"),
    [
        (["a", ["b"]], r"text 1 is \['b'\]; accepted: texts alone, or lists of words throughout"),
        ([("a", "b")], r"text 0 is \('a', 'b'\); accepted: texts alone, or lists of words"),
        ([["a", " "]], r"text 0 is \['a', ' '\]; accepted: texts"),
        (["a", "\ud800"], r"text 1 is '\\ud800'; accepted: texts"),
        (3, "texts are 3; accepted: a text"),
    ],
)
def test_what_is_no_text_is_named(finder: ak.TokenClassifier, texts: Any, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        finder.predict(texts)


def test_what_a_model_of_kinds_is_saved_as_is_what_is_loaded(tiny: Path, tmp_path: Path):
    model, params = ak.from_pretrained(str(tiny), ak.LoRA(r=2), ["x", "y"], problem="tokens", key=jax.random.key(0))
    ak.save_adapter(tmp_path / "a", model, params)
    loaded, again = ak.load_adapter(tmp_path / "a")
    assert (loaded, loaded.card) == (model, model.card)
    assert loaded.card.problem == Tokens(("O", "B-x", "I-x", "B-y", "I-y"))
    jax.tree.map(np.testing.assert_array_equal, again, params)
    with pytest.raises(
        ValueError, match="^labels is 2; accepted: a list of kinds of entity, or of tags, of problem tokens$"
    ):
        ak.from_pretrained(str(tiny), ak.LoRA(r=2), problem="tokens", key=jax.random.key(0))
    with pytest.raises(ValueError, match="pooling"):
        ak.from_pretrained(str(tiny), ak.LoRA(r=2), ["x"], problem="tokens", pooling="mean", key=jax.random.key(0))
