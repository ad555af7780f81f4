"""Reading, checking, tokenising and caching of examples, and the built-in data."""

import csv
import dataclasses
import json
import shutil
import sys
import threading
from concurrent import futures
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from adakron_jax.data.examples import Examples
from adakron_jax.data.table import Table
from adakron_jax.tokenizer import Tokenizer
from train.data import sources, token_cache
from train.data.glue import BOUNDS, TASKS

RTE, SST2, STSB = TASKS["rte"], TASKS["sst2"], TASKS["stsb"]
WORDS = ["a", "the", "cat", "dog", "sat", "ran", "on", "mat", "!", ",", "'", '"']
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
ROWS = [
    {"sentence1": "the cat sat", "sentence2": 'a dog, "the" dog\'s', "label": 0},
    {"sentence1": "Zoë ran — \u2028on", "sentence2": "日本", "label": 1},
    {"sentence1": "a mat", "sentence2": "on a mat", "label": 1},
]


def write_tokenizer(folder: Path, vocabulary: list[str] = VOCABULARY) -> Path:
    folder.mkdir()
    said = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 512}
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    return folder


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def tokenizer(tokenizer_folder: Path) -> Tokenizer:
    return Tokenizer(tokenizer_folder, len(VOCABULARY))


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        lines = ["\t".join(map(str, line)) for line in (rows[0], *(row.values() for row in rows))]
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def write_bytes(path: Path, contents: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(contents)
    return path


def load(folder: Path, tokenizer: Any, task=RTE, split: str = "train", max_length: int = 64) -> Examples:
    return token_cache.load(str(folder), task, split, tokenizer, max_length, cache=folder / "cache")


def words(examples: Examples, i: int) -> list[str]:
    return [VOCABULARY[token] for token in examples.tokens[examples.offsets[i] : examples.offsets[i + 1]]]


def cached_files(folder: Path) -> list[Path]:
    """What is kept there, and half-written files, but no locks."""
    return [path for path in (folder / "cache").rglob("*") if path.is_file() and path.parent.name != "locks"]


@pytest.mark.parametrize("suffix", ["parquet", "tsv", "csv", "jsonl"])
def test_every_format_gives_the_same_rows_and_examples(tmp_path: Path, tokenizer: Any, suffix: str):
    write(tmp_path / f"rte/train.{suffix}", ROWS)
    rows = sources.read(str(tmp_path), RTE, "train")
    assert [rows["sentence1"], rows["sentence2"]] == [[row[key] for row in ROWS] for key in RTE.texts]
    examples = load(tmp_path, tokenizer)
    assert len(examples) == 3
    assert examples.labels.tolist() == [0, 1, 1]
    assert examples.labels.dtype == np.int32
    assert words(examples, 2) == ["[CLS]", "a", "mat", "[SEP]", "on", "a", "mat", "[SEP]"]
    assert examples.token_types[examples.offsets[2] :].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert examples.lengths.tolist() == [15, 9, 8]
    assert examples.empty_texts == 0


def test_shards_named_as_on_the_hub_are_joined_in_order(tmp_path: Path):
    write(tmp_path / "rte/train-00001-of-00002.parquet", ROWS[2:])
    write(tmp_path / "rte/train-00000-of-00002.parquet", ROWS[:2])
    rows = sources.read(str(tmp_path), RTE, "train")
    assert rows["sentence1"] == [row["sentence1"] for row in ROWS]
    assert rows["label"] == [RTE.labels[row["label"]] for row in ROWS]


def test_a_split_whose_name_begins_like_another_is_never_taken_for_it(tmp_path: Path):
    for name in ("train_partial", "train-partial", "train-00000-of-x", "trained", "validation"):
        write(tmp_path / f"rte/{name}.tsv", ROWS[:1])
    with pytest.raises(ValueError, match="no split 'train'; available: .*train_partial.tsv"):
        sources.read(str(tmp_path), RTE, "train")
    write(tmp_path / "rte/train.tsv", ROWS)
    assert len(sources.read(str(tmp_path), RTE, "train")) == 3


def test_mnlis_dev_splits_are_read_each_from_its_own_file(tmp_path: Path):
    for split in ("validation_matched", "validation_mismatched"):
        write(tmp_path / f"mnli/{split}.tsv", [{"premise": split, "hypothesis": "a", "label": 2}])
        assert sources.read(str(tmp_path), TASKS["mnli"], split)["premise"] == [split]


@pytest.mark.parametrize("suffix", ["parquet", "tsv", "csv", "jsonl"])
def test_labels_may_be_names(tmp_path: Path, tokenizer: Any, suffix: str):
    rows = [row | {"label": RTE.labels[row["label"]]} for row in ROWS]
    write(tmp_path / f"rte/train.{suffix}", rows)
    assert load(tmp_path, tokenizer).labels.tolist() == [0, 1, 1]


def test_a_regressions_labels_are_numbers_up_to_both_ends_of_the_range(tmp_path: Path, tokenizer: Any):
    write(tmp_path / "stsb/train.tsv", [ROWS[0] | {"label": label} for label in ("0", "2.6", "5.0")])
    labels = load(tmp_path, tokenizer, STSB).labels
    assert labels.dtype == np.float64
    assert labels.tolist() == [0, 2.6, 5]


def test_columns_beside_those_of_the_task_are_ignored_in_any_order(tmp_path: Path, tokenizer: Any):
    write(tmp_path / "sst2/train.tsv", [{"idx": 7, "label": 1, "note": "dog", "sentence": "a cat"}])
    assert words(load(tmp_path, tokenizer, SST2), 0) == ["[CLS]", "a", "cat", "[SEP]"]


def test_an_unknown_folder_is_refused_with_what_is_accepted(tmp_path: Path):
    with pytest.raises(ValueError, match="nowhere'?: no such folder; accepted: hub, mini, or a folder"):
        sources.read(str(tmp_path / "nowhere"), RTE, "train")


def test_a_folder_without_the_task_is_refused_with_what_is_there(tmp_path: Path):
    with pytest.raises(ValueError, match="no task 'rte'; available: nothing"):
        sources.read(str(tmp_path), RTE, "train")
    for name in ("sst2", "cola"):
        (tmp_path / name).mkdir()
    (tmp_path / "rte").write_text("a file, not a folder")
    with pytest.raises(ValueError, match="no task 'rte'; available: cola, sst2$"):
        sources.read(str(tmp_path), RTE, "train")


def test_a_task_without_the_split_is_refused_with_what_is_there(tmp_path: Path):
    write(tmp_path / "rte/validation.tsv", ROWS)
    with pytest.raises(ValueError, match=r"rte has no split 'train'; available: validation\.tsv$"):
        sources.read(str(tmp_path), RTE, "train")


@pytest.mark.parametrize(
    ("suffix", "row"), [("parquet", "row 3"), ("jsonl", "row 3"), ("tsv", "row 4"), ("csv", "row 4")]
)
def test_a_label_out_of_range_is_refused_with_its_row(tmp_path: Path, tokenizer: Any, suffix: str, row: str):
    for label in ("2", "-1", "maybe", ""):
        write(
            tmp_path / f"rte/train.{suffix}",
            [a_row | {"label": code} for a_row, code in zip(ROWS, ["0", "1", label], strict=True)],
        )
        accepted = r"accepted: 0 \(entailment\), 1 \(not_entailment\)"
        with pytest.raises(ValueError, match=rf"train\.{suffix}, {row}: label is '{label}'; {accepted}"):
            load(tmp_path, tokenizer)


@pytest.mark.parametrize("label", ["-0.1", "5.01", "nan", "inf", "high", ""])
def test_a_regressions_label_out_of_range_is_refused(tmp_path: Path, tokenizer: Any, label: str):
    write(tmp_path / "stsb/train.tsv", [ROWS[0] | {"label": label}])
    with pytest.raises(ValueError, match=r"train\.tsv, row 2: label is .*; accepted: a number from 0 to 5"):
        load(tmp_path, tokenizer, STSB)


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_a_missing_text_is_an_empty_one(tmp_path: Path, tokenizer: Any, suffix: str):
    write(tmp_path / f"rte/train.{suffix}", [ROWS[0], ROWS[1] | {"sentence2": None}])
    examples = load(tmp_path, tokenizer)
    assert examples.empty_texts == 1
    assert words(examples, 1)[-2:] == ["[SEP]", "[SEP]"]


def test_a_text_that_cannot_be_written_in_utf_8_is_refused_with_its_row(tmp_path: Path, tokenizer: Any):
    write_bytes(tmp_path / "sst2/train.jsonl", b'{"sentence": "a", "label": 0}\n{"sentence": "\\ud83d", "label": 0}\n')
    with pytest.raises(ValueError, match=r"train\.jsonl, row 2: sentence"):
        load(tmp_path, tokenizer, SST2)


@pytest.mark.parametrize("suffix", ["tsv", "csv", "parquet"])
def test_a_file_of_columns_without_rows_is_refused(tmp_path: Path, tokenizer: Any, suffix: str):
    path = write(tmp_path / f"sst2/train.{suffix}", [{"sentence": "a", "label": 0}])
    if suffix == "parquet":
        parquet.write_table(parquet.read_table(path).slice(0, 0), path)
    else:
        path.write_text(path.read_text().splitlines(keepends=True)[0])
    with pytest.raises(ValueError, match=rf"train\.{suffix}: no rows; accepted: at least one"):
        load(tmp_path, tokenizer, SST2)


@pytest.mark.parametrize("keep", [3, 200, -20])
def test_a_damaged_parquet_file_is_refused_by_name(tmp_path: Path, keep: int):
    path = write(tmp_path / "rte/train.parquet", ROWS)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"rte/train\.parquet: "):
        sources.read(str(tmp_path), RTE, "train")


