"""Texts in, predictions out: whatever the order, number and lengths, and from several threads."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import datasets
import jax
import numpy as np
import pandas
import pyarrow
import pytest

import adakron_jax as ak
from adakron_jax import classifier as module
from adakron_jax.adapter import read_card
from adakron_jax.params import flatten
from adakron_jax.problems import Prediction, Regression
from adakron_jax.splice import Method
from tests.support.frames import Polars

TEXTS = [f"{'a fine and long film ' * (i % 7)}no {i}" for i in range(60)]
PAIRS = [(text, other) for text, other in zip(TEXTS[:9], TEXTS[9:18], strict=True)]
SETTINGS: dict[str, dict[str, Any]] = {
    "classification": {"labels": ["neg", "neutral", "pos"]},
    "multilabel": {"labels": ["good", "long"], "problem": "multilabel"},
    "regression": {"labels": 1, "problem": "regression"},
}


def make(folder: Path, tiny: Path, kind: str = "classification", method: Method | None = None, **more: Any) -> Path:
    """An adapter's folder, with values far enough from 0 to decide."""
    method = method or ak.AdaKron((2, 2))
    model, params = ak.from_pretrained(str(tiny), method, **SETTINGS[kind], key=jax.random.key(0))
    trainable, frozen = ak.split_params(params, method)
    rng = np.random.default_rng(0)
    trainable = jax.tree.map(lambda x: x + rng.normal(0, 0.5, x.shape).astype(np.float32), trainable)
    params = ak.merge_params(trainable, frozen)
    ak.save_adapter(folder, model, params, max_length=32, **more)
    return folder


