"""`python -m adakron_jax params`: how many parameters a method trains."""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

from adakron_jax.cli.main import main

ORACLES = Path(__file__).parents[1] / "oracles"
# Method's parameters in millions, as Table 3 of the AdaKron paper rounds them.
TABLE_3 = [
    *[((4, 2), 0.1), ((8, 2), 0.2), ((16, 2), 0.5), ((24, 2), 0.7), ((32, 2), 0.9), ((128, 2), 3.6)],
    *[((2, 4), 0.1), ((4, 4), 0.2), ((8, 4), 0.4), ((12, 4), 0.6)],
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder without weights: counting needs none."""
    values = json.loads((ORACLES / "base-bert" / "config.json").read_text())
    values |= {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 24}
    (tmp_path / "config.json").write_text(json.dumps(values))
    return tmp_path


def ask(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["params", *argv]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count("\n") == 1
    return json.loads(out)


def by_formula(layers: int, d: int, factors: tuple[int, int]) -> int:
    r1, r2 = factors
    return layers * (d * (r1 + r2) + r1 + r2 + r1 * r2 * d + d)


def test_bert_base_with_the_paper_s_adakron(capsys: pytest.CaptureFixture[str]):
    counts = ask(capsys, "--encoder", "bert-base", "--method", "adakron", "--method.factors", "12", "4")
    percent = counts.pop("percent")
    assert counts == {"method": 599_232, "head": 1538, "base": 109_482_240}
    assert percent == pytest.approx(0.5473, abs=5e-5)


def test_without_flags_it_is_bert_base_with_the_paper_s_adakron(capsys: pytest.CaptureFixture[str]):
    spelled = ask(capsys, "--encoder", "bert-base", "--method", "adakron", "--method.factors", "12", "4")
    assert ask(capsys) == spelled


@pytest.mark.parametrize(("factors", "millions"), TABLE_3)
def test_table_3_of_the_paper(capsys: pytest.CaptureFixture[str], factors: tuple[int, int], millions: float):
    method = ask(capsys, "--method.factors", *map(str, factors))["method"]
    assert method == by_formula(12, 768, factors)
    assert round(method / 1e6, 1) == millions


def test_roberta_large_with_the_paper_s_factors(capsys: pytest.CaptureFixture[str]):
    counts = ask(capsys, "--encoder", "roberta-large", "--method.factors", "4", "4")
    assert counts["method"] == by_formula(24, 1024, (4, 4))
    assert round(counts["method"] / 1e6, 1) == 0.6
    assert counts["head"] == 1024 * 1024 + 1024 + 1024 * 2 + 2


def test_either_place_has_the_same_size(capsys: pytest.CaptureFixture[str], folder: Path):
    sizes = [ask(capsys, "--encoder", str(folder), "--method.place", place) for place in ("sequential", "pfeiffer")]
    assert sizes[0] == sizes[1]


def test_a_model_folder(capsys: pytest.CaptureFixture[str], folder: Path):
    counts = ask(capsys, "--encoder", str(folder), "--method.factors", "3", "2", "--labels", "3")
    layer = 4 * (16 * 16 + 16) + (16 * 24 + 24) + (24 * 16 + 16) + 2 * 2 * 16
    base = (50 + 40 + 2) * 16 + 2 * 16 + 2 * layer + 16 * 16 + 16
    method = by_formula(2, 16, (3, 2))
    expected = {"method": method, "head": 16 * 3 + 3, "base": base, "percent": pytest.approx(100 * method / base)}
    assert counts == expected


def test_of_full_fine_tuning_all_learns_and_of_a_probe_nothing(capsys: pytest.CaptureFixture[str], folder: Path):
    full, head = (ask(capsys, "--encoder", str(folder), "--method", name) for name in ("full", "head"))
    assert (full["method"], full["percent"]) == (full["base"], 100)
    assert (head["method"], head["percent"]) == (0, 0)
    assert (full["base"], full["head"]) == (head["base"], head["head"])


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        ("params --encoder nowhere", "nowhere has no config.json; accepted: a Hugging Face model folder"),
        ("params --method nope", "method is 'nope'; accepted: adakron, "),
        ("params --method.factors 12 x", "method.factors is '12 x'; accepted: int"),
        ("params --method.factors 12 0", "method.factors is (12, 0); accepted: one or more whole numbers"),
        ("params --method.factors", "expected at least one argument"),
        ("params --method.place here", "method.place is 'here'; accepted: sequential, pfeiffer"),
        ("params --method.place sequential pfeiffer", "accepted: one value"),
        ("params --method head --method.factors 3", "method head has no field factors; accepted: layers"),
        ("params --labels x", "invalid int value: 'x'"),
        ("params --labels 0", "labels is 0; accepted: at least 1"),
        ("params --labels -1", "labels is -1; accepted: at least 1"),
        ("params --enc bert-base", "unknown argument '--enc'; accepted: --encoder, or another"),
        ("count", "invalid choice: 'count'"),
        ("", "required: COMMAND"),
    ],
)
def test_a_mistake_ends_with_2_and_one_line(capsys: pytest.CaptureFixture[str], argv: str, complaint: str):
    assert main(argv.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("adakron: ")
    assert complaint in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(("argv", "code"), [(["params", "--method", "head"], 0), (["params", "--nope"], 2)])
def test_the_exit_code_reaches_the_shell(monkeypatch: pytest.MonkeyPatch, argv: list[str], code: int):
    monkeypatch.setattr(sys, "argv", ["adakron_jax", *argv])
    monkeypatch.delitem(sys.modules, "adakron_jax.__main__", raising=False)
    with pytest.raises(SystemExit) as end:
        runpy.run_module("adakron_jax", run_name="__main__")
    assert end.value.code == code


def test_help_names_the_encoders_and_the_methods_flags(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main(["params", "--help"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    for word in ("bert-base", "roberta-large", "--labels", "--method.factors", "--method.place", "default: 12 4"):
        assert word in " ".join(out.split())
