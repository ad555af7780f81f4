"""The commands of the README and of the tutorial run as they stand, one page after another."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# A fenced block, and the comment before it that says why it is not run.
BLOCK = re.compile(r"(<!-- not run: [^\n]+ -->\n)?^```(python)?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMANDS = ("adakron ", "echo ", "head ", "python ")


def blocks(page: str) -> list[tuple[str, str]]:
    """(language, text) of the blocks that are run."""
    found = BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
    return [(kind, text) for skipped, kind, text in found if not skipped and (kind or text.startswith(COMMANDS))]


@pytest.mark.parametrize(("page", "least"), [("README.md", 3), ("docs/tutorial.md", 6)])
@pytest.mark.nightly
def test_every_command_runs_as_it_stands(page: str, least: int, tmp_path: Path) -> None:
    (tmp_path / "train" / "data").mkdir(parents=True)
    (tmp_path / "train" / "data" / "mini").symlink_to(ROOT / "train" / "data" / "mini")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    assert len(todo := blocks(page)) >= least
    for kind, text in todo:
        command = [sys.executable, "-c", text] if kind else ["bash", "-euo", "pipefail", "-c", text]
        environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1800)
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
