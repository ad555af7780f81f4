"""The server as its clients see it."""

import asyncio
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import InferenceClient, constants

from adakron_jax.bank import AdapterBank
from adakron_jax.serving.engine import make_engine
from tests.serving.conftest import Served, serving, wait_for

JSON = {"Content-Type": "application/json"}
TEXTS = ["one two three", "four", "five six " * 5]


def expected(bank: AdapterBank, name: str, texts: list[Any]) -> list[list[dict[str, Any]]]:
    """What the server is to say: labels by falling probability, or a regression's number."""
    said = []
    for prediction in bank.predict([(name, text) for text in texts]):
        pairs = sorted(prediction.probabilities.items(), key=lambda pair: -pair[1])
        said.append([{"label": label, "score": score} for label, score in pairs or [("LABEL_0", prediction.score)]])
    return said


def same(found: Any, expected: Any) -> bool:
    """Whether labels are equal, and scores to 1e-5."""
    return len(found) == len(expected) and all(
        [one["label"] for one in left] == [one["label"] for one in right]
        and all(abs(x["score"] - y["score"]) < 1e-5 for x, y in zip(left, right, strict=True))
        for left, right in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize("name", ["kron-0", "kron-1", "kron-2", "kron-3", "lora"])
def test_texts_are_answered_by_the_adapter_named(served: Served, bank: AdapterBank, name: str) -> None:
    answer = served.ask(name, TEXTS)
    assert answer.status_code == 200
    assert same(answer.json(), expected(bank, name, TEXTS))
    assert same([served.ask(name, TEXTS[0]).json()], expected(bank, name, TEXTS[:1]))
    pair = served.ask(name, [["four", "five"]]).json()
    assert same(pair, expected(bank, name, [("four", "five")]))
    assert served.ask(name, TEXTS, parameters={"top_k": 1}).json() == [one[:1] for one in answer.json()]


def test_the_hub_s_own_client_is_a_client(served: Served, bank: AdapterBank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    found = InferenceClient(f"{served.url}/adapters/kron-1").text_classification(TEXTS[0])
    assert same([[{"label": one.label, "score": one.score} for one in found]], expected(bank, "kron-1", TEXTS[:1]))


def test_it_describes_itself(served: Served, tiny: Path) -> None:
    listed = {one["name"]: one for one in served.client.get("/adapters").json()}
    assert sorted(listed) == ["kron-0", "kron-1", "kron-2", "kron-3", "lora"]
    assert listed["kron-2"]["problem"] == "multilabel"
    assert listed["kron-2"]["labels"] == ["red", "green", "blue"]
    paths = served.client.get("/openapi.json").json()["paths"]
    assert set(paths) == {
        "/predict",
        "/adapters",
        "/adapters/{name}",
        "/adapters/{name}/predict",
        "/health",
        "/info",
        "/metrics",
    }
    assert "swagger" in served.client.get("/docs").text
    assert served.client.get("/health").json() == {"status": "ready"}
    assert (served.client.head("/health").status_code, served.client.head("/health").content) == (200, b"")
    assert served.client.get("/adapters/kron-2").json() == listed["kron-2"]
    info = served.client.get("/info").json()
    assert (info["adapters"], info["refused"], info["max_client_batch_size"]) == (5, 0, 8)
    assert info["model_id"] == tiny.name


@pytest.mark.parametrize(
    ("body", "status", "complaint"),
    [
        ({"inputs": "x", "adapter": "kron_0"}, 404, "adapter is 'kron_0'; accepted: kron-0"),
        ({"inputs": "x", "adapter": "zzz"}, 404, "adapter is 'zzz'; accepted: the 5 that GET /adapters lists"),
        ({"inputs": "x"}, 422, "adapter: Field required"),
        ({"inputs": 3, "adapter": "lora"}, 422, "inputs: 3; accepted: a text, a list of texts, or a list of pairs"),
        ({"inputs": None, "adapter": "lora"}, 422, "inputs: null; accepted: a text"),
        ({"inputs": {"text": "a"}, "adapter": "lora"}, 422, "inputs: an object; accepted: a text"),
        ({"inputs": ["x", None], "adapter": "lora"}, 422, "inputs: text 1 is null; accepted"),
        ({"inputs": ["x", True], "adapter": "lora"}, 422, "inputs: text 1 is true; accepted"),
        ({"inputs": ["x", 1.5], "adapter": "lora"}, 422, "inputs: text 1 is 1.5; accepted"),
        ({"inputs": [["a", "b"], "c"], "adapter": "lora"}, 422, "inputs: text 1 is 'c' among pairs; accepted"),
        ({"inputs": [["a", "b", "c"]], "adapter": "lora"}, 422, "inputs: pair 0 holds 3 texts; accepted"),
        ({"inputs": [["a", None]], "adapter": "lora"}, 422, "inputs: pair 0 holds null; accepted"),
        ({"inputs": [], "adapter": "lora"}, 422, "inputs are 0 texts; accepted: 1 to 8"),
        ({"inputs": ["x"] * 9, "adapter": "lora"}, 413, "inputs are 9 texts; accepted: 1 to 8"),
        ({"inputs": ["x", "y" * 501], "adapter": "lora"}, 413, "text 1 has 501 characters; accepted: at most 500"),
        ({"inputs": "y" * 20_000, "adapter": "lora"}, 413, "the body is too large; accepted: 10000 bytes at most"),
        (
            {"inputs": "x", "adapter": "lora", "parameters": {"top": 1}},
            422,
            "parameters: 'top' is not a field; accepted: top_k, function_to_apply, truncate",
        ),
        *(
            (
                {"inputs": "x", "adapter": "lora", field: 1},
                422,
                f"body: {field!r} is not a field; accepted: inputs, parameters, adapter",
            )
            for field in ("raw_scores", "truncate", "top_k", "function_to_apply", "options")
        ),
    ],
)
def test_a_bad_request_is_told_why_in_one_line(
    served: Served, body: dict[str, Any], status: int, complaint: str
) -> None:
    answer = served.client.post("/predict", json=body)
    assert answer.status_code == status
    assert complaint in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


def test_what_is_no_json_or_of_no_size_is_refused(served: Served) -> None:
    broken = served.client.post("/predict", content=b'{"inputs": ', headers=JSON)
    assert broken.status_code == 422
    assert broken.json()["error"].startswith("body: no JSON at character ")
    listed = served.client.post("/predict", json=["x"])
    assert listed.status_code == 422
    assert listed.json()["error"] == "body: ['x']; accepted: an object of JSON"
    for headers, said in (({}, "is missing"), ({"Content-Type": "text/plain; charset=utf-8"}, "is 'text/plain'")):
        unread = served.client.post("/predict", content=b'{"inputs": "x", "adapter": "lora"}', headers=headers)
        assert unread.status_code == 422
        assert unread.json()["error"] == f"Content-Type {said}; accepted: application/json"
    half = served.client.post("/predict", content=rb'{"inputs": "\ud800", "adapter": "lora"}', headers=JSON)
    assert half.status_code == 422
    assert "text 0 holds half a character" in half.json()["error"]
    assert served.client.post("/predict", content=(b"x" * 1000 for _ in range(100))).status_code == 413
    assert served.client.get("/nowhere").status_code == 404


def test_adapters_come_and_go_while_it_runs(served: Served, bank: AdapterBank, shelf: Path, tmp_path: Path) -> None:
    compiled = served.engine.bank.compilations
    served.put("new", shelf / "kron-0")
    wait_for(lambda: served.ask("new", TEXTS).status_code == 200, 60)
    assert same(served.ask("new", TEXTS).json(), expected(bank, "kron-0", TEXTS))
    served.put("new", shelf / "kron-1")
    wait_for(lambda: same(served.ask("new", TEXTS).json(), expected(bank, "kron-1", TEXTS)), 60)
    shutil.rmtree(served.folder / "new")
    wait_for(lambda: served.ask("new", TEXTS).status_code == 404, 60)
    assert served.engine.bank.compilations == compiled


def test_adapters_are_put_and_deleted_by_clients(served: Served, bank: AdapterBank, shelf: Path) -> None:
    source = str(served.folder / "kron-1")
    assert served.client.put("/adapters/again", json={"source": source}).json()["labels"] == list("abcde")
    assert same(served.ask("again", TEXTS).json(), expected(bank, "kron-1", TEXTS))
    assert served.client.delete("/adapters/again").status_code == 204
    assert served.ask("again", TEXTS).status_code == 404
    assert served.client.delete("/adapters/again").status_code == 404
    for source, complaint in {
        str(shelf / "lora"): "a folder below those that are served",
        str(served.folder / "nothing"): "no adapter there",
        "kron-1/../../elsewhere": "a folder below those that are served",
        "hub:acme/adapter": "unless the server runs with --hub",
    }.items():
        answer = served.client.put("/adapters/again", json={"source": source})
        assert answer.status_code == 422
        assert complaint in answer.json()["error"]


def test_more_adapters_than_stay_resident_are_served(served: Served, bank: AdapterBank, shelf: Path) -> None:
    for _ in range(2):
        for name in ("kron-0", "kron-1", "kron-2", "kron-3", "lora"):
            assert same(served.ask(name, TEXTS).json(), expected(bank, name, TEXTS))
    assert len(served.engine.bank.members) == served.engine.resident == 4


def test_texts_for_more_adapters_than_stay_resident_compile_nothing(shelf: Path, tiny: Path) -> None:
    engine = make_engine([shelf], str(tiny), queue_limit=64, resident=2, patience=0.3)
    engine.folders.scan()
    compiled = engine.bank.compilations
    engine.start()

    async def ask() -> list[Any]:
        return await asyncio.gather(*(engine.predict(f"kron-{number}", TEXTS) for number in range(4)))

    answers = asyncio.run(ask())
    engine.stop()
    assert [len(answer) for answer in answers] == [3] * 4
    assert engine.bank.compilations == compiled
    assert len(engine.bank.members) == 2


def test_metrics_are_for_prometheus(served: Served) -> None:
    served.ask("lora", "x")
    lines = dict(
        line.rsplit(" ", 1) for line in served.client.get("/metrics").text.splitlines() if not line.startswith("#")
    )
    assert float(lines['adakron_requests_total{endpoint="/predict",status="200"}']) >= 1
    assert float(lines['adakron_request_seconds_count{endpoint="/predict"}']) >= 1
    assert 0 < float(lines["adakron_batch_fill"]) <= 1
    assert float(lines["adakron_queue"]) == 0
    assert float(lines["adakron_compilations"]) == served.engine.bank.compilations > 0


def test_a_full_queue_says_when_to_come_again(shelf: Path, tiny: Path) -> None:
    with serving(shelf, tiny, queue_limit=4, patience=0.5) as served:
        answers = []
        clients = [threading.Thread(target=lambda: answers.append(served.ask("lora", ["x", "y"]))) for _ in range(6)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        refused = [answer for answer in answers if answer.status_code == 503]
        assert {answer.status_code for answer in answers} == {200, 503}
        assert all(answer.headers["retry-after"] == "1" for answer in refused)
