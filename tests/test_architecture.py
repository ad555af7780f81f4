"""Who imports whom: the library stands alone, and what is heavy is imported where it is needed."""

import ast
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adakron_jax.problems import KINDS

ROOT = Path(__file__).parents[1]
FILES = sorted(path for package in ("adakron_jax", "train") for path in (ROOT / package).rglob("*.py"))
HEAVY = ["transformers", "datasets", "orbax", "sklearn", "scipy", "pyarrow", "torch", "tensorflow"]
HEAVY += ["fastapi", "uvicorn", "jax.experimental.pallas"]


def name_of(path: Path) -> str:
    """adakron_jax/methods/__init__.py -> adakron_jax.methods."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(source: str, package: str) -> Iterator[str]:
    """Every name that the source imports, at its top or within, in full: `from a.b import c` is a.b and a.b.c.

    What is imported for type checkers alone is none.
    """
    for node in runs(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (base, *(f"{base}.{alias.name}" for alias in node.names))


def runs(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all below it, without what stands under `if TYPE_CHECKING`."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and getattr(child.test, "id", "") == "TYPE_CHECKING"):
            yield from runs(child)


def package_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).parent.parts)


IMPORTS = {name_of(path): set(imported(path.read_text(encoding="utf-8"), package_of(path))) for path in FILES}


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def importers(package: str) -> set[str]:
    """Our modules that import something of the package."""
    return {module for module, names in IMPORTS.items() if any(within(name, package) for name in names)}


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """The groups of nodes that reach one another by the arrows, each sorted; none where the arrows run one way."""
    reached = {node: _reached(arrows, node) for node in arrows}
    groups = {tuple(sorted({node} | {other for other in reached[node] if node in reached[other]})) for node in arrows}
    return sorted(list(group) for group in groups if len(group) > 1)


def _reached(arrows: dict[str, set[str]], start: str) -> set[str]:
    seen, new = set(), set(arrows[start])
    while new:
        seen |= new
        new = {other for node in new for other in arrows.get(node, ())} - seen
    return seen


def file_arrows() -> dict[str, set[str]]:
    """Our module -> those of ours that it imports; a package's `__init__` counts as a file like any other."""
    return {
        module: {name for name in names if name in IMPORTS and name != module and not within(module, name)}
        for module, names in IMPORTS.items()
    }


def folder_arrows() -> dict[str, set[str]]:
    """Folder of the library or the program, or file beside these folders -> those that its files import."""

    def room(module: str) -> str:
        return ".".join(module.split(".")[:2])

    arrows: dict[str, set[str]] = {}
    for module, names in file_arrows().items():
        arrows.setdefault(room(module), set()).update(room(name) for name in names)
    return {place: {other for other in others if other != place} for place, others in arrows.items()}


def reachable(module: str) -> set[str]:
    """Our modules that importing this one may import, itself among them."""
    return {module} | _reached({name: names & IMPORTS.keys() for name, names in IMPORTS.items()}, module)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("import a.b as c", {"a.b"}),
        ("def f():\n    from a.b import c", {"a.b", "a.b.c"}),
        ("from . import c", {"p.q", "p.q.c"}),
        ("from ..b import c", {"p.b", "p.b.c"}),
        ("if TYPE_CHECKING:\n    import a.b", set()),
    ],
)
def test_imports_are_seen_in_every_form(line: str, expected: set[str]):
    assert set(imported(line, "p.q")) == expected


def test_the_library_never_imports_the_program():
    assert not {module for module in importers("train") if within(module, "adakron_jax")}
    assert importers("train")


def test_the_program_takes_nothing_of_the_library_s_commands():
    assert not {module for module in importers("adakron_jax.cli") if within(module, "train")}
    assert importers("adakron_jax.cli")


def test_the_program_s_folders_import_downward_only():
    order = [f"train.{folder}" for folder in ("data", "options", "output", "engine", "grid")]
    for lower, upper in itertools.combinations(order, 2):
        assert not {module for module in importers(upper) if within(module, lower)}, f"{lower} imports {upper}"
        assert importers(lower)


def test_the_encoder_knows_no_method():
    methods = {module for module in IMPORTS if within(module, "adakron_jax.methods")}
    assert "adakron_jax.splice" in reachable("adakron_jax.encoders.sequence_classifier")
    assert not reachable("adakron_jax.encoders.sequence_classifier") & methods
    assert "adakron_jax.encoders.sequence_classifier" not in importers("adakron_jax.methods")


