"""`adakron serve` as a process: it drains when told to end, and its description holds under fuzzing."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from adakron_jax.cli.main import main
from adakron_jax.methods import LoRA
from tests.serving.conftest import Served, wait_for, write_tagger
from tests.support.hub_server import HubServer


@contextlib.contextmanager
def command(*flags: str, **variables: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address of `adakron serve` with these flags once it is ready, and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "adakron_jax", "serve", *flags, "--port", str(port)]
    url = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        try:
            return httpx2.get(f"{url}/health", timeout=60).status_code == 200
        except httpx2.ConnectError:
            return False

    with subprocess.Popen(words, env=os.environ | variables, stderr=subprocess.PIPE, text=True) as server:
        try:
            wait_for(is_ready, every=0.2)
            yield url, server
        finally:
            server.kill()


def test_it_fetches_from_the_hub_answers_what_is_under_way_and_ends_when_told_to(
    shelf: Path, tiny: Path, tmp_path: Path
) -> None:
    files = {path.name: path.read_bytes() for path in (shelf / "kron-1").iterdir()}
    hub = HubServer({"acme/reviews": files})
    variables = {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(tmp_path),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",
    }
    with hub, command(str(shelf / "lora"), "--patience", "1000", "--hub", **variables) as (url, server):
        put = httpx2.put(f"{url}/adapters/reviews", json={"source": "hub:acme/reviews"}, timeout=60)
        assert put.json().get("labels") == list("abcde"), put.text
        none = httpx2.put(f"{url}/adapters/none", json={"source": "hub:acme/none"}, timeout=60)
        assert none.status_code == 422
        assert "hub:acme/none" in none.json()["error"]
        answers: list[httpx2.Response] = []
        body = {"inputs": "one", "adapter": "reviews"}
        client = threading.Thread(target=lambda: answers.append(httpx2.post(f"{url}/predict", json=body, timeout=60)))
        client.start()
        wait_for(lambda: "adakron_queue 1.0" in httpx2.get(f"{url}/metrics").text)
        server.send_signal(signal.SIGTERM)
        client.join()
        said = server.communicate(timeout=60)[1]
    assert answers[0].status_code == 200, said
    assert {each["label"] for each in answers[0].json()} == set("abcde")
    assert server.returncode in (0, -signal.SIGTERM)
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nowhere"], "nowhere: no such folder"),
        (["."], r"\.: no adapter in it; accepted: adapters, or --base"),
        ([".", "--queue", "0"], "queue is 0; accepted: at least 1"),
        ([".", "--patience", "-1"], "patience is -1.0; accepted: 0 to 1000 milliseconds"),
        ([".", "--token-file", "none"], r"token-file is 'none', which cannot be read \(FileNotFoundError\)"),
        ([".", "--root-path", "x/"], "root-path is 'x/'; accepted: a path such as /adapters"),
        ([".", "--cors", "a.example"], "cors is 'a.example'; accepted: https://HOST"),
    ],
)
def test_what_cannot_be_served_is_told_in_one_line(
    arguments: list[str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["serve", *arguments]) == 2
    assert re.match(f"adakron: {complaint}.*\n$", capsys.readouterr().err)


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.nightly)])
def test_no_request_that_the_description_allows_or_forbids_makes_it_fail(
    served: Served, tiny: Path, tmp_path: Path, seconds: int
) -> None:
    # A program of its own, whose plugin of pytest is left out of ours.
    checks = "not_a_server_error,response_schema_conformance,content_type_conformance,status_code_conformance"
    command = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", "run"]
    command += [f"{served.url}/openapi.json", "--checks", checks, "--phases", "coverage,fuzzing"]
    command += ["--max-time", str(seconds)]
    write_tagger(tmp_path / "tags", tiny, LoRA(r=2))
    served.put("tags", tmp_path / "tags")
    wait_for(lambda: served.ask("tags", "x").status_code == 200)
    named = tmp_path / "named.toml"
    named.write_text('[parameters]\n"path.name" = "tags"\n')
    start = command.index("run")
    for settings, more in (([], []), (["--config-file", str(named)], ["--exclude-method", "DELETE"])):
        fuzz = subprocess.run(
            [*command[:start], *settings, *command[start:], *more], capture_output=True, text=True, timeout=300
        )
        assert fuzz.returncode == 0, fuzz.stdout
