"""Entities that an exported adapter gives in transformers' own pipeline: ours, with the same characters and scores."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import adakron_jax as ak
from adakron_jax import adapter
from adakron_jax.interop.convert import export_adapter
from adakron_jax.methods import LoRA
from adakron_jax.params import unflatten
from tests.methods.test_fuse import random_leaves
from tests.peers.test_peers import PYTHON, pytestmark
from tests.support.adapters import TOKENS, card_of

__all__ = ["pytestmark"]

LETTERS = ["the film was very good", "a b c d e f g h", "no, this is a dull plot!", "in 3 of 4 , it was 7 ."]
WORDS = [
    "Zoë met the dullest filmer in Köln, very boldly.",
    "  It's thinking: 'storyly', was not greatest?  ",
    "a film\r\nof the bad\ttale\n",
    "the 👩‍👩‍👧 and 🙂 plot is 1.5 very-good",
    "Zoe\u0308 is in a fi\u0301lm",
]
MARKED = (
    len(LETTERS + WORDS) - 1
)  # with marks apart from letters, which the pipeline scores as pieces of the word before


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The entities of all texts by our classifier, and by the pipeline's ways to join pieces."""
    folder = tmp_path_factory.mktemp("entities")
    card = card_of("bert", LoRA(r=3), TOKENS)
    adapter.save(folder / "adapter", unflatten(random_leaves(adapter.portable_shapes(card))), card)
    export_adapter(str(folder / "adapter"), "huggingface", folder / "fused")
    (folder / "texts.json").write_text(json.dumps(LETTERS + WORDS))
    command = [PYTHON, Path(__file__).with_name("pipeline.py"), folder / "fused"]
    peer = subprocess.run([*command, folder / "texts.json", folder / "out.json"], capture_output=True, text=True)
    assert peer.returncode == 0, peer.stderr
    ours = ak.TokenClassifier.load(folder / "adapter").predict(LETTERS + WORDS, decode="argmax")
    return {"ours": ours, **json.loads((folder / "out.json").read_text())}


def as_rows(entities: Sequence[Any]) -> list[tuple[str, int, int, Any]]:
    return [(entity["entity_group"], entity["start"], entity["end"], entity["score"]) for entity in entities]


@pytest.mark.parametrize(
    ("strategy", "number"),
    [("simple", i) for i in range(len(LETTERS))] + [("first", i) for i in range(len(LETTERS + WORDS))],
)
def test_entities_are_those_of_the_pipeline(found: dict[str, Any], strategy: str, number: int):
    """A word has its first piece's tag, as by `first`; where each is one piece, `simple` says the same."""
    within = 1e-2 if number == MARKED else 1e-5
    ours = [(x.label, x.start, x.end, pytest.approx(x.score, abs=within)) for x in found["ours"][number]]
    assert as_rows(found[strategy][number]) == ours
