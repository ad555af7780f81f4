"""`adakron evaluate`: what it prints and writes, and how it refuses a table in one line."""

import json
import re
import shutil
from pathlib import Path

import jax
import pytest

import adakron_jax as ak
from adakron_jax.cli.evaluate import trained_on
from adakron_jax.cli.main import main
from adakron_jax.evaluation import Assessment
from adakron_jax.problems import from_json

ROWS = [("good film", "positive"), ("bad film", "negative"), ("a fine one", "positive"), ("", "negative")]


def save(folder: Path, tiny: Path, labels: list[str] | int, problem: str, *texts: str) -> Path:
    """Writes an adapter as it is before any training."""
    model, params = ak.from_pretrained(
        str(tiny), ak.AdaKron((3, 2)), labels=labels, problem=problem, key=jax.random.key(0)
    )
    ak.save_adapter(folder, model, params, base=str(tiny), labels=labels, problem=problem, texts=texts)
    return folder


@pytest.fixture(scope="module")
def adapter(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("a") / "adapter", tiny, ["negative", "positive"], "classification", "review")


def write(path: Path, rows: list[tuple[str, ...]], header: tuple[str, ...] = ("review", "label")) -> str:
    path.write_text("".join(",".join(row) + "\n" for row in [header, *rows]), encoding="utf-8")
    return str(path)


