"""The paper's scores beside a run's, where the run is one of the paper's."""

import dataclasses

import pytest

from adakron_jax.architectures.config import NAMED
from tests.options.conftest import Parse
from tests.support.results import result_of
from train.options.recipes import paper_scores
from train.output.screen import advice, show_result


def test_the_paper_s_scores_are_those_of_its_encoders_with_its_method(bert: Parse, roberta: Parse):
    assert paper_scores(bert(), NAMED["bert-base"]) == {"accuracy": 73.8}
    assert paper_scores(roberta(task="cola"), NAMED["roberta-large"]) == {"matthews": 69.2}


@pytest.mark.parametrize(
    ("flags", "examples", "shown", "told"),
    [
        ([], 2490, True, ""),
        (["--limit-eval", "100"], 2490, False, ""),
        (["--limit-train", "100"], 100, False, "low-resource: 100 training examples; GLUE has 2,490"),
    ],
)
def test_the_paper_s_scores_stand_beside_those_of_whole_sets_alone(
    bert: Parse, capsys: pytest.CaptureFixture[str], flags: list[str], examples: int, shown: bool, told: str
):
    config = bert(*flags)
    result = result_of(config, [{"epoch": 1, "step": 1, "accuracy": 0.7}], train_examples=examples)
    show_result(result, config, NAMED["bert-base"])
    said = capsys.readouterr().out
    assert ("73.8" in said) == shown
    assert told in said
    assert ("low-resource" in said) == bool(told)


@pytest.mark.parametrize(
    ("loss", "said"),
    [(2.0, "a lower learning rate"), (0.69, "learned nothing yet"), (0.1, "learned the training rows")],
)
def test_the_advice_for_a_collapsed_run_looks_at_its_loss(loss: float, said: str):
    assert said in advice(loss, 0.693)


def test_the_paper_has_no_scores_of_another_model_method_or_task(bert: Parse, roberta: Parse):
    assert paper_scores(bert("--method", "full"), NAMED["bert-base"]) == {}
    assert paper_scores(bert("--method.factors", "8", "6"), NAMED["bert-base"]) == {}
    assert paper_scores(roberta("--method.factors", "12", "4"), NAMED["roberta-large"]) == {}
    assert paper_scores(bert(task="wnli"), NAMED["bert-base"]) == {}
    assert paper_scores(bert(), dataclasses.replace(NAMED["bert-base"], num_layers=6)) == {}
