"""Names are the field's words: no identifier is one that the table below has another word for."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("adakron_jax", "train", "benchmarks", "tests/support")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# Whole names -> what to say instead.
NAMES = {
    **dict.fromkeys(
        ("found", "its", "each", "ours", "theirs", "there", "here", "one", "some"),
        "what it is: config, path, layer, leaf, batch",
    ),
    "fine": "valid",
    "rate": "learning_rate",
}
# Words of a name -> what to say instead.
WORDS = {
    "own": "added, per_example, custom_data, default",
    "learns": "trainable, trains",
    "learned": "trainable, trained",
    "rests": "frozen",
    "answer": "predict, reply",
    "answers": "predictions, logits, labels",
    "product": "matmul",
    "products": "matmuls",
    "program": "executable, compiled step",
    "programs": "executables, compiled steps",
    "gather": "stack",
    "scatter": "unstack",
    "fit": "check_compatible",
    "fits": "is_valid, is_of_type",
}
# The end of a file's path, and a name that is right there.
EXCEPTIONS = {
    ("cli/main.py", "PROGRAM"),  # `train`, beside the library
    ("cli/main.py", "_of_program"),
    ("data/packing.py", "first_fit"),  # the algorithm's name
    ("encoders/ops/dropout.py", "rate"),  # of dropout
    ("onnx/operators.py", "_gather"),  # the operator of ONNX, and of XLA
    ("evaluation/plots.py", "scatter"),  # a scatter plot
    ("methods/selective.py", "BitFit"),  # the method's
    ("train/__init__.py", "fit"),  # the public contract's
    ("train/fitting.py", "fit"),
}


def stored(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every name that a module gives to something, with its line."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name, node.lineno
            case ast.arg():
                yield node.arg, node.lineno
            case ast.Name(ctx=ast.Store()):
                yield node.id, node.lineno
            case ast.Attribute(ctx=ast.Store()):
                yield node.attr, node.lineno
            case ast.alias(asname=str(name)):
                yield name, node.lineno


def instead_of(name: str) -> str | None:
    """What to say in place of a name; None if it is a word of the field."""
    bare = name.strip("_")
    if bare in NAMES:
        return NAMES[bare]
    if re.search(r"_A_", bare):  # TOKENS_A_SLOT
        return "PER"
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", bare).lower().split("_")
    return next((WORDS[word] for word in words if word in WORDS), None)


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        *((name, True) for name in ("found", "_own", "is_own", "OwnHead", "own_scale", "TOKENS_A_SLOT", "products")),
        *((name, False) for name in ("owner", "lora_a", "is_added", "fitted", "learning_rate")),
    ],
)
def test_a_name_is_refused_by_its_words(name: str, refused: bool) -> None:
    assert (instead_of(name) is not None) == refused


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_are_the_field_s_words(path: Path) -> None:
    allowed = {name for end, name in EXCEPTIONS if str(path).endswith(end)}
    refused = [
        f"{path.relative_to(ROOT)}:{line}: {name}; say {instead}"
        for name, line in stored(ast.parse(path.read_text(encoding="utf-8")))
        if (instead := instead_of(name)) and name not in allowed
    ]
    assert not refused, "\n".join(refused)


def test_every_exception_is_of_a_name_that_there_is() -> None:
    for end, name in EXCEPTIONS:
        (path,) = (path for path in FILES if str(path).endswith(end))
        assert name in {name for name, _ in stored(ast.parse(path.read_text(encoding="utf-8")))}