def test_it_prints_and_writes_scores_of_a_table(adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    data = write(tmp_path / "data.csv", ROWS)
    outputs = ["--json", str(tmp_path / "out.json"), "--page", str(tmp_path / "out.html")]
    assert main(["evaluate", str(adapter), data, *outputs]) == 0
    shown = capsys.readouterr()
    assert "4 examples, 2 labels" in shown.out
    assert shown.out.endswith(f"page: {tmp_path / 'out.html'}\n")
    assert shown.err == "warning: 1 empty texts\n"
    values = json.loads((tmp_path / "out.json").read_text())
    texts, labels = zip(*ROWS, strict=True)
    assessed = ak.TextClassifier.load(adapter).evaluate(texts, labels)
    assert values["accuracy"] == assessed["accuracy"]
    assert {**values, "mistakes": []} == {**json.loads(json.dumps(assessed.to_dict())), "mistakes": []}
    assert Assessment.from_json(values, from_json(values["problem"])).examples == 4
    assert (tmp_path / "out.html").read_text().startswith("<!doctype html>")
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(("trained", "warned"), [("data.csv", True), (".", False), ("other.csv", False)])
def test_rows_that_trained_are_warned_of(
    adapter: Path, tmp_path: Path, trained: str, warned: bool, capsys: pytest.CaptureFixture[str]
):
    shutil.copytree(adapter, tmp_path / "run/adapter")
    config = {"data": str(tmp_path / trained), "train_split": "train"}
    (tmp_path / "run/config.toml").write_text("".join(f"{key} = {value!r}\n" for key, value in config.items()))
    data = write(tmp_path / "data.csv", ROWS)
    assert main(["evaluate", str(tmp_path / "run"), data]) == 0
    assert ("run was trained on rows of" in capsys.readouterr().err) == warned
    assert trained_on(str(tmp_path / "run/adapter"), tmp_path / "train.csv") == (trained == ".")


def test_the_precision_may_be_said(adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    data, losses = write(tmp_path / "data.csv", ROWS), {}
    for precision in ("f32", "bf16"):
        out = tmp_path / f"{precision}.json"
        assert main(["evaluate", str(adapter), data, "--precision", precision, "--json", str(out)]) == 0
        losses[precision] = json.loads(out.read_text())["calibration_error"]
    assert losses["bf16"] != losses["f32"]
    assert losses["bf16"] == pytest.approx(losses["f32"], abs=0.02)
    assert main(["evaluate", str(adapter), data, "--precision", "int8"]) == 2
    assert "--precision: invalid choice: 'int8' (choose from" in capsys.readouterr().err


def test_labels_may_be_given_by_their_codes(adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """As GLUE's files have them; it is said."""
    coded = [(text, str(int(label == "positive"))) for text, label in ROWS]
    for name, rows in (("named", ROWS), ("coded", coded)):
        data = write(tmp_path / f"{name}.csv", rows)
        assert main(["evaluate", str(adapter), data, "--json", str(tmp_path / f"{name}.json")]) == 0
        said = "label: read as the codes of labels: 0 (negative), 1 (positive)\n"
        assert (said in capsys.readouterr().err) == (name == "coded")
    assert (tmp_path / "coded.json").read_bytes() == (tmp_path / "named.json").read_bytes()


def test_the_labels_of_json_are_those_of_a_csv(tiny: Path, tmp_path: Path):
    folder = save(tmp_path / "adapter", tiny, ["false", "true"], "classification", "review")
    write(tmp_path / "texts.csv", [(text, str(label == "positive")) for text, label in ROWS])
    records = [json.dumps({"review": text, "label": label == "positive"}) for text, label in ROWS]
    (tmp_path / "values.jsonl").write_text("\n".join(records))
    for name in ("texts.csv", "values.jsonl"):
        assert main(["evaluate", str(folder), str(tmp_path / name), "--json", str(tmp_path / f"{name}.out")]) == 0
    assert (tmp_path / "texts.csv.out").read_bytes() == (tmp_path / "values.jsonl.out").read_bytes()


def test_numbers_are_never_codes_of_labels_that_are_numbers(tiny: Path, tmp_path: Path):
    folder = save(tmp_path / "adapter", tiny, ["1.0", "2.0", "3.0"], "classification", "review")
    data = write(tmp_path / "data.csv", [(text, str(1 + i % 2)) for i, (text, _) in enumerate(ROWS)])
    assert main(["evaluate", str(folder), data, "--json", str(tmp_path / "out.json")]) == 0
    labels = json.loads((tmp_path / "out.json").read_text())["labels"]
    assert {each["label"]: each["support"] for each in labels} == {"1.0": 2, "2.0": 2, "3.0": 0}


def test_pairs_of_texts_and_numbers_in_their_unit(tiny: Path, tmp_path: Path):
    folder = save(tmp_path / "adapter", tiny, 1, "regression", "one", "two")
    data = write(tmp_path / "data.csv", [("a", "b", "-100"), ("c", "d", "400")], ("one", "two", "score"))
    assert main(["evaluate", str(folder), data, "--label", "score", "--json", str(tmp_path / "out.json")]) == 0
    values = json.loads((tmp_path / "out.json").read_text())
    assert values["rmse"] > 100
    assert values["mistakes"][0]["texts"] == ["c", "d"]
    assert values["mistakes"][0]["target"] == 400


@pytest.mark.parametrize(
    ("rows", "flags", "message"),
    [
        ([*ROWS, ("x", "neutral")], [], r"row 6: label is 'neutral'; accepted: 0 \(negative\), 1 \(positive\)"),
        ([*ROWS, ("x", "")], [], r"row 6: label"),
        (ROWS[::2], [], r"label has only 'positive'; accepted: at least two labels"),
        (ROWS, ["--label", "mood"], r"no column 'mood'; available: 'review', 'label'"),
        (ROWS, ["--text", "words"], r"no column 'words'; available: 'review', 'label'"),
        ([], [], r"no rows"),
        (ROWS, ["--json", "nowhere/out.json"], r"'nowhere/out.json' cannot be written"),
        ([("x",)], [], r"row 2: 1 fields; accepted: the header's 2"),
    ],
)
def test_a_table_that_does_not_go_with_the_run_is_refused_in_one_line(
    adapter: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    rows: list[tuple[str, ...]],
    flags: list[str],
    message: str,
):
    data = write(tmp_path / "data.csv", rows)
    assert main(["evaluate", str(adapter), data, "--page", str(tmp_path / "out.html"), *flags]) == 2
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert re.search(message, shown.err)
    assert [path.name for path in tmp_path.iterdir()] == ["data.csv"]


def test_what_is_no_run_and_no_table_is_refused_in_one_line(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    data = write(tmp_path / "data.csv", ROWS)
    (tmp_path / "noise.csv").write_bytes(bytes(range(256)) * 10)
    for arguments in ([str(tmp_path / "none"), data], [str(adapter), str(tmp_path / "noise.csv")], [str(adapter)]):
        assert main(["evaluate", *arguments]) == 2
        shown = capsys.readouterr()
        assert shown.err.count("\n") == 1
        assert not shown.out
