"""Every field of a request is honoured: what is asked for of the logits, and how texts are read."""

import math
from typing import Any

import pytest
from huggingface_hub import InferenceClient, constants

from adakron_jax.bank import AdapterBank
from adakron_jax.problems import Prediction
from tests.serving.conftest import Served


def said(answer: Any) -> dict[str, Any]:
    """A text's answer as label -> score; labels come by falling score."""
    scores = [label["score"] for label in answer]
    assert scores == sorted(scores, reverse=True)
    return {label["label"]: pytest.approx(label["score"], abs=1e-5) for label in answer}


def logits(bank: AdapterBank, name: str, text: Any) -> tuple[Prediction, dict[str, float]]:
    (prediction,) = bank.predict([(name, text)], with_logits=True)
    assert prediction.logits is not None
    return prediction, dict(zip(prediction.probabilities, prediction.logits, strict=False))


@pytest.mark.parametrize("name", ["kron-0", "kron-1", "kron-2"])
def test_the_function_asked_for_is_applied_to_the_logits(served: Served, bank: AdapterBank, name: str) -> None:
    prediction, by_label = logits(bank, name, "one two three")
    total = sum(math.exp(logit) for logit in by_label.values())
    expected = {
        "none": by_label,
        "sigmoid": {label: 1 / (1 + math.exp(-logit)) for label, logit in by_label.items()},
        "softmax": {label: math.exp(logit) / total for label, logit in by_label.items()},
    }
    for function, scores in expected.items():
        answer = served.ask(name, "one two three", parameters={"function_to_apply": function})
        assert said(answer.json()) == scores
    assert said(served.ask(name, "one two three").json()) == dict(prediction.probabilities)


def test_the_hub_s_client_passes_its_parameters(
    served: Served, bank: AdapterBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    client = InferenceClient(f"{served.url}/adapters/kron-1")
    answer = client.text_classification("one two three", top_k=2, function_to_apply="sigmoid")
    _, by_label = logits(bank, "kron-1", "one two three")
    best = sorted(by_label, key=lambda label: -by_label[label])[:2]
    assert [label.label for label in answer] == best
    assert [label.score for label in answer] == pytest.approx([1 / (1 + math.exp(-by_label[label])) for label in best])


def test_a_regression_has_its_number_alone(served: Served) -> None:
    plain, none = (
        served.ask("kron-3", "one", parameters=parameters).json() for parameters in ({}, {"function_to_apply": "none"})
    )
    assert plain == none
    answer = served.ask("kron-3", "one", parameters={"function_to_apply": "softmax"})
    assert answer.status_code == 422
    assert answer.json()["error"] == "function_to_apply is 'softmax'; accepted for a regression: none"


def test_a_text_that_would_be_cut_is_refused_where_that_is_asked_for(served: Served) -> None:
    most = served.client.get("/adapters/lora").json()["max_length"]
    whole, long = "a " * (most - 2), "a " * (most - 1)
    assert served.ask("lora", [whole], parameters={"truncate": False}).status_code == 200
    assert served.ask("lora", [long]).status_code == 200
    answer = served.ask("lora", ["one", long], parameters={"truncate": False})
    assert answer.status_code == 413
    assert answer.json()["error"].startswith(f"text 1 has more than {most} tokens")
    as_tei = served.client.post("/adapters/lora/predict", json={"inputs": long, "truncate": False})
    assert as_tei.status_code == 413


@pytest.mark.parametrize(
    ("inputs", "texts"),
    [
        ("one", ["one"]),
        (["one"], ["one"]),
        (["one", "two"], [("one", "two")]),
        ([["one"], ["two", "three"], ["four"]], ["one", ("two", "three"), "four"]),
    ],
)
def test_inputs_are_read_as_text_embeddings_inference_reads_them(
    served: Served, bank: AdapterBank, inputs: Any, texts: list[Any]
) -> None:
    answer = served.client.post("/adapters/kron-1/predict", json={"inputs": inputs}).json()
    raw = served.client.post("/adapters/kron-1/predict", json={"inputs": inputs, "raw_scores": True}).json()
    batch = isinstance(inputs[0], list)
    for answered, logit, text in zip(answer if batch else [answer], raw if batch else [raw], texts, strict=True):
        prediction, by_label = logits(bank, "kron-1", text)
        assert said(answered) == dict(prediction.probabilities)
        assert said(logit) == by_label


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"inputs": ["a", "b", "c"]}, "inputs: the sequence is of 3 texts; accepted: a text, a pair"),
        ({"inputs": []}, "inputs: the sequence is of 0 texts"),
        ({"inputs": [["a"], []]}, "inputs: sequence 1 is of 0 texts"),
        ({"inputs": [["a"], "b"]}, "inputs: sequence 1 is 'b'"),
        ({"inputs": [["a", None]]}, "inputs: sequence 0 is of null"),
        ({"inputs": None}, "inputs: null; accepted"),
        ({"inputs": "a", "top_k": 1}, "'top_k' is not a field; accepted: inputs, truncate, truncation_direction, raw"),
        ({"inputs": "a", "truncation_direction": "Left"}, "truncation_direction: Input should be 'Right' or 'right'"),
    ],
)
def test_what_it_does_not_read_is_refused(served: Served, body: dict[str, Any], complaint: str) -> None:
    answer = served.client.post("/adapters/lora/predict", json=body)
    assert answer.status_code == 422
    assert complaint in answer.json()["error"]
