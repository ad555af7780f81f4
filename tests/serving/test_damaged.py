"""One adapter that is damaged, of another encoder, or that raises: the others answer, and its name has the reason."""

import asyncio
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adakron_jax.serving.access import without_paths
from adakron_jax.serving.engine import Busy, Engine, Failed, make_engine
from adakron_jax.serving.folders import UnknownAdapter
from tests.serving.conftest import Served, serving, wait_for

TENSORS = "adapter.safetensors"


def flip(file: Path) -> None:
    """Changes the last byte."""
    whole = bytearray(file.read_bytes())
    whole[-1] ^= 1
    file.write_bytes(whole)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:100])


def of_another_encoder(folder: Path) -> None:
    card = json.loads((folder / "adapter.json").read_text())
    card |= {"fingerprint": "0" * 64, "base": str(folder.parent / "elsewhere" / "encoder")}
    (folder / "adapter.json").write_text(json.dumps(card))


def no_json(folder: Path) -> None:
    (folder / "adapter.json").write_text("{")


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "cut": (lambda folder: cut(folder / TENSORS), "adapter.safetensors: 100 bytes, of the"),
    "missing": (lambda folder: (folder / TENSORS).unlink(), "adapter.safetensors missing"),
    "nameless": (lambda folder: (folder / "adapter.json").unlink(), "adapter.json missing"),
    "no-json": (no_json, "adapter.json: "),
    "another": (of_another_encoder, "trained on encoder with the fingerprint 000000000000, not on the encoder served"),
}