def test_an_empty_text_is_kept_and_counted(tmp_path: Path, tokenizer: Any):
    write_bytes(tmp_path / "rte/train.tsv", b"sentence1\tsentence2\tlabel\n\ta cat\t0\na dog\t  \t1\na\tmat\t1\n")
    examples = load(tmp_path, tokenizer)
    assert examples.empty_texts == 2
    assert [words(examples, i) for i in range(2)] == [
        ["[CLS]", "[SEP]", "a", "cat", "[SEP]"],
        ["[CLS]", "a", "dog", "[SEP]", "[SEP]"],
    ]


def test_an_example_is_cut_to_max_length_the_longer_text_first(tmp_path: Path, tokenizer: Any):
    long, short = " ".join(["cat"] * 30), "a dog"
    pairs = [(long, short), (short, long), (long, long), (short, short)]
    write(tmp_path / "rte/train.tsv", [{"sentence1": one, "sentence2": two, "label": 0} for one, two in pairs])
    examples = load(tmp_path, tokenizer, max_length=13)
    assert examples.lengths.tolist() == [13, 13, 13, 7]
    assert words(examples, 0) == ["[CLS]", *["cat"] * 8, "[SEP]", "a", "dog", "[SEP]"]
    assert words(examples, 1) == ["[CLS]", "a", "dog", "[SEP]", *["cat"] * 8, "[SEP]"]
    assert words(examples, 2) == ["[CLS]", *["cat"] * 5, "[SEP]", *["cat"] * 5, "[SEP]"]