@pytest.mark.parametrize(
    ("package", "module"),
    [
        ("orbax", "train.engine.checkpoint"),
        ("jax.experimental.multihost_utils", "train.engine.hosts.arrays"),
        ("jax._src.distributed", "train.engine.hosts.membership"),
        ("datasets", "train.data.sources"),
        ("transformers", "adakron_jax.tokenizer"),
        ("ray", "train.grid.cluster"),
        ("fastapi", "adakron_jax.serving.app"),
        ("uvicorn", "adakron_jax.cli.serve"),
        ("prometheus_client", "adakron_jax.serving.prometheus"),
        ("matplotlib", "adakron_jax.pages.drawing"),
        ("jinja2", "adakron_jax.pages.render"),
    ],
)
def test_a_heavy_package_has_one_importer(package: str, module: str):
    assert importers(package) == {module}


@pytest.mark.parametrize("package", ["torch", "tensorflow", "sklearn"])
def test_no_other_framework_is_imported(package: str):
    assert not importers(package)


def asks_the_kind(source: str) -> Iterator[int]:
    """The lines that look which kind a problem is: by comparing with a kind's name, `isinstance`, or `.kind`."""
    names, classes = set(KINDS), {kind.__name__ for kind in KINDS.values()}
    for node in ast.walk(ast.parse(source)):
        within = list(ast.walk(node))
        if isinstance(node, ast.Compare | ast.MatchValue):
            asks = any(isinstance(part, ast.Constant) and part.value in names for part in within)
        elif isinstance(node, ast.Call):
            asked = isinstance(node.func, ast.Name) and node.func.id in ("isinstance", "issubclass")
            asks = asked and any(isinstance(part, ast.Name) and part.id in classes for part in within)
        else:
            asks = isinstance(node, ast.MatchClass) and getattr(node.cls, "id", "") in classes
            of_array = getattr(getattr(node, "value", None), "attr", "") == "dtype"  # NumPy's, which is another
            asks |= isinstance(node, ast.Attribute) and node.attr == "kind" and not of_array
        if asks:
            yield node.lineno


@pytest.mark.parametrize(
    "line",
    [
        "if problem.name == 'regression': pass",
        "if name in ('regression', 'other'): pass",
        "isinstance(problem, Multilabel | int)",
        "problem.kind",
        "match name:\n    case 'multilabel': pass",
        "match problem:\n    case Regression(): pass",
    ],
)
def test_asking_for_a_kind_of_problem_is_seen_in_every_form(line: str):
    assert list(asks_the_kind(line))
    assert not list(asks_the_kind("Regression(); make('regression'); {'multilabel': 1}"))


def test_only_a_problem_s_file_knows_which_kind_it_is():
    inside = ROOT / "adakron_jax" / "problems"
    sources = {path: path.read_text(encoding="utf-8") for path in FILES if inside not in path.parents}
    assert not [f"{name_of(path)}:{line}" for path, source in sources.items() for line in asks_the_kind(source)]


PROBE = """
import json, sys

def loaded():
    return [name for name in HEAVY if name in sys.modules]

answers = {}
for module in ("adakron_jax.methods", "train.options.command"):
    __import__(module)
    answers[module] = loaded()

# A backend that has started is kept; one that has not looks for its platform now, and finds none.
import jax
jax.config.update("jax_platforms", "no_such_platform")
try:
    answers["devices"] = len(jax.devices())
except RuntimeError as error:
    answers["devices"] = str(error)
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def answers() -> dict[str, Any]:
    """What a fresh process has loaded after importing a module."""
    command = [sys.executable, "-c", PROBE.replace("HEAVY", repr(HEAVY))]
    probe = subprocess.run(command, cwd=ROOT, env=os.environ.copy(), capture_output=True, text=True, timeout=120)
    assert probe.returncode == 0, probe.stderr
    return json.loads(probe.stdout)


@pytest.mark.parametrize("module", ["adakron_jax.methods", "train.options.command"])
def test_importing_loads_no_heavy_package(answers: dict[str, Any], module: str):
    assert answers[module] == []


def test_importing_starts_no_backend(answers: dict[str, Any]):
    assert "no_such_platform" in str(answers["devices"])


def test_circles_are_seen():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []


def test_files_import_in_no_circle():
    assert circles(file_arrows()) == []


def test_folders_import_in_no_circle():
    assert circles(folder_arrows()) == []