@pytest.fixture(scope="module")
def damaged(shelf: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server over one adapter that is whole and others that are not."""
    folder = tmp_path_factory.mktemp("adapters") / "adapters"
    shutil.copytree(shelf / "lora", folder / "lora")
    for name, (damage, _) in DAMAGES.items():
        shutil.copytree(shelf / "lora", folder / name)
        damage(folder / name)
    shutil.copytree(shelf / "lora", folder / "flipped")
    flip(folder / "flipped" / TENSORS)
    with serving(folder, tiny) as server:
        yield server


def tells_no_path(served: Served, text: str) -> bool:
    return "/" not in text and str(served.folder) not in text and "tmp" not in text


@pytest.mark.parametrize("name", DAMAGES)
def test_an_adapter_that_cannot_be_served_has_its_reason(damaged: Served, name: str) -> None:
    reason = DAMAGES[name][1]
    listed = {described["name"]: described for described in damaged.client.get("/adapters").json()}
    assert set(listed[name]) == {"name", "error"}
    assert reason in listed[name]["error"]
    for answer in (damaged.ask(name, "x"), damaged.client.get(f"/adapters/{name}")):
        assert answer.status_code == 404
        assert answer.json()["error"].startswith(f"adapter {name!r} cannot be served: ")
        assert reason in answer.json()["error"]
        assert tells_no_path(damaged, answer.text)
    put = damaged.client.put("/adapters/again", json={"source": name})
    assert put.status_code == 422
    assert (reason if name != "nameless" else "no adapter there") in put.json()["error"]
    assert tells_no_path(damaged, put.text)
    assert damaged.ask("lora", "x").status_code == 200


def test_damage_that_only_loading_shows_is_told_from_then_on(damaged: Served) -> None:
    answer = damaged.ask("flipped", "x")
    assert answer.status_code == 404
    assert "is not as it was written" in answer.json()["error"]
    assert tells_no_path(damaged, answer.text)
    listed = {described["name"]: described for described in damaged.client.get("/adapters").json()}
    assert "is not as it was written" in listed["flipped"]["error"]
    assert damaged.client.get("/info").json()["refused"] == len(DAMAGES) + 1


def test_a_damaged_replacement_is_reported_and_the_old_one_answers(
    shelf: Path, tiny: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "all"
    shutil.copytree(shelf / "kron-1", folder / "changing")
    with serving(folder, tiny) as served, caplog.at_level(logging.INFO, "adakron.serving"):
        before = served.ask("changing", "one").json()
        flip(folder / "changing" / TENSORS)
        wait_for(lambda: served.client.get("/adapters/changing").json()["error"], 20)
        described = served.client.get("/adapters/changing").json()
        assert described["error"].startswith("is served as it was before: adapter.safetensors: ")
        assert tells_no_path(served, described["error"])
        assert served.ask("changing", "one").json() == before
        assert caplog.text.count("'changing' is served as it was before") == 1
        served.put("changing", shelf / "kron-0")
        wait_for(lambda: served.client.get("/adapters/changing").json()["labels"] != described["labels"], 20)
        assert served.client.get("/adapters/changing").json()["error"] is None
        assert served.ask("changing", "one").json() != before


def test_an_adapter_half_replaced_is_asked_for_again_and_a_damaged_one_is_refused(
    shelf: Path, tiny: Path, tmp_path: Path
) -> None:
    shutil.copytree(shelf / "lora", tmp_path / "all" / "lora")
    engine = make_engine([tmp_path / "all"], str(tiny), queue_limit=4, resident=4, patience=0.0)
    engine.folders.scan()
    engine.start()
    (tmp_path / "all" / "lora" / "adapter.json").write_bytes((shelf / "kron-0" / "adapter.json").read_bytes())
    with pytest.raises(Busy, match="'lora' is being replaced"):
        asyncio.run(engine.predict("lora", ["x"]))
    engine.folders.scan()
    with pytest.raises(UnknownAdapter, match=r"'lora' cannot be served: adapter\.safetensors"):
        asyncio.run(engine.predict("lora", ["x"]))
    engine.stop()


@pytest.fixture(scope="module")
def engine(shelf: Path, tiny: Path) -> Iterator[Engine]:
    roots = [shelf / name for name in ("kron-0", "kron-1", "lora")]
    engine = make_engine(roots, str(tiny), queue_limit=64, resident=8, patience=0.2)
    engine.folders.scan()
    engine.start()
    yield engine
    engine.stop()


def ask_all(engine: Engine, names: list[str]) -> dict[str, Any]:
    """What each adapter, asked at once, answers or raises."""

    async def ask() -> list[Any]:
        return await asyncio.gather(*(engine.predict(name, ["x", "y"]) for name in names), return_exceptions=True)

    return dict(zip(names, asyncio.run(ask()), strict=True))


def test_an_adapter_that_raises_harms_its_own_requests_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    predict = engine.bank.predict

    def raises(requests: Any, **settings: Any) -> Any:
        if any(name == "lora" for name, _ in requests):
            raise RuntimeError("a secret of /srv/adapters")
        return predict(requests, **settings)

    monkeypatch.setattr(engine.bank, "predict", raises)
    answers = ask_all(engine, ["kron-0", "lora", "kron-1"])
    assert len(answers["kron-0"]) == len(answers["kron-1"]) == 2
    assert isinstance(answers["lora"], Failed)
    assert str(answers["lora"]) == "adapter 'lora' raised an error on valid texts; the server's log describes it"
    assert "adapter 'lora' raised an error" in caplog.text
    assert "a secret of /srv/adapters" in caplog.text
    assert caplog.text.count("Traceback") == 1


def test_an_adapter_whose_numbers_are_not_finite_is_answered_with_an_error(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = engine.bank.predict

    def spoilt(requests: Any, **settings: Any) -> Any:
        predictions = predict(requests, **settings)
        return [
            type(prediction)(prediction.label, float("nan"), prediction.probabilities) if name == "lora" else prediction
            for (name, _), prediction in zip(requests, predictions, strict=True)
        ]

    monkeypatch.setattr(engine.bank, "predict", spoilt)
    answers = ask_all(engine, ["kron-0", "lora"])
    assert len(answers["kron-0"]) == 2
    assert isinstance(answers["lora"], Failed)


def test_a_client_is_told_500_in_one_line_whoever_raised(
    shelf: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(shelf / "lora", tiny) as served:

        def raises(*arguments: Any, **settings: Any) -> Any:
            raise RuntimeError(f"a secret of {shelf}")

        monkeypatch.setattr(served.engine.bank, "predict", raises)
        answer = served.ask("lora", "x")
        assert (answer.status_code, "secret" in answer.text) == (500, False)
        assert "'lora' raised an error" in answer.json()["error"]
        monkeypatch.setattr(served.engine, "predict", raises)
        answer = served.ask("lora", "x")
        assert answer.status_code == 500
        assert answer.json() == {"error": "internal error; the server's log describes it"}
        assert 'status="500"} 2.0' in served.client.get("/metrics").text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("/srv/all/x/adapter.json: no object", "adapter.json: no object"),
        ("/srv/all/x: no adapter", "x: no adapter"),
        ("/srv/all/x/y z/f: bad", "y z/f: bad"),
        ("[Errno 13] Permission denied: '/root/.cache/hub/models--a--b/x'", "[Errno 13] Permission denied: 'x'"),
        ("adapter 'hub:acme/none@main': no such repository", "adapter 'hub:acme/none@main': no such repository"),
        ("see https://acme.org/a/b", "see https://acme.org/a/b"),
        ("2/3 of it", "2/3 of it"),
    ],
)
def test_paths_of_the_machine_are_left_out(text: str, told: str) -> None:
    assert without_paths(text, {"/srv/all/x": "x"}) == told