def test_first_takes_whole_examples_from_the_front(tmp_path: Path, tokenizer: Any):
    write(tmp_path / "rte/train.tsv", ROWS)
    examples = load(tmp_path, tokenizer)
    two = examples.first(2)
    assert len(two) == 2
    assert two.labels.tolist() == [0, 1]
    assert two.offsets.tolist() == examples.offsets[:3].tolist()
    assert len(two.tokens) == len(two.token_types) == examples.offsets[2]
    assert [words(two, i) for i in range(2)] == [words(examples, i) for i in range(2)]
    assert all(examples.first(limit) is examples for limit in ("all", 3, 99))


@pytest.fixture
def tokenised(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for every time that a split is tokenised rather than taken from the cache."""
    tokenise, calls = token_cache.Making.tokenise, []

    def counting(making: token_cache.Making, rows: Table, split: str) -> Examples:
        calls.append(split)
        return tokenise(making, rows, split)

    monkeypatch.setattr(token_cache.Making, "tokenise", counting)
    return calls


def test_a_second_load_takes_the_same_examples_from_the_cache(
    tmp_path: Path, tokenizer_folder: Path, tokenizer: Any, tokenised: list[str]
):
    write(tmp_path / "rte/train.tsv", [*ROWS, {"sentence1": "", "sentence2": "a", "label": 0}])
    again = Tokenizer(tokenizer_folder, len(VOCABULARY))
    first, second, third = (load(tmp_path, each) for each in (tokenizer, tokenizer, again))
    assert len(tokenised) == 1
    for field in dataclasses.fields(Examples):
        expected = getattr(first, field.name)
        for other in (second, third):
            assert np.array_equal(getattr(other, field.name), expected)
            assert np.asarray(getattr(other, field.name)).dtype == np.asarray(expected).dtype
    assert first.empty_texts == 1


def test_what_is_in_the_cache_needs_neither_tokenizer_nor_reader(
    tmp_path: Path, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    write(tmp_path / "rte/train.parquet", ROWS)
    first = load(tmp_path, Tokenizer(tokenizer_folder, 99))
    for module in ("transformers", "pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, module, None)
    assert load(tmp_path, Tokenizer(tokenizer_folder, 99)).tokens.tolist() == first.tokens.tolist()


def test_what_was_loaded_before_a_split_does_not_decide_whether_it_is_cached(
    tmp_path: Path, tokenizer_folder: Path, tokenizer: Any, tokenised: list[str]
):
    for split in ("train", "validation"):
        write(tmp_path / f"rte/{split}.tsv", ROWS[: 2 if split == "train" else 3])
        load(tmp_path, tokenizer, split=split)
    assert len(tokenised) == 2
    assert len(load(tmp_path, Tokenizer(tokenizer_folder, len(VOCABULARY)), split="validation")) == 3
    assert len(tokenised) == 2


def test_of_two_that_want_the_same_split_at_once_one_tokenises_and_the_other_waits(
    tmp_path: Path, tokenizer: Any, tokenised: list[str], monkeypatch: pytest.MonkeyPatch
):
    write(tmp_path / "rte/train.tsv", ROWS)
    missing, is_file = threading.Barrier(2, timeout=60), Path.is_file
    waited: set[int] = set()

    def both_miss_it(path: Path) -> bool:
        there = is_file(path)
        if path.suffix == ".npz" and threading.get_ident() not in waited:
            waited.add(threading.get_ident())
            missing.wait()
        return there

    monkeypatch.setattr(Path, "is_file", both_miss_it)
    with futures.ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: load(tmp_path, tokenizer), range(2))
    assert tokenised == ["train"]
    assert one.tokens.tolist() == other.tokens.tolist()


def test_other_data_length_or_tokenizer_are_not_taken_from_the_cache(
    tmp_path: Path, tokenizer: Any, tokenised: list[str]
):
    path = write(tmp_path / "rte/train.tsv", ROWS)
    load(tmp_path, tokenizer)
    assert load(tmp_path, tokenizer, max_length=5).lengths.max() == 5
    other = Tokenizer(write_tokenizer(tmp_path / "other", [*VOCABULARY[:5], *WORDS[::-1]]), 99)
    assert load(tmp_path, other).tokens.tolist() != load(tmp_path, tokenizer).tokens.tolist()
    assert len(tokenised) == 3
    write(path, [*ROWS[:2], ROWS[2] | {"label": 0}])
    assert load(tmp_path, tokenizer).labels.tolist() == [0, 1, 0]
    write(path, [*ROWS[:2], ROWS[2] | {"sentence2": "the dog"}])
    assert words(load(tmp_path, tokenizer), 2) == ["[CLS]", "a", "mat", "[SEP]", "the", "dog", "[SEP]"]
    assert len(tokenised) == 5 == len(cached_files(tmp_path))


def test_the_cache_file_is_written_whole_or_not_at_all(tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path / "rte/train.tsv", ROWS)
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            load(tmp_path, tokenizer)
    assert cached_files(tmp_path) == []
    load(tmp_path, tokenizer)
    assert [path.suffix for path in cached_files(tmp_path)] == [".npz"]


def test_the_cache_lies_in_the_users_cache_folder_by_default(
    tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
):
    write(tmp_path / "rte/train.tsv", ROWS)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    token_cache.load(str(tmp_path), RTE, "train", tokenizer, 64)
    assert [path.relative_to(tmp_path).parts[:2] for path in cached_files(tmp_path)] == [("cache", "adakron-jax")]


def test_a_folder_without_a_tokenizer_is_refused_by_name(tmp_path: Path, tokenizer_folder: Path):
    for file in ("config.json", "tokenizer_config.json"):
        shutil.copy(tokenizer_folder / file, tmp_path)
        with pytest.raises(ValueError, match=f"^{tmp_path}: no usable tokenizer"):
            Tokenizer(tmp_path, 99)


def test_a_vocabulary_larger_than_the_encoders_is_refused(tokenizer_folder: Path):
    size = len(VOCABULARY)
    assert len(Tokenizer(tokenizer_folder, size).fast) == size
    with pytest.raises(ValueError, match=f"the tokenizer has {size} tokens, the encoder only {size - 1}"):
        _ = Tokenizer(tokenizer_folder, size - 1).fast


@pytest.mark.parametrize("name", TASKS)
def test_mini_has_enough_good_rows_of_every_class_and_none_twice(tmp_path: Path, tokenizer: Any, name: str):
    task = TASKS[name]
    least = {True: (400, 100), False: (64, 32)}[name in ("sst2", "rte")]
    seen: set[tuple[str, ...]] = set()
    for split in ("train", *task.dev_splits):
        examples = token_cache.load("mini", task, split, tokenizer, 512, cache=tmp_path)
        table = sources.read("mini", task, split)
        rows = list(zip(*(table[name] for name in task.texts), strict=True))
        assert len(examples) == len(rows) >= least[split != "train"]
        assert examples.empty_texts == 0
        if task.name in BOUNDS:
            assert np.ptp(examples.labels) >= 4
        else:
            assert set(examples.labels.tolist()) == set(range(task.problem.outputs))
        assert len(set(rows)) == len(rows)
        assert seen.isdisjoint(rows)
        seen.update(rows)
