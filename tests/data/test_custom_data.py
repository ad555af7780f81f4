"""A table of one's own as a task: where its rows are, and what they ask for."""

import json
from pathlib import Path

import pytest

from adakron_jax.data.table import Table
from adakron_jax.data.writer import writing
from adakron_jax.problems import make
from train.data.custom_data import CustomData, load
from train.data.sources import MINI, read_hub, repository, split_named, table_name, unused_files
from train.data.splits import share

REVIEWS = MINI / "reviews.csv"


def own(data: Path | str, **fields) -> CustomData:
    known = {"name": "own", "texts": ("text",), "label": ("label",)}
    return CustomData(data=str(data), **(known | fields))


def write(path: Path, texts: list[str], labels: list) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path) as add:
        add(Table("test", range(len(texts)), {"text": texts, "label": labels}))
    return path


def test_the_built_in_table_is_a_classification_of_three():
    task, rows = load(own(REVIEWS, texts=("review",), label=("sentiment",)))
    assert task.problem == make("classification", ("mixed", "negative", "positive"))
    assert (task.metrics, task.best_by) == (("accuracy", "macro_f1", "weighted_f1", "matthews"), "accuracy")
    assert list(rows) == ["train"]
    assert len(set(rows["train"]["review"])) == len(rows["train"]) == 90


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_a_folder_has_splits_of_any_format(tmp_path: Path, suffix: str):
    for split, label in (("train", "a"), ("dev", "b")):
        write(tmp_path / f"{split}{suffix}", [split, "x"], [label, "a" if label == "b" else "b"])
    _, rows = load(own(tmp_path, validation="dev"))
    assert {name: part["text"][0] for name, part in rows.items()} == {"train": "train", "validation": "dev"}
    assert split_named(str(tmp_path), "dev") == "dev"
    assert split_named(str(tmp_path), "validation") == "dev"
    assert not split_named(str(tmp_path), "test")
    write(tmp_path / "train.ndjson", ["other"], ["a"])
    unused = "train.ndjson" if suffix == ".parquet" else f"train{suffix}"
    assert unused_files(tmp_path, ("train", "dev")) == [unused]


def test_another_file_may_take_the_place_of_a_split(tmp_path: Path):
    train, test = write(tmp_path / "a.csv", ["x", "y"], ["0", "1"]), write(tmp_path / "b.jsonl", ["z"], [1])
    task, rows = load(own(train, test=str(test)))
    assert rows["test"]["text"] == ["z"]
    assert task.problem.labels == ("0", "1")
    assert not split_named(str(train), "test")


def test_the_fingerprint_is_of_the_data_and_what_they_mean(tmp_path: Path):
    labels = ["0", "1", "0"]
    first = write(tmp_path / "a.csv", ["x", "y", "z"], labels)
    same, other = write(tmp_path / "b.tsv", ["x", "y", "z"], labels), write(tmp_path / "c.csv", ["x", "y", "w"], labels)
    fingerprints = [load(own(path))[0].fingerprint for path in (first, same, other)]
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]
    assert load(own(first, problem="regression"))[0].fingerprint not in fingerprints
    assert load(own(first, validation=str(other)))[0].fingerprint not in fingerprints


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("a/reviews.csv", "reviews"),
        ("a/banking77/", "banking77"),
        ("hub:me/set:small", "set-small"),
        ("b/x.v2", "x.v2"),
    ],
)
def test_a_run_is_named_after_its_table(data: str, name: str):
    assert table_name(data) == name


def test_a_share_is_more_than_none_and_less_than_all():
    assert share("0.25") == 0.25
    assert share("validation") == share("a.csv") == 0
    for said in ("0", "1", "-0.1", "nan", "10"):
        with pytest.raises(ValueError, match=f"'{said}' is not a share; accepted: more than 0, less than 1"):
            share(said)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"texts": ("a", "b", "c")}, "text is 'a b c'; accepted: one column, or two of pairs"),
        ({"label": ()}, "label is empty; accepted: a column"),
        ({"texts": ("label",)}, "column 'label' is given twice, in text and label"),
    ],
)
def test_columns_are_for_one_thing(fields: dict, message: str):
    with pytest.raises(ValueError, match=message):
        own("a.csv", **fields)


def test_data_that_are_not_there_are_refused(tmp_path: Path):
    path = write(tmp_path / "a.csv", ["x", "y"], ["0", "1"])
    with pytest.raises(ValueError, match=r"nowhere\.csv: no such file; accepted: a file, .csv"):
        load(own(tmp_path / "nowhere.csv"))
    with pytest.raises(ValueError, match=r"has no split 'train'; available: a\.csv"):
        load(own(tmp_path))
    with pytest.raises(ValueError, match=r"'dev' is no file, and .*a\.csv has no splits; accepted: a share, or a file"):
        load(own(path, validation="dev"))
    with pytest.raises(ValueError, match=r"a\.csv has no column 'body'; available: 'text', 'label'"):
        load(own(path, texts=("body",)))
    with pytest.raises(ValueError, match="data is 'hub:'; accepted: hub:OWNER/NAME"):
        load(own("hub:"))
    with pytest.raises(ValueError, match="data 'hub:no/such': not in the cache, and the hub cannot be reached"):
        load(own("hub:no/such"))


def test_a_data_set_that_cannot_be_read_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)  # a folder here is taken as a data set of the hub
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    parts = [{"config_name": name, "data_files": [{"split": "train", "path": f"{name}.csv"}]} for name in "ab"]
    for name, files in {
        "org/two": {
            "README.md": f"---\n{json.dumps({'configs': parts})}\n---\n",
            "a.csv": "text\nx\n",
            "b.csv": "text\ny\n",
        },
        "org/bad": {"train.csv": 'text,label\n"never ends,a\n'},
    }.items():
        Path(name).mkdir(parents=True)
        for file, text in files.items():
            Path(name, file).write_text(text)
    choice = r"the configuration has to be one of \['a', 'b'\]; accepted: hub:OWNER/NAME:CONFIG$"
    for data, split, message in (
        ("hub:org/two", "train", choice),
        ("hub:org/two:c", "train", choice),
        ("hub:org/two:a", "training", r"no split 'training'; accepted: \['train'\]$"),
        ("hub:org/bad", "train", r"\(ParserError: Error tokenizing data"),
    ):
        with pytest.raises(ValueError, match=f"^data '{data}': .*{message}"):
            read_hub(*repository(data), split, ["text"])