@pytest.fixture(scope="module")
def classifier(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> ak.TextClassifier:
    return ak.TextClassifier.load(make(tmp_path_factory.mktemp("run") / "adapter", tiny).parent)


def alone(classifier: ak.TextClassifier, texts: Sequence[tuple[str, ...]]) -> np.ndarray:
    """The logits of each example in a padded row of its own."""
    encoded = classifier.tokenizer.fast(
        *map(list, zip(*texts, strict=True)),
        truncation="longest_first",
        max_length=32,
        padding="max_length",
        return_token_type_ids=True,
        return_tensors="np",
    )
    inputs = ak.padded(*(encoded[name] for name in ("input_ids", "attention_mask", "token_type_ids")))
    return np.asarray(jax.jit(classifier.model.apply)({"params": classifier.params}, inputs))[:, 0]


def close(ours: Prediction, other: Prediction) -> bool:
    return ours.label == other.label and abs(ours.score - other.score) < 1e-5


def test_predictions_are_those_of_each_text_alone(classifier: ak.TextClassifier):
    predictions = classifier.predict(TEXTS, with_logits=True)
    expected = alone(classifier, [(text,) for text in TEXTS])
    np.testing.assert_allclose([prediction.logits for prediction in predictions], expected, rtol=0, atol=2e-5)
    names = ("neg", "neutral", "pos")
    assert [prediction.label for prediction in predictions] == [names[code] for code in expected.argmax(-1)]
    for prediction in predictions:
        assert tuple(prediction.probabilities) == names
        assert prediction.score == max(prediction.probabilities.values()) == prediction.probabilities[prediction.label]
        assert sum(prediction.probabilities.values()) == pytest.approx(1)


FRAMES = [pandas.DataFrame, pyarrow.table, datasets.Dataset.from_dict, Polars]


@pytest.mark.parametrize("make_frame", FRAMES)
def test_predictions_of_a_frame_are_one_of_its_library(classifier: ak.TextClassifier, make_frame: Any):
    predictions, frame = classifier.predict(TEXTS[:3]), make_frame({"text": TEXTS[:3]})
    predicted = classifier.predict(frame, probabilities=True, with_logits=True)
    assert type(predicted) is type(frame)
    assert list(predicted["prediction"].to_pylist() if make_frame is pyarrow.table else predicted["prediction"]) == [
        prediction.label for prediction in predictions
    ]
    heads = getattr(predicted, "column_names", getattr(predicted, "columns", None))
    shares = [f"probability_{name}" for name in classifier.problem.labels]
    assert list(heads) == ["prediction", "score", *shares, "logits"]


@pytest.mark.parametrize("make_frame", FRAMES)
def test_a_frame_and_its_columns_are_evaluated_as_lists_are(
    classifier: ak.TextClassifier, make_frame: Any, monkeypatch: pytest.MonkeyPatch
):
    labels = ["neg", "pos", "neutral"]
    frame, expected = make_frame({"text": TEXTS[:3], "label": labels}), classifier.evaluate(TEXTS[:3], labels).scores
    assert classifier.evaluate(frame, frame["label"]).scores == expected
    assert classifier.evaluate(frame["text"], labels).scores == expected
    with pytest.raises(ValueError, match="labels are a frame; accepted: one of its columns"):
        classifier.evaluate(frame, pandas.DataFrame({"label": labels}))
    with pytest.raises(ValueError, match="no labels; accepted: one for each text, or a frame with the columns"):
        classifier.evaluate(frame)
    monkeypatch.setattr(classifier, "card", dataclasses.replace(classifier.card, label=("label",)))
    assert classifier.evaluate(frame).scores == expected


def test_predictions_of_pandas_join_their_frame(classifier: ak.TextClassifier):
    frame = pandas.DataFrame({"text": TEXTS[:3]}, index=[5, 3, 8])
    joined = frame.join(classifier.predict(frame))
    assert joined["prediction"].notna().all()


def test_it_prints_what_it_is(classifier: ak.TextClassifier):
    said = repr(classifier)
    assert said.startswith("TextClassifier(adakron on ")
    assert said.endswith(": classification of 3 labels: neg, neutral, pos)")


def test_pairs_are_read_together(classifier: ak.TextClassifier):
    predictions = classifier.predict(PAIRS, with_logits=True)
    expected = alone(classifier, PAIRS)
    np.testing.assert_allclose([prediction.logits for prediction in predictions], expected, rtol=0, atol=2e-5)
    assert close(classifier.predict(PAIRS[0]), predictions[0])
    assert close(classifier.predict([list(PAIRS[0])])[0], predictions[0])


def test_one_text_gives_one_prediction_and_an_iterator_stays_lazy(
    classifier: ak.TextClassifier, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "WINDOW", 4)
    expected, drawn = classifier.predict(TEXTS[:12]), []

    def endless() -> Iterator[str]:
        for i in itertools.count():
            drawn.append(i)
            yield TEXTS[i]

    stream = classifier.predict(endless())
    assert not drawn
    for i, prediction in enumerate(itertools.islice(stream, 12)):
        assert close(prediction, expected[i])
        assert len(drawn) == 4 * (i // 4 + 1)
    assert close(classifier.predict(TEXTS[3]), expected[3])
    assert classifier.predict([]) == []


def test_a_window_holds_no_more_characters_than_it_may(classifier: ak.TextClassifier, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "CHARACTERS", 10)
    windows = list(classifier._windows(iter(["a" * 6, "b" * 6, "c", "d" * 30, "e"])))
    assert [len(columns[0]) for columns in windows] == [2, 2, 1]


def test_threads_get_their_own_answers(classifier: ak.TextClassifier):
    expected = classifier.predict(TEXTS)
    parts = [slice(i, i + 15) for i in range(0, 60, 5)]
    with ThreadPoolExecutor(4) as pool:
        for part, predictions in zip(parts, pool.map(lambda part: classifier.predict(TEXTS[part]), parts), strict=True):
            assert all(close(one, other) for one, other in zip(predictions, expected[part], strict=True))


def test_of_a_multilabel_problem_every_label_that_holds_is_given(tiny: Path, tmp_path: Path):
    classifier = ak.TextClassifier.load(make(tmp_path / "adapter", tiny, "multilabel"))
    for prediction in classifier.predict(TEXTS):
        shares = prediction.probabilities
        assert prediction.label == tuple(name for name, share in shares.items() if share > 0.5)
        assert prediction.score == pytest.approx(min(max(share, 1 - share) for share in shares.values()))


def test_a_regression_answers_in_the_unit_of_its_targets(tiny: Path, tmp_path: Path):
    classifier = ak.TextClassifier.load(make(tmp_path / "adapter", tiny, "regression"))
    (plain,) = classifier.predict(TEXTS[:1], with_logits=True)
    assert plain.logits is not None
    assert plain.score == plain.logits[0]
    assert (plain.label, plain.probabilities) == (None, {})
    classifier.card = dataclasses.replace(classifier.card, problem=Regression(mean=150.0, scale=80.0))
    assert classifier.predict(TEXTS[0]).score == pytest.approx(150 + 80 * plain.score, rel=1e-4)


@pytest.mark.parametrize("kind", list(SETTINGS))
def test_evaluating_on_its_own_predictions_is_perfect(kind: str, tiny: Path, tmp_path: Path):
    classifier = ak.TextClassifier.load(make(tmp_path / "adapter", tiny, kind))
    predictions = classifier.predict(TEXTS)
    labels = [each.score if kind == "regression" else each.label for each in predictions]
    labels = [list(label) if isinstance(label, tuple) else label for label in labels]
    scores = classifier.evaluate(iter(TEXTS), labels).scores
    first = {"classification": "accuracy", "multilabel": "subset_accuracy", "regression": "pearson"}[kind]
    assert scores[first] == pytest.approx(1)


def test_labels_may_be_numpy_s(tiny: Path, tmp_path: Path):
    classifier = ak.TextClassifier.load(make(tmp_path / "adapter", tiny, labels=["0", "1", "2"]))
    codes = np.arange(len(TEXTS)) % 3
    assert classifier.evaluate(TEXTS, codes).scores == classifier.evaluate(TEXTS, list(map(str, codes))).scores
    with pytest.raises(ValueError, match="row 0: label is '3'; accepted: 0, 1, 2"):
        classifier.evaluate(TEXTS[:1], np.array([3]))


def test_a_fused_classifier_predicts_the_same_and_can_be_saved(tiny: Path, tmp_path: Path):
    classifier = ak.TextClassifier.load(make(tmp_path / "adapter", tiny, method=ak.LoRA(r=2)))
    fused = classifier.fuse()
    assert not [path for path in flatten(fused.params) if "@" in path]
    fused.save(tmp_path / "fused")
    again = ak.TextClassifier.load(tmp_path / "fused")
    for texts in zip(classifier.predict(TEXTS), fused.predict(TEXTS), again.predict(TEXTS), strict=True):
        assert close(texts[0], texts[1])
        assert close(texts[1], texts[2])


def test_what_is_saved_again_is_the_same(classifier: ak.TextClassifier, tmp_path: Path):
    classifier.save(tmp_path / "again")
    assert read_card(tmp_path / "again" / "adapter.json") == classifier.card
    assert ak.TextClassifier.load(tmp_path / "again").predict(TEXTS) == classifier.predict(TEXTS)


@pytest.mark.parametrize(
    ("texts", "complaint"),
    [
        (["a", ("b", "c")], r"text 1 is \('b', 'c'\); accepted: texts alone, or pairs of texts throughout"),
        (["a", None], "text 1 is None; accepted: texts alone"),
        ([("a", "b", "c")], r"text 0 is \('a', 'b', 'c'\); accepted: texts alone, or pairs"),
        (["a", "\ud800"], r"text 1 is '\\ud800'; accepted: texts"),
    ],
)
def test_what_is_no_text_is_named(classifier: ak.TextClassifier, texts: list[Any], complaint: str):
    with pytest.raises(ValueError, match=complaint):
        classifier.predict(texts)


def test_as_many_texts_are_read_as_it_was_trained_on(tiny: Path, tmp_path: Path):
    classifier = ak.TextClassifier.load(make(tmp_path / "adapter", tiny, texts=["premise", "hypothesis"]))
    assert classifier.predict(("a", "b"))
    with pytest.raises(ValueError, match=r"1 texts per example; accepted: 2, .* \(premise and hypothesis\)"):
        classifier.predict("a")


def test_labels_that_do_not_go_with_the_texts_are_refused(classifier: ak.TextClassifier):
    with pytest.raises(ValueError, match="2 labels for 1 texts"):
        classifier.evaluate(["a"], ["pos", "neg"])
    with pytest.raises(ValueError, match="labels, row 1: label is 'good'; accepted: neg, neutral, pos"):
        classifier.evaluate(["a", "b"], ["pos", "good"])


def test_where_no_adapter_is_it_is_said(tmp_path: Path):
    with pytest.raises(ValueError, match="no adapter there; accepted: the folder of a finished run, or of an adapter"):
        ak.TextClassifier.load(tmp_path)
