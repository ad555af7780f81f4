"""The README's code runs, and its claims about commands hold."""

import re
from pathlib import Path

import jax
import pytest

from adakron_jax import flags
from adakron_jax.architectures.config import BERT_BASE
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.methods.registry import METHODS
from adakron_jax.paper.sizes import count
from adakron_jax.params import flatten
from tests.encoders.test_bert import BERT
from train.options.config import RunConfig
from train.options.launch import Launch
from train.options.recipes import read_recipe

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
METHOD_TABLE = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_worked_example_of_a_method_is_short_and_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adakron_jax.methods.registry.METHODS", dict(METHODS))
    (example,) = (block for block in BLOCKS if "@ak.register" in block)
    assert len(example.splitlines()) <= 40
    names: dict = {"__name__": "example"}
    exec(example, names)
    with jax.numpy_rank_promotion("allow"):
        shapes = flatten(SequenceClassifier(BERT, names["ScaleHidden"]()).shapes())
    for i in range(BERT.num_layers):
        assert shapes[f"encoder/layers/{i}/ffn/ffn_hidden@scale-hidden/scale"].shape == (BERT.intermediate_size,)


def test_the_library_example_runs() -> None:
    (example,) = (block for block in BLOCKS if "from_pretrained(" in block)
    names: dict = {}
    exec(example, names)
    assert names["logits"].shape == (1, 1, 2)
    assert set(flatten(names["trainable"])) == {path for path in flatten(names["params"]) if _is_trainable(path)}


def _is_trainable(path: str) -> bool:
    return "@adakron/" in path or path.startswith("classifier/")


def test_every_flag_it_names_is_there() -> None:
    parser = flags.Parser()
    flags.add_method_flags(parser)
    fields = RunConfig.__dataclass_fields__ | Launch.__dataclass_fields__
    known = {f"--{name.replace('_', '-')}" for name in fields}
    known |= {flag for action in parser._actions for flag in action.option_strings}
    known |= {"--help", "--encoder", "--paper", "--page", "--to", "--port", "--no-deps"}
    assert set(re.findall(r"--[a-z][a-z-]*(?:\.[a-z]+)?", README)) - known == set()


def test_every_method_has_a_row_with_its_count() -> None:
    rows = re.findall(r"^\| `(\S+)` \|.*\| ([\d,]+) \|[^|]*\|$", METHOD_TABLE, re.MULTILINE)
    assert dict(rows) == {name: f"{count('bert-base', method())['method']:,}" for name, method in METHODS.items()}
    assert len(rows) == len(METHODS)


def test_every_method_has_a_recipe() -> None:
    recipes = {path.stem for path in (ROOT / "configs" / "methods").glob("*.toml")}
    assert recipes == METHODS.keys() - {"adakron"}  # AdaKron's is the task's own
    for name in recipes:
        read_recipe("paper", "rte", BERT_BASE, name)


def test_every_file_it_names_is_there() -> None:
    tree = README[README.index("## Where things are") :]
    for name in re.findall(r"[a-z_]+\.py", tree):
        assert list(ROOT.glob(f"adakron_jax/{name}")) + list(ROOT.glob(f"train/{name}")), name
    for name in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / name).exists(), name
