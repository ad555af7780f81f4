"""Methods from outside: found by path, by entry point, and again by what was trained; never imported unasked."""

import dataclasses
import importlib
import importlib.metadata
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import jax
import pytest
from flax import linen as nn

import adakron_jax as ak
from adakron_jax import adapter, flags
from adakron_jax.cli.main import main
from adakron_jax.methods import external, registry
from adakron_jax.methods.registry import find_method, make_method
from adakron_jax.testing import ENCODERS, check_method
from tests.engine.test_run import call
from train import fit
from train.data.sources import MINI
from train.options.config import RunConfig

GUIDE = Path(__file__).parents[2] / "docs/adding-a-method.md"
(SOURCE,) = re.findall(r"```python\n(import dataclasses\n.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
FLAGS = ["--data", MINI / "reviews.csv", "--text", "review", "--label", "sentiment", "--epochs", 1, "--max-length", 32]


@pytest.fixture(autouse=True)
def _leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(external, "_trusted", set())
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    forget()


def forget() -> None:
    """As another process begins."""
    sys.modules.pop("mymethods", None)
    registry.METHODS.pop("scale-hidden", None)
    importlib.invalidate_caches()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the guide's method in a file."""
    (tmp_path / "mymethods.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    importlib.invalidate_caches()
    return tmp_path


@pytest.fixture
def saved(tiny: Path, here: Path) -> Path:
    """An adapter of the method, whose module nothing has imported."""
    method = make_method("mymethods:ScaleHidden", {"start": 1.1})
    model, params = ak.from_pretrained(str(tiny), method, ["a", "b"], key=jax.random.key(0))
    ak.save_adapter(here / "adapter", model, params)
    forget()
    return here / "adapter"


@pytest.mark.usefixtures("here")
def test_the_guides_method_keeps_the_contract():
    check_method(make_method("mymethods:ScaleHidden", {}), ENCODERS[:1])


def test_a_run_names_the_method_and_what_it_leaves_finds_it_again(tiny: Path, here: Path):
    named = ("--model", tiny, *FLAGS, "--method", "mymethods:ScaleHidden", "--method.start", 1.1, "--out", "run")
    assert (ended := call(*named)).code == 0, ended.err
    said = json.loads((here / "run/adapter/adapter.json").read_text())["method"]
    assert said == {"name": "scale-hidden", "import": "mymethods:ScaleHidden", "layers": "all", "start": 1.1}
    (here / "texts.csv").write_text("review\nGood.\n")
    for command in (
        ["predict", "run", "texts.csv"],
        ["export", "run", "--to", "onnx", "--out", "onnx"],
        ["report", "."],
    ):
        forget()
        assert main(command) == 0
    forget()
    assert "this run has ended" in call(*named).out


@pytest.mark.usefixtures("here")
def test_fit_and_the_bank_take_one_that_nobody_registered(tiny: Path):
    method = make_method("mymethods:ScaleHidden", {"start": 1.1})
    registry.METHODS.pop("scale-hidden")
    rows = [{"text": f"{word} {i}", "label": word} for i in range(20) for word in ("good", "bad")]
    classifier = fit(rows, text="text", label="label", model=tiny, method=method, out="fit", epochs=1, max_length=16)
    assert classifier.card.method == method
    forget()
    bank = ak.AdapterBank(str(tiny))
    bank.add("mine", "fit/adapter")
    assert bank.predict([("mine", "good 1")])[0].label in ("good", "bad")


def test_a_missing_module_is_said_with_what_to_do(saved: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir("/")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(saved.parent))])
    with pytest.raises(ValueError, match="there is no module mymethods here; accepted: install the package that has"):
        ak.load_adapter(saved)


def test_nothing_of_the_hub_is_imported_unless_it_is_trusted(
    saved: Path, here: Path, capsys: pytest.CaptureFixture[str]
):
    """Neither from its client's cache, nor from a folder that it downloaded, nor from one that `pull` wrote."""
    snapshot = here / "hub/models--me--mine/snapshots/0123"
    for folder in (snapshot, here / "local", here / "pulled"):
        shutil.copytree(saved, folder)
    (here / "local/.cache/huggingface/download").mkdir(parents=True)
    (here / "pulled" / external.PULLED).touch()
    for folder in (snapshot, here / "local", here / "pulled"):
        with pytest.raises(ValueError, match="is code of the module mymethods, .*accepted: --trust mymethods"):
            adapter.read_card(folder / "adapter.json")
        assert "mymethods" not in sys.modules
    (here / "texts.csv").write_text("text\nGood.\n")
    assert main(["predict", str(snapshot), "texts.csv"]) == 2
    assert "accepted: --trust mymethods" in capsys.readouterr().err
    assert main(["predict", str(snapshot), "texts.csv", "--trust", "no/module"]) == 2
    assert "trust is 'no/module'; accepted: a module's name" in capsys.readouterr().err
    model, _ = ak.load_adapter(snapshot, trust="mymethods")
    assert model.method.name == "scale-hidden"


