"""Tokens: kinds and codes of tables, labels of tokens, and what an assessment says of entities."""

import json

import numpy as np
import pytest

from adakron_jax import problems
from adakron_jax.data.examples import Examples
from adakron_jax.data.sentences import Sentences
from adakron_jax.data.table import Table
from adakron_jax.entities.pieces import CONTINUES, NONE
from adakron_jax.entities.ragged import Ragged
from adakron_jax.evaluation import assess
from adakron_jax.problems.tokens import Tokens

WORDS = [["Anna", "Li", "of", "Ulm"], ["Ulm"], []]
TAGS = [["B-x", "I-x", "O", "B-y"], ["B-y"], []]
LABELS = ("O", "B-x", "I-x", "B-y", "I-y")


def table(words: list, tags: list) -> Table:
    return Table("a.jsonl", range(1, 1 + len(words)), {"tokens": words, "tags": tags})


def test_lists_of_a_tag_a_word_are_of_tokens():
    problem = problems.infer(table(WORDS, TAGS), ("tags",))
    assert problem == Tokens(LABELS)
    targets = problem.targets(table(WORDS, TAGS), ("tags",))
    assert (targets.values.tolist(), targets.offsets.tolist()) == ([1, 2, 0, 3, 3], [0, 4, 5, 5])
    assert problems.infer(table(["a b", "c"], [["x", "y"], ["x"]]), ("tags",)).name == "multilabel"


def test_lists_of_spans_are_of_tokens():
    spans = [[{"start": 0, "end": 7, "label": "x"}, {"start": 11, "end": 14, "label": "y"}], []]
    rows = table(["Anna Li of Ulm", "none"], spans)
    problem = problems.infer(rows, ("tags",))
    assert problem == Tokens(LABELS)
    assert problem.targets(rows, ("tags",)).values.tolist() == [1, 2, 0, 3, 0]


def test_the_scheme_and_what_was_mended_are_said():
    rows = table([["a", "b"], ["c", "d"]], [["I-x", "O"], ["B-x", "I-x"]])
    assert list(Tokens(LABELS).respelled(rows, ("tags",))) == [
        "note: tags are read as BIO",
        "note: 1 entities begin with I-, and are read as if with B-",
    ]


@pytest.mark.parametrize(
    ("words", "tags", "message"),
    [
        ([["a", "b"]], [["Q-x", "O"]], "^a.jsonl: tags has the tag 'Q-x'; accepted: O, or"),
        ([["a", "b"]], [["O", "O"]], "^a.jsonl: tags has no entity; accepted: at least one$"),
        (
            [["a", "b"], ["c"]],
            [["O", "B-x"], []],
            "^a.jsonl, row 2: tags has 0 tags for 1 words; accepted: one per word$",
        ),
    ],
)
def test_tags_that_say_nothing_are_refused(words: list, tags: list, message: str):
    with pytest.raises(ValueError, match=message):
        problems.infer(table(words, tags), ("tags",))


def test_a_kind_that_is_not_the_problem_s_is_refused_with_its_row():
    with pytest.raises(ValueError, match="^a.jsonl, row 2: tags has the kind 'z'; accepted: x, y$"):
        Tokens(LABELS).targets(table([["a"], ["b"]], [["O"], ["B-z"]]), ("tags",))


def test_the_head_learns_labels_of_codes_and_nothing_where_there_is_none():
    problem = Tokens(("B-x", "I-x", "O"))
    targets = np.array([NONE, 1, CONTINUES, 2, 0, NONE], np.int32)
    assert problem.standardize(targets).tolist() == [NONE, 0, NONE, 1, 2, NONE]


def test_all_pieces_of_a_word_may_learn_its_label():
    targets = np.array([NONE, 1, CONTINUES, 2, CONTINUES, 0, CONTINUES, NONE], np.int32)
    assert Tokens(LABELS, pieces="all").standardize(targets).tolist() == [NONE, 1, 2, 2, 2, 0, 0, NONE]


