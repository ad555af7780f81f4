"""An assessment as a page and on a terminal: sound markup, every label, and nothing that a file could smuggle in."""

import json
import re

import numpy as np
import pytest

from adakron_jax.data.sentences import Sentences
from adakron_jax.entities.ragged import Ragged
from adakron_jax.evaluation import page, terminal
from adakron_jax.evaluation.assessment import Assessment, assess
from adakron_jax.evaluation.plots import DRAWN
from adakron_jax.problems import make
from tests.evaluation.test_assessment import classified, numbers, several
from tests.support.wellformed import Wellformed

HOSTILE = ("<script>alert(1)</script>", "\x1b[31mred\u202etxt", "[bold]{{ 7 * 7 }}[/bold]", "日本語 :smile:")


def many(labels: int) -> Assessment:
    random = np.random.default_rng(0)
    targets = random.integers(labels, size=500)
    names = tuple(f"label number {code}" for code in range(labels))
    told = random.normal(size=(500, labels)) + 4 * np.eye(labels)[targets]
    return assess(make("classification", names), targets, told, ["a text"] * 500)


def hostile() -> Assessment:
    told = np.log(np.full((4, 4), 0.2) + 0.2 * np.eye(4)).astype(np.float32)
    return assess(make("classification", HOSTILE), np.array([1, 2, 3, 0]), told, [HOSTILE] * 4)


def entities() -> Assessment:
    words = Sentences.of_texts(["<b>Anna</b> Li [of] Ulm", "x " * 900 + "Zoe", "Ulm"])
    logits = np.full((len(words.bounds), 3), -4.0, np.float32)
    logits[:, 0] = 0
    targets = np.zeros(len(logits), np.int32)
    targets[[3, 8, -2]], targets[9] = 1, 0
    targets[4:8], logits[4, 1], logits[5, 2], logits[-1, 1] = 0, 5, 5, 4
    problem = make("tokens", ("O", "B-person", "I-person"))
    return assess(problem, Ragged(targets, words.offsets), Ragged(logits, words.offsets, words), words.texts)


@pytest.mark.parametrize("made", [classified, several, numbers, hostile, entities, lambda: many(77), lambda: many(200)])
def test_a_page_is_sound_and_needs_nothing_else(made):
    text = page.page("runs/reviews on reviews.csv", made())
    read = Wellformed(text)
    assert len(read.ids) == len(set(read.ids))
    assert {name for name in read.references if name.startswith("#")} <= {f"#{name}" for name in read.ids}
    assert {"script", "iframe", "object"}.isdisjoint(read.tags)
    assert all(name.startswith(("#", "data:")) for name in read.references)


def test_every_label_of_seventy_seven_is_in_the_table_and_the_confused_are_in_the_matrix():
    assessed = many(77)
    text = page.page("77", assessed)
    drawn = [name for code in range(77) if f">{(name := f'label number {code}')}</text>" in text]
    assert len(drawn) == DRAWN
    assert {label for target, predicted, _ in assessed.confused[: DRAWN // 3] for label in (target, predicted)} <= set(
        drawn
    )
    assert "of the classes confused most often" in text
    for code in range(77):
        assert f'<th scope="row" data-head="label">label number {code}</th>' in text


def test_of_three_thousand_labels_all_that_is_written_is_small():
    assert len(json.dumps(many(3000).to_dict())) < 2**20


def test_of_few_labels_the_matrix_holds_the_counts():
    assert re.findall(r">(\d+)</text>", page.matrix(classified(), "x")) == ["1", "1", "1", "1"]


def test_what_comes_from_files_is_text_on_a_page():
    text = page.page("\x1b[31m<b>name</b>", hostile())
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\\x1b[31m&lt;b&gt;name&lt;/b&gt;" in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "{{ 7 * 7 }}" in text


def test_a_terminal_shows_scores_labels_confusions_and_mistakes(capsys: pytest.CaptureFixture[str]):
    terminal.show("run on data", classified())
    shown = capsys.readouterr().out
    assert "run on data: 4 examples, 3 labels" in shown
    assert re.search(r"accuracy +50\.00 +0\.00 to 100\.00", shown)
    assert re.search(r"b +50\.0 +100\.0 +66\.7 +1", shown)
    assert re.search(r"0\.9 +c +a +v", shown)


def test_of_entities_errors_are_told_apart_and_mistakes_marked(capsys: pytest.CaptureFixture[str]):
    assessed = entities()
    terminal.show("run on data", assessed)
    shown, text = capsys.readouterr().out, page.page("run on data", assessed)
    for what in ("kind +precision +recall +F1 +entities", "missed +3", "predicted where there is none +2"):
        assert re.search(what, shown)
        assert what.split(" +")[0] in text
    assert "{Ulm}" in shown
    assert "…  x x x x x x x" in shown
    assert '<mark class="predicted">{Ulm}</mark>' in text
    assert "&lt;b&gt;" in text


def test_a_text_is_cut_around_what_is_marked():
    text = "ab" * 300
    parts = page.pieces(text, ((400, 404, "target"), (402, 406, "predicted")), 40)
    assert "".join(piece for piece, _ in parts) == f"… {text[390:400]}[ab{{ab]ab}}{text[406:430]} …"
    assert [marks for _, marks in parts if marks] == ["target", "target predicted", "predicted"]
    assert page.pieces("ab", ()) == [("ab", "")]


def test_of_many_labels_a_terminal_shows_the_worst_and_the_most_confused(capsys: pytest.CaptureFixture[str]):
    assessed = many(77)
    terminal.show("many", assessed)
    shown = capsys.readouterr().out
    assert "the 20 worst labels" in shown
    target, predicted, count = assessed.confused[0]
    assert re.search(rf"{target} +{predicted} +{count}", shown)


def test_errors_are_shown_in_their_unit(capsys: pytest.CaptureFixture[str]):
    terminal.show("numbers", numbers())
    assert re.search(r"MAE +0\.3333 ", capsys.readouterr().out)


def test_what_comes_from_files_cannot_steer_a_terminal(capsys: pytest.CaptureFixture[str]):
    terminal.show("\x1b[31mname", hostile())
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\\x1b[31mname" in shown
    assert "[bold]{{ 7 * 7 }}[/bold]" in shown
    assert ":smile:" in shown