def test_a_module_that_lies_in_the_adapters_folder_is_not_imported(saved: Path, monkeypatch: pytest.MonkeyPatch):
    (saved.parent / "mymethods.py").rename(saved / "mymethods.py")
    monkeypatch.chdir(saved)
    monkeypatch.setattr(sys, "path", [str(saved), *(path for path in sys.path if path != str(saved.parent))])
    with pytest.raises(ValueError, match="lies in the adapter's own folder; accepted: --trust mymethods"):
        adapter.read_card(saved / "adapter.json")
    assert "mymethods" not in sys.modules


def test_a_report_imports_nothing_from_downloaded_runs_unless_it_is_trusted(
    here: Path, capsys: pytest.CaptureFixture[str]
):
    config = RunConfig(task="rte", method=make_method("mymethods:ScaleHidden", {}))
    (here / "runs/.cache/huggingface/download").mkdir(parents=True)
    (here / "runs/one").mkdir()
    (here / "runs/one/config.toml").write_bytes(config.dumps())
    forget()
    assert main(["report", "runs"]) == 2
    assert "accepted: --trust mymethods" in capsys.readouterr().err
    assert "mymethods" not in sys.modules
    assert main(["report", "runs", "--trust", "mymethods"]) == 0


@pytest.mark.usefixtures("here")
def test_an_entry_point_offers_a_method_by_its_name(monkeypatch: pytest.MonkeyPatch):
    point = importlib.metadata.EntryPoint("scale-hidden", "mymethods:ScaleHidden", external.GROUP)
    found = {external.GROUP: importlib.metadata.EntryPoints([point])}
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: found.get(group, ()))
    assert "scale-hidden" in flags.choices()
    assert "mymethods" not in sys.modules
    assert find_method("scale-hidden").__module__ == "mymethods"


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("source", "name", "complaint"),
    [
        (SOURCE, "mymethods:Nothing", "method is 'mymethods:Nothing', and the module mymethods has no Nothing"),
        (SOURCE, "mymethods:nn", "which is <module .*accepted: a subclass of Method with a name"),
        (SOURCE, "my methods:Scale", "accepted: a method's name, or package.module:Class"),
        (SOURCE, "no_such:Scale", "there is no module no_such here"),
        ("import no_such_package", "mymethods:A", "importing mymethods needs no_such_package, which is not installed"),
        ("1 / 0", "mymethods:A", "importing mymethods raised ZeroDivisionError: division by zero"),
        ("def", "mymethods:A", "importing mymethods raised SyntaxError"),
    ],
)
def test_what_is_no_method_is_refused_in_a_line(source: str, name: str, complaint: str):
    Path("mymethods.py").write_text(source)
    with pytest.raises(ValueError, match=complaint) as caught:
        make_method(name, {})
    assert "\n" not in str(caught.value)


class Mix(nn.Module):
    @nn.compact
    def __call__(self, x: Any, **_: Any) -> Any:
        scale = self.param("scale", nn.initializers.ones, (1, 1, 1))
        return x + scale * x.mean(axis=1, keepdims=True)


@dataclasses.dataclass(frozen=True)
class Mixing(ak.Method):
    """Claims to be pointwise, and reads its whole row."""

    name: ClassVar[str] = "mixing"

    def splices(self, config: Any, dtype: Any = None) -> Any:
        return {ak.Site.FFN_OUTPUT: ak.Splice(Mix, label="mix")}


def test_the_contract_says_what_does_not_hold():
    try:
        with pytest.raises(AssertionError, match="packed and padded losses differ"):
            check_method(Mixing())
    finally:
        registry.METHODS.pop("mixing", None)


@pytest.mark.parametrize(
    ("flags", "accepted"),
    [
        (["--method.facters"], "of adakron; accepted: --method.factors"),
        (["--method.bottleneck"], "of adakron; accepted: --method.factors, --method.place, --method.layers"),
        (["--method", "lora", "--method.alphas"], "of lora; accepted: --method.alpha"),
    ],
)
def test_an_unknown_field_is_answered_by_those_of_the_chosen_method(flags: list[str], accepted: str):
    ended = call("--task", "rte", *flags, 3)
    assert (ended.code, accepted in ended.err) == (2, True), ended.err
