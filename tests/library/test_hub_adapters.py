"""Adapters to the hub and back: the commands in a process of their own, against a server on this machine."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from adakron_jax import adapter
from adakron_jax.cli.main import main
from tests.library.test_adapter import CARD, assert_same_bits, random_tree
from tests.support.hub_server import HubServer

ROOT = Path(__file__).parents[2]
# Runs commands one after another, and counts the seconds the hub's client would wait rather than waiting them.
CLIENT = """
import contextlib, io, json, sys, time

time.sleep = lambda seconds: None

from adakron_jax.cli.main import main

answers = []
for argv in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(argv)
    answers.append([code, out.getvalue().strip(), err.getvalue().strip().splitlines()[-1:]])
print("\\n" + json.dumps(answers))
"""
NAME = "acme/reviews"


def commands(endpoint: str, home: Path, *argvs: list[str], **variables: str) -> list[tuple[int, str]]:
    """Of each command its exit code, and what it said: on stdout, or the one line on stderr."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_", "XDG_"))}
    environment = {k: v for k, v in inherited.items() if not k.lower().endswith("_proxy")}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"} | variables
    client = subprocess.run(
        [sys.executable, "-c", CLIENT, json.dumps(argvs)],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert client.returncode == 0, client.stderr
    answers: list[Any] = json.loads(client.stdout.splitlines()[-1])
    return [(code, " ".join(err) if code else out) for code, out, err in answers]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run, with its adapter."""
    folder = tmp_path / "run"
    adapter.save(folder / "adapter", random_tree(CARD), CARD)
    (folder / "config.toml").write_text('data = "reviews.csv"\nseed = 7\n')
    (folder / "result.json").write_text(json.dumps({"seed": 7, "train_examples": 1234}))
    return folder


def test_pushed_pulled_pinned_and_read_from_the_cache(run: Path, tmp_path: Path) -> None:
    home, new, old = tmp_path / "home", tmp_path / "new", tmp_path / "old"
    with HubServer({}) as server:
        token = {"HF_TOKEN": server.token}
        pushed, again, pulled = commands(
            server.endpoint,
            home,
            ["push", str(run), NAME],
            ["push", str(run / "adapter"), NAME],
            ["pull", NAME, "--out", str(new)],
            **token,
        )
        assert pushed == again == (0, f"{server.endpoint}/{NAME}")
        assert pulled == (0, str(new))
        (first, second) = server.earlier[NAME].values()
        assert first == {}
        (commit,) = list(server.earlier[NAME])[1:]
        pinned, unknown = commands(
            server.endpoint,
            home,
            ["pull", f"hub:{NAME}@{commit}", "--out", str(old)],
            ["pull", f"{NAME}@nothing", "--out", str(old)],
        )
    assert pinned == (0, str(old))
    assert unknown == (
        2,
        f"adakron: adapter 'hub:{NAME}@nothing': no such revision; accepted: a branch, a tag or a commit",
    )
    for folder in (new, old):
        tree, card = adapter.load(folder)
        assert card == CARD
        assert_same_bits(tree, random_tree(CARD))
    offline, missing = commands(
        server.endpoint,
        home,
        ["export", f"hub:{NAME}@{commit}", "--to", "authors", "--out", str(tmp_path / "out")],
        ["pull", "acme/others", "--out", str(tmp_path / "others")],
        HF_HUB_OFFLINE="1",
    )
    assert offline == (0, f"{tmp_path / 'out'}: README.md, model.safetensors")
    assert missing[0] == 2
    assert "not in the cache, and the hub cannot be reached" in missing[1]
    check_card(second["README.md"].decode())


def check_card(text: str) -> None:
    for part in (
        "library_name: adakron-jax",
        "base_model: acme/tiny-bert",
        "pipeline_tag: text-classification",
        "type: accuracy",
        "| Seed | 7 |",
        "| Training examples | 1234 |",
        "rte, reviews.csv",
        "adakron, factors 3 2",
        "of the adapter",
        "entailment, not_entailment",
        f"hub:{NAME}",
    ):
        assert part in text, part


def test_an_interrupted_upload_changes_nothing_and_the_same_command_goes_on(run: Path, tmp_path: Path) -> None:
    with HubServer({}) as server:
        server.interruptions = 100
        token = {"HF_TOKEN": server.token}
        ((code, said),) = commands(server.endpoint, tmp_path, ["push", str(run), NAME], **token)
        assert (code, server.repositories) == (2, {NAME: {}})
        assert f"push to '{NAME}'" in said
        server.interruptions = 1  # which the client overcomes by itself
        assert commands(server.endpoint, tmp_path, ["push", str(run), NAME], **token)[0][0] == 0
        assert set(server.repositories[NAME]) == {"adapter.json", "adapter.safetensors", "README.md"}


def test_an_encoder_that_is_a_folder_here_is_said_before_it_is_pushed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = dataclasses.replace(CARD, base=str(tmp_path / "bert"))
    adapter.save(tmp_path / "adapter", random_tree(card), card)
    assert main(["push", str(tmp_path / "adapter"), "reviews"]) == 2
    assert f"warning: the adapter's encoder is {card.base}, a folder that is on this" in capsys.readouterr().err


def test_what_has_no_token_no_access_or_no_adapter_is_refused(run: Path, tmp_path: Path) -> None:
    with HubServer({"acme/empty": {"README.md": b"# nothing"}}) as server:
        answers = commands(
            server.endpoint,
            tmp_path,
            ["push", str(run), NAME],
            ["push", str(run), "reviews"],
            ["push", str(run), "acme/../etc"],
            ["push", str(tmp_path), NAME],
            ["pull", "acme/empty", "--out", str(tmp_path / "out")],
            ["pull", "acme/nothing", "--out", str(tmp_path / "out")],
        )
        ((code, denied),) = commands(server.endpoint, tmp_path, ["push", str(run), NAME], HF_TOKEN="hf_wrong")
    parts = ("no token", "OWNER/NAME", "OWNER/NAME", "no adapter there", "no adapter.json there", "no such repository")
    for (refused, said), part in zip(answers, parts, strict=True):
        assert refused == 2, said
        assert part in said
    assert code == 2
    assert "the hub gives no access" in denied


def test_a_strangers_adapter_is_measured_before_it_is_downloaded(run: Path, tmp_path: Path) -> None:
    files = {path.name: path.read_bytes() for path in (run / "adapter").iterdir()}
    described = json.loads(files["adapter.json"])
    huge = json.dumps(described | {"encoder": described["encoder"] | {"vocab_size": 10**15}}).encode()
    repositories = {
        "acme/large": files,
        "acme/huge": files | {"adapter.json": huge},
        "acme/long": files | {"adapter.json": b" " * (17 << 20)},
        "acme/extra": files | {"setup.py": b"never fetched", "../../escape": b"never fetched"},
    }
    with HubServer(repositories) as server:
        server.said_sizes["acme/large", "adapter.safetensors"] = 100 << 30
        answers = commands(
            server.endpoint,
            tmp_path / "home",
            *(["pull", name, "--out", str(tmp_path / "out" / name)] for name in repositories),
        )
    assert [code for code, _ in answers] == [2, 2, 2, 0]
    for (_, said), part in zip(answers, ("107374182400 bytes", "vocab_size", "17825792 bytes"), strict=False):
        assert part in said
    fetched = {line.rpartition("/")[2] for line in server.requests if "/resolve/" in line}
    assert fetched == {"adapter.json", "adapter.safetensors"}
    assert not any("acme/large/resolve" in line and "safetensors" in line for line in server.requests)
    assert sorted(path.name for path in (tmp_path / "out" / "acme" / "extra").iterdir()) == sorted(files)
