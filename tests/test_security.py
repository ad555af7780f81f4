"""Nothing from outside is unpickled or executed: what SECURITY.md says, looked for in every source file."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for package in ("adakron_jax", "train", "benchmarks") for path in (ROOT / package).rglob("*.py"))

CALLS = {"eval", "exec", "compile", "__import__"}  # of Python's own
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "code", "runpy"}
METHODS = {("os", "system"), ("os", "popen"), ("torch", "load"), ("yaml", "load"), ("yaml", "unsafe_load")}
# A keyword, and the only value that is allowed.
KEYWORDS = {"allow_pickle": False, "trust_remote_code": False, "shell": False, "weights_only": True}


def unsafe(source: str) -> Iterator[str]:
    """What a source does that it must not."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom):
            yield from ([node.module] if node.module and node.module.partition(".")[0] in MODULES else [])
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in CALLS:
                yield node.func.id
            if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
                name = (node.func.value.id, node.func.attr)
                yield from ([".".join(name)] if name in METHODS else [])
            for keyword in node.keywords:
                allowed = isinstance(keyword.value, ast.Constant) and keyword.value.value is KEYWORDS.get(
                    keyword.arg or ""
                )
                if keyword.arg in KEYWORDS and not allowed:
                    yield f"{keyword.arg}={ast.unparse(keyword.value)}"


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        ("eval('1')", ["eval"]),
        ("model.eval(); jax.eval_shape(f)", []),
        ("from pickle import loads", ["pickle"]),
        ("def f():\n    import cloudpickle.fast", ["cloudpickle.fast"]),
        ("np.load(path, allow_pickle=True)", ["allow_pickle=True"]),
        ("np.load(path, allow_pickle=False)", []),
        ("load(path, trust_remote_code=given)", ["trust_remote_code=given"]),
        ("subprocess.run(words, shell=True)", ["shell=True"]),
        ("torch.load(path)", ["torch.load"]),
    ],
)
def test_what_is_unsafe_is_seen(source: str, seen: list[str]) -> None:
    assert list(unsafe(source)) == seen


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_unpickles_or_executes_what_it_is_given(path: Path) -> None:
    assert list(unsafe(path.read_text(encoding="utf-8"))) == []


def test_no_file_allows_pickles_or_remote_code_by_any_spelling() -> None:
    pattern = re.compile(r"(allow_pickle|trust_remote_code)[\"']?\s*[=:]\s*True")
    assert [path for path in FILES if pattern.search(path.read_text(encoding="utf-8"))] == []


def test_every_tokenizer_is_read_without_code_of_its_folder() -> None:
    callers = [path for path in FILES if "AutoTokenizer.from_pretrained(" in path.read_text(encoding="utf-8")]
    ours = [path for path in callers if "peers" not in path.parts]
    assert ours, "nothing reads a tokenizer"
    assert all("trust_remote_code=False" in path.read_text(encoding="utf-8") for path in ours)


def test_pages_escape_what_they_show() -> None:
    pages = [path for path in FILES if "jinja2.Environment" in path.read_text(encoding="utf-8")]
    assert pages, "nothing renders a page"
    assert all("autoescape=True" in path.read_text(encoding="utf-8") for path in pages)
