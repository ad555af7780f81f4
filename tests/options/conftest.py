"""What parses flags for the paper's encoders, of which a configuration looks at no more than their own."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from adakron_jax.architectures.config import NAMED, EncoderConfig
from train.options.command import parse
from train.options.config import RunConfig

Parse = Callable[..., RunConfig]


def write_encoder(folder: Path, encoder: EncoderConfig) -> Path:
    """Writes all of a model folder that a configuration looks at."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(encoder.to_hugging_face()))
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: write_encoder(folder / name, encoder) for name, encoder in NAMED.items()}


@pytest.fixture
def bert(models: dict[str, Path]) -> Parse:
    """Parses flags for a BERT-base."""
    return lambda *flags, task="rte": parse(["--task", task, "--model", str(models["bert-base"]), *flags])


@pytest.fixture
def roberta(models: dict[str, Path]) -> Parse:
    """Parses flags for a RoBERTa-large."""
    return lambda *flags, task="rte": parse(["--task", task, "--model", str(models["roberta-large"]), *flags])


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[[str], str]:
    """Writes a recipe and says where it is."""

    def write(text: str) -> str:
        path = tmp_path / "mine.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write
