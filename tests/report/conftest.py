"""What a folder's report is."""

from collections.abc import Callable
from pathlib import Path

import pytest

from train.report.__main__ import main

# Of a folder: file suffix -> text of its report, and what was said on stderr.
Report = Callable[[Path], tuple[dict[str, str], str]]


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Report:
    def of(folder: Path) -> tuple[dict[str, str], str]:
        assert main([str(folder), "--out", str(folder / "out")]) == 0
        files = {path.suffix[1:]: path.read_text("utf-8") for path in (folder / "out").iterdir()}
        return files, capsys.readouterr().err

    return of
