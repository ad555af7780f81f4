"""Standard streams as cron and old terminals have them, and `adakron train` beside somebody's own train.py."""

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from adakron_jax.cli.predict import print_lines
from tests.library.test_classifier import make

ROOT = Path(__file__).parents[2]


def adakron(*argv: str, redirect: str = "", cwd: Path = ROOT, **environment: str) -> Any:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"} | environment
    command = ["bash", "-c", f'"$0" -m adakron_jax "$@" {redirect}', sys.executable, *argv]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def run(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("run") / "adapter", tiny, texts=["text"])


def test_closed_streams_are_named(run: Path, tmp_path: Path):
    (tmp_path / "in.csv").write_text("text\na film\n")
    ended = adakron("predict", str(run), redirect="<&-")
    assert (ended.returncode, ended.stderr) == (2, "adakron: stdin is closed; accepted: a FILE, or lines on stdin\n")
    ended = adakron("predict", str(run), str(tmp_path / "in.csv"), redirect=">&-")
    assert ended.returncode == 2
    assert ended.stderr.startswith("adakron: stdout is closed; accepted: --out FILE")


def test_what_stdout_has_no_letter_for_is_escaped(tmp_path: Path):
    ended = adakron("params", "--encoder", "好", PYTHONIOENCODING="ascii")
    assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1)
    assert "\\u597d" in ended.stderr


@pytest.mark.parametrize(("encoding", "letters"), [("utf-8", "好😀"), ("latin-1", "\\u597d\\ud83d\\ude00")])
def test_a_line_of_json_is_one_in_every_encoding(monkeypatch: pytest.MonkeyPatch, encoding: str, letters: str):
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding=encoding))
    print_lines([{"label": "好😀", "score": 0.5}])
    assert printed.getvalue().decode(encoding) == f'{{"label": "{letters}", "score": 0.5}}\n'


def test_the_program_is_ours_whatever_lies_in_the_working_directory(tmp_path: Path):
    (tmp_path / "train.py").write_text("print('not this one')\n")
    for command in ("train", "report", "submit"):
        ended = adakron(command, "--help", cwd=tmp_path)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert f"usage: adakron {command}" in ended.stdout
    ended = adakron("train", "--task", "no", cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.startswith("train: task is 'no'; accepted: ")
