"""Adapters that find entities, served beside those that label texts."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import InferenceClient, constants

from adakron_jax import adapter
from adakron_jax.entities.spans import replaced
from adakron_jax.methods import LoRA
from adakron_jax.token_classifier import TokenClassifier
from tests.bank.test_bank import TAGS, write_adapter
from tests.serving.conftest import TOKENS, Served, serving, wait_for, write_tagger

TEXT = "Anna went to Ulm with Bo"


@pytest.fixture(scope="module")
def served(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("adapters")
    write_tagger(folder / "tags", tiny, LoRA(r=2))
    write_adapter(folder / "labels", tiny, LoRA(r=2), max_length=TOKENS)
    with serving(folder, tiny) as server:
        yield server


def expected(served: Served, text: str) -> list[dict[str, Any]]:
    entities = TokenClassifier.load(served.folder / "tags").predict(text)
    assert entities
    return [
        {
            "entity_group": x.label,
            "score": pytest.approx(x.score, abs=1e-5),
            "word": x.text,
            "start": x.start,
            "end": x.end,
        }
        for x in entities
    ]


def test_the_hub_s_own_client_is_given_entities(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    client, right = InferenceClient(f"{served.url}/adapters/tags"), expected(served, TEXT)
    for said in (client.token_classification(TEXT), client.token_classification(TEXT, aggregation_strategy="simple")):
        assert [{name: one[name] for name in right[0]} for one in said] == right
    text = TEXT
    for entity in reversed(client.token_classification(TEXT)):  # as docs/tokens.md redacts
        text = f"{text[: entity.start]}[{entity.entity_group}]{text[entity.end :]}"
    assert text == replaced(TEXT, TokenClassifier.load(served.folder / "tags").predict(TEXT))
    left_out = right[0]["entity_group"]
    said = client.token_classification(TEXT, ignore_labels=[left_out])
    assert [one.word for one in said] == [one["word"] for one in right if one["entity_group"] != left_out]


def test_entities_of_one_text_or_of_several(served: Served) -> None:
    long = f"{TEXT} " * 10
    assert served.ask("tags", TEXT).json() == expected(served, TEXT)
    assert served.ask("tags", [TEXT, "", long]).json() == [expected(served, TEXT), [], expected(served, long)]
    assert served.ask("tags", ["a" * 10_000, " \n", "\u200b"]).status_code == 200
    assert (
        served.ask("tags", "a" * 100_000).json()["error"].startswith("text 0 has 100000 characters; accepted: at most")
    )
    at = "/adapters/tags"
    assert served.client.post(at, json={"inputs": TEXT}).json() == expected(served, TEXT)
    assert served.client.post(at, json={"inputs": [TEXT]}).json() == [expected(served, TEXT)]
    assert {one["label"] for one in served.ask("labels", TEXT).json()} == {"no", "yes"}
    listed = served.client.get(at).json()
    assert (listed["problem"], listed["labels"]) == ("tokens", list(TAGS.labels))


@pytest.mark.parametrize(
    ("name", "inputs", "parameters", "complaint"),
    [
        ("tags", TEXT, {"top_k": 1}, "top_k is 1; accepted for a tokens adapter: aggregation_strategy, ignore_labels"),
        ("tags", TEXT, {"function_to_apply": "none"}, "function_to_apply is 'none'; accepted for a tokens adapter"),
        ("tags", TEXT, {"aggregation_strategy": "max"}, "aggregation_strategy: Input should be 'simple'"),
        ("tags", TEXT, {"stride": 3}, "'stride' is not a field; accepted: top_k"),
        ("tags", [["a", "b"]], {}, "text 0 is a pair; accepted for a tokens adapter: single texts"),
        ("labels", TEXT, {"ignore_labels": ["yes"]}, "ignore_labels is ['yes']; accepted for a classification adapter"),
    ],
)
def test_what_says_nothing_of_such_an_adapter_is_refused(
    served: Served, name: str, inputs: Any, parameters: dict[str, Any], complaint: str
) -> None:
    answer = served.ask(name, inputs, parameters=parameters)
    assert answer.status_code == 422
    assert complaint in answer.json()["error"]


def test_an_adapter_whose_numbers_are_not_finite_is_not_served(served: Served) -> None:
    tree, card = adapter.load(served.folder / "tags")
    tree["classifier"]["bias"] = np.full_like(tree["classifier"]["bias"], np.nan)
    adapter.save(served.folder.parent / "spoilt", tree, card)
    served.put("spoilt", served.folder.parent / "spoilt")
    wait_for(lambda: "spoilt" in served.engine.folders.entries)
    answer = served.ask("spoilt", TEXT)
    assert answer.status_code == 404
    assert "classifier/bias: not finite; accepted: numbers" in answer.json()["error"]
    shutil.rmtree(served.folder / "spoilt")
