"""Part 3: many adapters on one encoder, in one batch."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.gpu.campaign import Figures, Step
from benchmarks.gpu.settings import MODEL, Settings

ADAPTERS = 1000  # resident, and drawn from at random


def steps(settings: Settings) -> Iterator[Step]:
    """Sentences a second by how many adapters they draw from, relative to one adapter alone."""
    file = settings.out.absolute() / "adapters.json"
    words = ["-m", "benchmarks.serving", "--model", MODEL, "--data", str(settings.data.absolute()), "--part", "mixed"]
    words += ["--adapters", str(min(ADAPTERS, settings.limit_rows or ADAPTERS)), "--json", str(file)]
    words += ["--rounds", "1"] if settings.limit_steps else []
    yield Step("mixed", words, 60, partial(read_figures, file), settings.environment)


def read_figures(file: Path, printed: str) -> Figures:
    """One line for each number of adapters, and one for what it takes to add another."""
    del printed
    figures = json.loads(file.read_text(encoding="utf-8"))
    return [*({"adapters": name, **line} for name, line in figures["mixed"].items()), {"adding": figures["adding"]}]
