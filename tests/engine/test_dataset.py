"""What a configuration trains on, chooses by and is scored on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from train.data.sources import MINI
from train.engine.dataset import Loader, described
from train.options.config import RunConfig
from train.options.model import Pretrained

REVIEWS = str(MINI / "reviews.csv")
REVIEW = {"task": "reviews", "data": REVIEWS, "text": ("review",), "label": ("sentiment",)}


@pytest.fixture
def loader(tiny: Path) -> Loader:
    return Loader(Pretrained(str(tiny)))


def config(**fields: Any) -> RunConfig:
    return RunConfig(**({"max_length": 64} | fields))


def test_of_glue_the_development_sets_choose(loader: Loader):
    parts = loader.splits(config(task="mnli", data="mini", limit_train=9, limit_eval=5))
    assert (len(parts.train), {name: len(part) for name, part in parts.validation.items()}) == (
        9,
        {"validation_matched": 5, "validation_mismatched": 5},
    )
    assert (parts.test, parts.repeated) == ({}, {})


def test_a_share_of_glues_training_set_chooses_and_leaves_the_development_sets_for_the_end(loader: Loader):
    whole = loader.splits(config(task="rte", data="mini"))
    parts = loader.splits(config(task="rte", data="mini", validation="0.25"))
    assert abs(len(parts.validation["held_out"]) - len(whole.train) / 4) < 1
    assert len(parts.train) + len(parts.validation["held_out"]) == len(whole.train)
    assert parts.test["validation"] is whole.validation["validation"]


def test_a_tenth_of_a_table_chooses_where_nothing_else_is_said(loader: Loader):
    parts = loader.splits(config(**REVIEW))
    assert (len(parts.train), len(parts.validation["validation"]), parts.test) == (81, 9, {})
    assert np.bincount(parts.validation["validation"].labels).tolist() == [3, 3, 3]
    assert len(parts.task.fingerprint) == 64
    assert list(described(parts)) == [
        "reviews: classification of 3 labels: mixed, negative, positive",
        "validation: 9 rows select the best epoch",
        "note: validation is small: an accuracy on 9 rows has a standard error of up to 17 points",
    ]


def test_no_runs_seed_moves_a_row_and_every_split_seed_does(loader: Loader):
    rows = [loader.splits(config(**REVIEW, **seeds)).rows for seeds in ({}, {"seed": 5}, {"split_seed": 1})]
    assert rows[0] == rows[1] != rows[2]


def test_folds_choose_one_after_another(loader: Loader):
    rows = [loader.splits(config(**REVIEW, folds=3, fold=fold)).rows["validation"] for fold in (1, 2, 3)]
    assert sorted(row for fold in rows for row in fold) == list(range(1, 91))


def test_a_folders_own_validation_split_chooses_and_a_named_one_is_scored(loader: Loader, tmp_path: Path):
    lines = Path(REVIEWS).read_text().splitlines(keepends=True)
    for name, rows in {"train": lines[1:], "validation": lines[1:5], "other": lines[5:9]}.items():
        (tmp_path / "own").mkdir(exist_ok=True)
        (tmp_path / f"own/{name}.csv").write_text("".join([lines[0], *rows]))
    parts = loader.splits(config(**(REVIEW | {"data": str(tmp_path / "own"), "test": "other"})))
    assert (len(parts.validation["validation"]), len(parts.test["test"])) == (4, 4)
    assert parts.repeated == {"validation": 4, "test": 4}
    assert list(described(parts))[1:] == [
        "validation: 4 rows select the best epoch; 4 of them are also training rows",
        "note: validation is small: an accuracy on 4 rows has a standard error of up to 25 points",
        "test: 4 rows are scored once at the end; 4 of them are also training rows",
        "note: test is small: an accuracy on 4 rows has a standard error of up to 25 points",
    ]


def test_documents_of_tagged_words_stay_together_and_all_pieces_may_have_labels(loader: Loader, tmp_path: Path):
    sentence = "Annabella\tB-person\nlives\tO\n\n"
    (tmp_path / "a.conll").write_text("".join(f"-DOCSTART-\tO\n\n{sentence * 3}" for _ in range(10)))
    given = {"data": str(tmp_path / "a.conll"), "text": ("text",), "label": ("label",), "validation": "0.2"}
    first, whole = (loader.dataset(config(**given, task="a", label_pieces=which)) for which in ("first", "all"))
    rows = first.rows["validation"]
    assert len(rows) == 6
    assert {(row - 1) // 3 * 3 + 1 for row in rows} | {(row - 1) // 3 * 3 + 3 for row in rows} <= set(rows)
    assert (first.train.labels >= 0).sum() == 48 < (whole.train.labels >= 0).sum()
    assert (first.validation["validation"].labels == whole.validation["validation"].labels).all()


def test_classes_may_weigh_the_same(loader: Loader):
    parts = loader.splits(config(task="cola", data="mini", class_weights="balanced"))
    weights = [parts.train.weights[parts.train.labels == code].sum() for code in (0, 1)]
    assert weights[0] == pytest.approx(weights[1])
    with pytest.raises(ValueError, match="class_weights is 'balanced'; accepted for a regression: none"):
        loader.splits(config(task="stsb", data="mini", class_weights="balanced"))


def test_empty_and_long_texts_are_counted(loader: Loader, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "a.csv"
    path.write_text('text,label\n"",a\ncat,b\n' + f"{'cat ' * 25_000},a\n" + "dog,b\n")
    parts = loader.splits(config(task="a", data=str(path), text=("text",), validation="0.5"))
    assert parts.train.lengths.max() <= 64
    said = capsys.readouterr().out
    assert "a.csv: 4 rows, 1 empty texts, kept" in said
    assert "a.csv: 4 rows, 1 cut at 64 tokens" in said


@pytest.mark.parametrize(
    ("lines", "fields", "message"),
    [
        (["x,a", "y,a"], {}, r"a\.csv: label has only 'a'; accepted: at least two labels"),
        (["x,a", "y,"], {}, r"a\.csv, row 3: label is empty"),
        (["x,a", "y,b"], {"text": ("body",)}, r"a\.csv has no column 'body'; available: 'text', 'label'"),
        (["x,a", "y,b"], {}, "validation: no row of 2 falls to it"),
        (["x,a", "y,b", "z,c"], {"limit_train": 2, "validation": REVIEWS}, "has no column 'text'; available: 'review'"),
        (["x,a", "y,b", "z,c"], {"limit_train": 2, "validation": "{folder}/a.csv"}, "2 training rows for 3 classes"),
        (["x,a", "y,b"], {"validation": "{folder}/b.csv"}, r"b\.csv, row 2: label is 'new'; accepted: a, b"),
        (["x,1.5", "y,2", "z,n/a"], {}, r"a\.csv, row 4: label is 'n/a'; accepted: a number as in other rows"),
        (["x,a,b", "y,b"], {}, r"a\.csv, row 2: 3 fields; accepted: the header's 2"),
    ],
)
def test_a_table_that_cannot_be_learned_from_is_refused(loader, tmp_path, lines, fields, message):
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    (tmp_path / "b.csv").write_text("text,label\nq,new\n")
    fields = {key: value.format(folder=tmp_path) if isinstance(value, str) else value for key, value in fields.items()}
    known = {"task": "a", "data": str(tmp_path / "a.csv"), "text": ("text",)}
    with pytest.raises(ValueError, match=message) as refusal:
        loader.splits(config(**(known | fields)))
    assert "\n" not in str(refusal.value)
