"""The front door: what `import adakron_jax as ak` gives, what it costs, and that the examples of its docstrings run."""

import ast
import contextlib
import doctest
import importlib
import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import adakron_jax as ak
from adakron_jax.methods.adakron import KronAdapter
from adakron_jax.methods.registry import METHODS

ROOT = Path(__file__).parents[2]
IN_SECONDS = 0.3  # at most, beyond what Python itself takes to start
DOCUMENTED = [
    *(ak.from_pretrained, ak.fuse, ak.save_adapter, ak.load_adapter, ak.padded, ak.loss),
    *(ak.split_params, ak.merge_params, ak.param_labels, KronAdapter, ak.TextClassifier, ak.Tokenizer, ak.pack),
    *(ak.TokenClassifier, ak.load),
]


def test_every_name_is_there_and_is_what_a_type_checker_sees():
    listed = {name for name in dir(ak) if name in ak._MODULES}
    assert listed == ak._MODULES.keys()
    tree = ast.parse((ROOT / "adakron_jax" / "__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [(alias, node.module) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    seen = {alias.asname: module for alias, module in imports if alias.asname}
    (starred,) = (module for alias, module in imports if alias.name == "*")
    assert starred is not None
    seen |= dict.fromkeys(importlib.import_module(starred).__all__, starred)
    assert seen == ak._MODULES
    for name in listed:
        assert getattr(ak, name) is getattr(importlib.import_module(ak._MODULES[name]), name)


def test_every_method_is_among_the_names():
    assert {method.__name__ for method in METHODS.values()} <= ak._MODULES.keys()


def test_another_name_is_refused():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = ak.nothing  # pyright: ignore[reportAttributeAccessIssue]


PROBE = """
import sys, time
begun = time.process_time()
import adakron_jax as ak
seconds = time.process_time() - begun
assert ak.__version__
dir(ak)
import adakron_jax.cli.main  # whose --help is as quick
loaded = [name for name in ("jax", "flax", "numpy", "transformers") if name in sys.modules]
ak.KronAdapter, ak.LoRA(r=4), ak.padded, ak.split_params, ak.from_pretrained, ak.TextClassifier
import jax
jax.config.update("jax_platforms", "no_such_platform")
try:
    jax.devices()
    started = True
except RuntimeError:
    started = False
print(seconds, loaded, started)
"""


def test_importing_is_quick_and_starts_nothing():
    probe = subprocess.run(
        [sys.executable, "-c", PROBE], cwd=ROOT, env=os.environ.copy(), capture_output=True, text=True
    )
    assert probe.returncode == 0, probe.stderr
    seconds, *rest = probe.stdout.split(maxsplit=1)
    assert float(seconds) < IN_SECONDS
    assert rest == ["[] False\n"]


KNOWN = """
import importlib, sys
for module in ("adapter", "bank", "classifier", "model", "token_classifier"):
    for name in [name for name in sys.modules if name.startswith("adakron_jax")]:
        del sys.modules[name]
    importlib.import_module(f"adakron_jax.{module}")
    print(len(sys.modules["adakron_jax.methods.registry"].METHODS))  # an import of it would make them known
"""


def test_whoever_reads_an_adapter_knows_every_method():
    probe = subprocess.run([sys.executable, "-c", KNOWN], cwd=ROOT, capture_output=True, text=True)
    assert probe.stdout.split() == [str(len(METHODS))] * 5, probe.stderr


@pytest.fixture(scope="module")
def known(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the docstrings' encoder and runs are tiny ones."""
    folder = tmp_path_factory.mktemp("known")
    shutil.copytree(tiny, folder / "bert-base-uncased")
    with contextlib.chdir(folder):
        write_adapters()
    return folder


def write_adapters() -> None:
    model, params = ak.from_pretrained("bert-base-uncased", ak.AdaKron((2, 2)), key=jax.random.key(0))
    ak.save_adapter(
        "runs/reviews/adapter", model, params, base="bert-base-uncased", labels=["negative", "positive"], max_length=32
    )
    model, params = ak.from_pretrained(
        "bert-base-uncased", ak.LoRA(r=2), ["person"], problem="tokens", key=jax.random.key(0)
    )
    ak.save_adapter("runs/people/adapter", model, params, max_length=32)


@pytest.mark.parametrize("documented", DOCUMENTED, ids=lambda documented: documented.__name__)
def test_the_example_of_a_docstring_runs(
    known: Path, documented: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shutil.copytree(known, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    module = inspect.getmodule(documented)
    assert module is not None
    finder = doctest.DocTestFinder(recurse=False)
    (example,) = finder.find(documented, globs=dict(vars(module)))
    assert example.examples
    said: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example, out=said.append)
    assert not said, "".join(said)
