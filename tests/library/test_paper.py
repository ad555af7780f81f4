"""The sizes of the AdaKron paper's tables, and `python -m adakron_jax params --paper`, which prints them."""

from decimal import Decimal

import pytest

from adakron_jax.architectures.config import NAMED
from adakron_jax.cli.main import main
from adakron_jax.cli.params import count_params
from adakron_jax.methods import (
    IA3,
    AdaKron,
    AdaMix,
    BitFit,
    Compacter,
    CompacterPlusPlus,
    Full,
    Hadamard,
    Head,
    Houlsby,
    LoRA,
    Pfeiffer,
    Prefix,
    UniPELT,
    VeRA,
)
from adakron_jax.paper import sizes
from adakron_jax.paper.sizes import CONVENTIONS, PAPERS, ROWS, Row, count, described, rounds_to
from adakron_jax.splice import Method

D, L = 768, 12
AP, APL = ("adapter", "prefix"), ("adapter", "prefix", "lora")
# On BERT-base, with biases and without the head, by what the methods' publications define.
EXACT = [
    (Full(), 109_482_240),
    (Head(), 0),
    (AdaKron((12, 4)), 599_232),
    (AdaKron((48,)), 894_528),
    (AdaMix(), 2_223_360),
    (AdaMix().plain(), 894_528),
    (BitFit(), 102_912),
    (LoRA(r=8), 4 * L * 8 * D),
    (Prefix(), 9_857_024),
    (Prefix(mlp=False), 2 * L * 10 * D),
    (UniPELT(AP, mlp=False), 1_097_304),
    (UniPELT(APL, mlp=False), 1_410_672),
    (Pfeiffer(48), L * (2 * D * 48 + 48 + D)),
    (Houlsby(24, form="adapterhub"), 2 * L * (2 * D * 24 + 24 + D)),
    (Houlsby(24), 2 * L * (2 * D * 24 + 24 + D) + 4 * L * D + 2 * D),
    (Compacter(), 57_088),
    (CompacterPlusPlus(), 28_576),
    (IA3(), 55_296),
    (VeRA(r=1024), 43_008),
    (Hadamard(), 36_864),
]
# The parameter columns, row by row, in millions.
FIGURES = {
    1: "110 0.9 0.1 0.2 0.3 1.1 1.4 0.9 0.9 0.6 0.6 0.4",
    2: "355 6 0.8 3 0.8 0.8 0.8 0.6 1.0",
    3: "0.1 0.2 0.5 0.7 0.9 3.6 0.1 0.2 0.4 0.6",
}


@pytest.mark.parametrize(("method", "parameters"), EXACT, ids=lambda value: getattr(value, "name", ""))
def test_what_a_method_trains_of_bert_base(method: Method, parameters: int):
    assert count("bert-base", method)["method"] == parameters


@pytest.mark.parametrize("encoder", NAMED)
@pytest.mark.parametrize("method", [Full(), Prefix(), AdaKron()], ids=lambda method: method.name)
def test_a_count_without_the_layers_computation_is_that_of_the_whole_model(encoder: str, method: Method):
    counted, short = count_params(encoder, method, 2), count(encoder, method)
    assert (short["method"], short["with head"]) == (counted["method"], counted["method"] + counted["head"])


def test_every_row_of_the_paper_is_there():
    assert {table: " ".join(row.millions for row in ROWS if row.table == table) for table in FIGURES} == FIGURES


@pytest.mark.parametrize("row", [row for row in ROWS if row.table != 2], ids=lambda row: f"{row.table}-{row.system}")
def test_tables_1_and_3_agree(row: Row):
    assert row.convention() == PAPERS


def test_table_2_agrees_by_these_conventions():
    others = {"Fine-Tuning": "with the head / 10^6", "AdaKron 32": "weights / 2^20"}
    rows = [row for row in ROWS if row.table == 2]
    assert {row.system: row.convention() for row in rows} == {row.system: PAPERS for row in rows} | others


def test_the_notes_hold():
    def by(encoder: str, method: Method, figure: str) -> set[str]:
        row = Row(2, "", encoder, method, figure)
        return {name for name in CONVENTIONS if rounds_to(row.value(name), figure)}

    assert PAPERS in by("bert-base", Full(), "109")
    assert PAPERS in by("roberta-large", Full(), "354")
    assert PAPERS in by("bert-base", Houlsby(24, "google"), "0.9")
    assert PAPERS in by("roberta-large", Houlsby(8, "google"), "0.9")
    for method, figure in ((Houlsby(64, "adapterhub"), "6.0"), (Pfeiffer(64), "3.0")):
        assert by("roberta-large", method, figure) == {"with biases / 2^20", "weights / 2^20"}


@pytest.mark.parametrize(
    ("value", "figure", "fine"),
    [
        ("109.48", "110", True),
        ("104.9", "110", False),
        ("354.3", "355", False),
        ("354.6", "355", True),
        ("6.34", "6", True),
        ("6.34", "6.0", False),
        ("1.031", "1.0", True),
        ("1.055", "1.0", False),
        ("0.95", "1", True),
    ],
)
def test_a_count_is_rounded_to_the_digits_printed(value: str, figure: str, fine: bool):
    assert rounds_to(Decimal(value), figure) == fine


@pytest.mark.parametrize(
    ("method", "text"),
    [
        (AdaKron(), "adakron factors=12,4"),
        (AdaKron((8, 4), "pfeiffer"), "adakron factors=8,4 place=pfeiffer"),
        (Prefix(mlp=False), "prefix length=10 mlp=false"),
        (BitFit(), "bitfit"),
    ],
)
def test_a_method_is_described_by_what_tells_it_from_others(method: Method, text: str):
    assert described(method) == text


def test_the_command_prints_a_line_for_each_row(capsys: pytest.CaptureFixture[str]):
    assert main(["params", "--paper"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert max(map(len, lines)) <= 110
    starts = [lines.index(next(line for line in lines if line.startswith(f"Table {table}:"))) for table in FIGURES]
    for table, (start, end) in zip(FIGURES, zip(starts, [*starts[1:], None], strict=True), strict=True):
        rows = [row for row in ROWS if row.table == table]
        printed = lines[start + 2 : end][: len(rows)]
        for row, line in zip(rows, printed, strict=True):
            for text in (row.system, described(row.method), row.millions, "yes"):
                assert text in line
        # A table's columns stand one under the other.
        assert len({line.index("yes") for line in printed}) == 1
    for count_of in ("599,232", "1,106,208", "184,320", "894,528", "1,410,672", "354,310,144"):
        assert f" {count_of} " in out
    for note in ("AdaMix Adapter: what is kept after training; 2,223,360 are trained", "354 without the head"):
        assert note in out


@pytest.mark.parametrize("table", [1, 2])
def test_what_does_not_agree_is_printed_so(monkeypatch: pytest.MonkeyPatch, table: int):
    monkeypatch.setattr(sizes, "ROWS", [Row(table, "LoRA", "bert-base", LoRA(), "0.4")])
    *_, line = sizes.lines()
    assert line.split() == ["LoRA", "lora", "r=8", "294,912", "0.295", "0.4", "no"]


@pytest.mark.parametrize("flag", ["--method lora", "--encoder bert-base", "--labels 3", "--method.factors 8 4"])
def test_it_takes_no_other_flag(capsys: pytest.CaptureFixture[str], flag: str):
    assert main(["params", "--paper", *flag.split()]) == 2
    out, err = capsys.readouterr()
    name = flag.split()[0]
    assert (out, err) == ("", f"adakron: {name} is given with --paper; accepted: --paper alone\n")