def test_tags_without_prefixes_may_be_kinds_of_words():
    rows = table([["a", "dog", "house"], ["O", "runs"]], [["DET", "NOUN", "NOUN"], ["I", "VERB"]])
    problem = problems.infer(rows, ("tags",), "tokens", scheme="words")
    assert problem.labels == ("B-DET", "B-I", "B-NOUN", "B-VERB")
    assert list(problem.respelled(rows, ("tags",))) == ["note: tags are read as words"]
    targets = problem.targets(rows, ("tags",))
    assert targets.values.tolist() == [1, 5, 5, 3, 7]
    logits = np.full((5, 4), -4.0, np.float32)
    logits[np.arange(5), [0, 2, 2, 1, 3]] = 4
    assert problem.scores(targets, problem.predict(targets.like(logits)))["entity_f1"] == 1
    with pytest.raises(ValueError, match="tag 'DET'; accepted: .*; scheme words takes each tag as a kind"):
        problems.infer(rows, ("tags",), "tokens")
    with pytest.raises(ValueError, match="^scheme is 'words', and tags has labels of texts; accepted: with tags$"):
        problems.infer(table(["a", "b"], ["x", "y"]), ("tags",), scheme="words")


def test_an_assessment_tells_errors_apart_and_marks_them_in_the_text():
    problem = Tokens(LABELS)
    targets = Ragged(np.array([1, 2, 0, 3, 3], np.int32), np.array([0, 4, 5, 5]))
    guesses = [1, 2, 0, 1, 0]
    logits = np.full((5, 5), -4.0, np.float32)
    logits[np.arange(5), guesses] = [5, 5, 5, 4, 3]
    told = assess(problem, targets, targets.like(logits), WORDS)
    assert told["entity_f1"] == pytest.approx(2 * 1 / (3 + 2))
    assert told.errors == {"right": 1, "kind": 1, "boundary": 0, "both": 0, "missed": 1, "spurious": 0}
    assert [(m.texts, m.target, m.predicted, m.marks) for m in told.mistakes] == [
        (("Anna Li of Ulm",), "y: Ulm", "x: Ulm", ((11, 14, "target"), (11, 14, "predicted"))),
        (("Ulm",), "y: Ulm", "none", ((0, 3, "target"),)),
    ]
    assert told.confused == [("y", "x", 1), ("y", "none", 1)]
    again = type(told).from_json(json.loads(json.dumps(told.to_dict())), problem)
    assert (again.errors, again.mistakes) == (told.errors, told.mistakes)


def test_mistakes_are_marked_in_the_text_as_it_is_given():
    texts = ["New  York City!", "in\tUlm"]
    words = Sentences.of_texts(texts)
    problem, logits = Tokens(LABELS), np.full((6, 5), -4.0, np.float32)
    logits[np.arange(6), [0, 3, 4, 0, 0, 3]] = 3
    targets = Ragged(np.array([3, 4, 4, 0, 0, 0], np.int32), words.offsets)
    told = assess(problem, targets, Ragged(logits, words.offsets, words), texts)
    assert told.errors == {"right": 0, "kind": 0, "boundary": 1, "both": 0, "missed": 0, "spurious": 1}
    assert {(m.texts, m.target, m.predicted, m.marks) for m in told.mistakes} == {
        (("New  York City!",), "y: New  York City", "y: York City", ((0, 14, "target"), (5, 14, "predicted"))),
        (("in\tUlm",), "none", "y: Ulm", ((3, 6, "predicted"),)),
    }


def test_targets_of_examples_are_those_of_their_words():
    labels = np.array([NONE, 1, CONTINUES, NONE, NONE, 3, NONE], np.int32)
    examples = Examples(labels, labels, np.array([0, 4, 7]), labels, 0, rows=np.array([0, 1]))
    targets = Tokens(LABELS).targets_of(examples)
    assert (targets.values.tolist(), targets.offsets.tolist()) == ([1, 3], [0, 1, 2])
