"""Tables of every format: the same rows whichever, and a message with the row where one is wrong."""

import csv
import gzip
import io
import json
import time
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from adakron_jax.data import table
from adakron_jax.data.formats import WRITTEN
from adakron_jax.data.labels import decoded
from adakron_jax.data.table import Table
from adakron_jax.data.writer import writing

TEXTS = ['a "quoted", text', "two\nlines\r\nor three", "Zoë\u2028日本\ttab", " spaced ", "", "\u001b[31mred"]


def write(path: Path, columns: dict[str, list[Any]], quoted: bool | None = None) -> Path:
    count = len(next(iter(columns.values())))
    with writing(path, quoted) as add:
        add(Table("test", range(1, count + 1), columns))
    return path


def write_bytes(path: Path, contents: bytes) -> Path:
    path.write_bytes(contents)
    return path


@pytest.mark.parametrize("suffix", WRITTEN)
def test_what_is_written_is_read_back_whatever_the_format(tmp_path: Path, suffix: str):
    columns = {"text": TEXTS, "label": list("abcabc")}
    found = table.read(write(tmp_path / f"a{suffix}", columns, quoted=True), quoted=True)
    assert found.columns == columns
    assert len(found) == 6


@pytest.mark.parametrize("suffix", WRITTEN)
def test_parts_are_the_whole_in_order_with_the_same_row_numbers(tmp_path: Path, suffix: str):
    path = write(tmp_path / f"a{suffix}", {"text": TEXTS, "n": [str(i) for i in range(6)]}, quoted=True)
    whole, several = table.read(path, quoted=True), list(table.parts(path, size=4, quoted=True))
    assert [len(part) for part in several] == [4, 2]
    assert [number for part in several for number in part.numbers] == list(whole.numbers)
    assert [text for part in several for text in part["text"]] == TEXTS
    assert several[-1].share == 1


@given(
    st.lists(
        st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=2, max_size=2),
        min_size=1,
    )
)
def test_csv_is_read_as_the_standard_library_wrote_it(tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["a", "b"], *rows])
    found = table.read(path)
    assert [list(row) for row in zip(found["a"], found["b"], strict=True)] == rows


def test_a_row_is_numbered_by_the_line_on_which_it_begins(tmp_path: Path):
    path = write_bytes(tmp_path / "a.csv", b'\xef\xbb\xbftext,label\r\n\r\n"one\n\n two",x\r\n   \r\nthree,y\r\n')
    found = table.read(path)
    assert found.columns == {"text": ["one\n\n two", "three"], "label": ["x", "y"]}
    assert list(found.numbers) == [3, 7]
    assert found.at(1) == f"{path}, row 7"


def test_quotes_in_tsv_are_part_of_the_text_unless_told_otherwise(tmp_path: Path):
    path = write_bytes(tmp_path / "a.tsv", b'text\tlabel\n"the "" cat"\t0\n')
    assert table.read(path)["text"] == ['"the "" cat"']
    assert table.read(path, quoted=True)["text"] == ['the " cat']


def test_a_csv_of_one_column_keeps_its_empty_texts(tmp_path: Path):
    assert table.read(write_bytes(tmp_path / "a.csv", b'text\na\n""\n\nb\n'))["text"] == ["a", "", "b"]


def test_jsonl_has_the_columns_of_all_records_and_none_where_one_lacks_a_key(tmp_path: Path):
    path = write_bytes(tmp_path / "a.jsonl", b'{"a": 1}\n\n{"b": ["x", null], "a": true}\n')
    found = table.read(path)
    assert found.columns == {"a": [1, True], "b": [None, ["x", None]]}
    assert list(found.numbers) == [1, 3]


@pytest.mark.parametrize("suffix", WRITTEN)
def test_a_missing_column_is_named_with_those_there(tmp_path: Path, suffix: str):
    path = write(tmp_path / f"a{suffix}", {"review": ["a"], "e\u001bvil": ["b"]})
    with pytest.raises(ValueError, match=r"has no column 'text'; available: 'review', 'e\\x1bvil'$"):
        table.read(path, ["review", "text"])
    with pytest.raises(ValueError, match="has no column 'x'"):
        table.read(path)["x"]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_columns_without_rows_are_one_empty_table(tmp_path: Path, suffix: str):
    (found,) = table.parts(write(tmp_path / f"a{suffix}", {"text": [], "label": []}))
    assert found.columns == {"text": [], "label": []}


@pytest.mark.parametrize(
    ("name", "contents", "message"),
    [
        ("a.csv", b"a,b\n1,2\n\n1,2,3\n", r"a\.csv, row 4: 3 fields; accepted: the header's 2"),
        ("a.csv", b'a,b\n"x\ny",2\n1\n', r"a\.csv, row 4: 1 fields; accepted: the header's 2"),
        ("a.csv", b'a,b\n1,2\n"x,2\n3,4\n', r"a\.csv, row 3: unexpected end of data; accepted: quotes"),
        ("a.csv", b'a,b\n"x"y,2\n', r"a\.csv, row 2: .*; accepted: quotes around a whole field"),
        ("a.csv", b"a,b\n1,\xe9\n", r"a\.csv, row 2: not UTF-8"),
        ("a.tsv", b"a\tb\n1\t2\n3\n", r"a\.tsv, row 3: 1 fields; accepted: the header's 2"),
        ("a.tsv", b"a\tb\n1\t\xe9\n", r"a\.tsv, row 2: not UTF-8"),
        ("a.jsonl", b'{"a": "x"}\n{"a": "\xe9"}\n', r"a\.jsonl, row 2: not UTF-8"),
        ("a.csv", b"a,b\n1,\0\n", r"a\.csv, row 2: has a byte of 0"),
        ("a.csv", b"", r"a\.csv: no header"),
        ("a.csv", b"\n \n", r"a\.csv: no header"),
        ("a.csv", b"PAR1...", r"a\.csv: begins like parquet; accepted: what its suffix says"),
        ("a.csv", b"PK\3\4...", r"a\.csv: begins like a zip or a spreadsheet"),
        ("a.jsonl", b"\x1f\x8b...", r"a\.jsonl: begins like gzip"),
        ("a.jsonl", b'{"a": 1}\n{"a"\n', r"a\.jsonl, row 2: not JSON"),
        ("a.jsonl", b"[" * 100_000, r"a\.jsonl, row 1: not JSON"),
        ("a.jsonl", b"[1]\n", r"a\.jsonl, row 1: '\[1\]'; accepted: an object per line"),
        ("a.parquet", b"a,b\n1,2\n", r"a\.parquet: "),
        ("a.parquet", b"", r"a\.parquet: "),
        ("a.xlsx", b"PK", r"a\.xlsx: its name ends in '\.xlsx'; accepted: \.csv, "),
    ],
)
def test_a_damaged_file_is_refused_in_one_line_with_its_row(tmp_path: Path, name: str, contents: bytes, message: str):
    with pytest.raises(ValueError, match=message) as refusal:
        table.read(write_bytes(tmp_path / name, contents))
    assert "\n" not in str(refusal.value)


def test_rows_before_a_damaged_one_can_be_read_in_parts(tmp_path: Path):
    several = table.parts(write_bytes(tmp_path / "a.csv", b"a,b\n1,2\n3,4\n5\n"), size=2)
    assert next(several)["a"] == ["1", "3"]
    with pytest.raises(ValueError, match="row 4"):
        next(several)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"nowhere\.csv: no such file; accepted: a file, .csv, "):
        table.read(tmp_path / "nowhere.csv")


def test_a_parquet_text_that_is_not_utf_8_is_refused_with_its_row(tmp_path: Path):
    raw = pyarrow.array([b"a cat", b"\xe9t\xe9"], pyarrow.binary())
    text = pyarrow.Array.from_buffers(pyarrow.string(), 2, raw.buffers())
    parquet.write_table(pyarrow.table({"text": text}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a\.parquet, row 2: not UTF-8"):
        list(table.parts(tmp_path / "a.parquet", size=1))


def test_parquet_keeps_its_types_from_file_to_file(tmp_path: Path):
    rows = pyarrow.table(
        {
            "n": pyarrow.array([None, 7], pyarrow.int16()),
            "tags": [["a"], []],
            "kind": pyarrow.array(["x", "x"]).dictionary_encode(),
        }
    )
    parquet.write_table(rows, tmp_path / "a.parquet")
    with writing(tmp_path / "b.parquet") as add:
        for part in table.parts(tmp_path / "a.parquet", size=1):
            add(part)
    assert parquet.read_table(tmp_path / "b.parquet").to_pylist() == rows.to_pylist()
    assert parquet.read_schema(tmp_path / "b.parquet").field("n").type == pyarrow.int16()


def test_lists_and_nothing_are_spelled_in_a_text_format(tmp_path: Path):
    path = write(tmp_path / "a.tsv", {"tags": [["a", "b"], None], "yes": [True, 0.5]})
    assert path.read_bytes() == b'tags\tyes\n["a", "b"]\ttrue\n\t0.5\n'


@pytest.mark.parametrize("suffix", WRITTEN)
def test_a_file_appears_whole_or_not_at_all(tmp_path: Path, suffix: str):
    path = tmp_path / f"a{suffix}"

    def half() -> None:
        with writing(path) as add:
            add(Table("test", [1], {"a": ["x"]}))
            assert not path.exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half()
    assert list(tmp_path.iterdir()) == []


def test_rows_with_a_new_column_do_not_go_on_a_text_file(tmp_path: Path):
    path = write_bytes(tmp_path / "a.jsonl", b'{"a": "x"}\n{"b": "y"}\n')

    def copy() -> None:
        with writing(tmp_path / "a.csv") as add:
            for part in table.parts(path, size=1):
                add(part)

    with pytest.raises(ValueError, match=r"a\.jsonl, row 2: has the new columns b"):
        copy()
    assert list(tmp_path.iterdir()) == [path]


def test_values_of_several_types_do_not_go_into_parquet(tmp_path: Path):
    with pytest.raises(ValueError, match="column 'a': .*; accepted: values of one type"):
        write(tmp_path / "a.parquet", {"a": [1, "x"]})


@pytest.mark.parametrize("name", ["a.txt", "nowhere/a.csv"])
def test_a_place_that_takes_no_table_is_refused(tmp_path: Path, name: str):
    with pytest.raises(ValueError, match="accepted: "), writing(tmp_path / name):
        pass


def test_a_long_text_is_no_damage(tmp_path: Path):
    text = "x" * 1_000_000
    path = write(tmp_path / "a.csv", {"text": [text]})
    assert table.read(path)["text"] == [text]
    assert json.loads(io.StringIO(write(tmp_path / "a.jsonl", {"text": [text]}).read_text()).readline())["text"] == text


@pytest.mark.parametrize("suffix", [".tsv", ".tsv.gz"])
def test_a_tsv_has_as_many_rows_as_lines_whatever_is_in_them(tmp_path: Path, suffix: str):
    texts = ['"an open quote', 'a "closed" one', '"so," she said: ""', "", "'", "\u2028"]
    found = table.read(write(tmp_path / f"a{suffix}", {"text": texts}))
    assert found["text"] == texts
    with pytest.raises(ValueError, match="test, row 2: a tab or a line's end in a field; accepted in a tsv: none"):
        write(tmp_path / f"b{suffix}", {"text": ["fine", "two\nlines"]})
    assert not (tmp_path / f"b{suffix}").exists()


def test_unnamed_and_doubled_columns_matter_only_where_they_are_asked_for(tmp_path: Path):
    path = write_bytes(tmp_path / "a.csv", b"text,label,,,label\nx,a,,1,b\n")
    assert table.read(path, ["text"]).columns == {"text": ["x"]}
    every = {"text": ["x"], "label": ["a"], "": [""], ".1": ["1"], "label.1": ["b"]}
    assert table.read(path).columns == every
    with pytest.raises(ValueError, match=r"a\.csv: has column 'label' twice; accepted: once"):
        table.read(path, ["text", "label"])


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        ("text, label", "no column 'label'; available: 'text', ' label'$"),
        (
            "text;label",
            r"no column 'text'; available: 'text;label'; its fields stand apart by ';'; accepted: commas, or tabs",
        ),
        ("Text,label", "no column 'text'; available: 'Text', 'label'$"),
        (",".join(f"feature_{i}" for i in range(30_000)) + ",texts", "'text'; available: 'texts' and 30,000 more$"),
        (",".join("x" * 1000 + str(i) for i in range(100)), "no column 'text'; available: 'xxx"),
    ],
)
def test_of_many_columns_the_near_ones_are_named(tmp_path: Path, header: str, complaint: str):
    path = write_bytes(tmp_path / "a.csv", f"{header}\na, b;c\n".encode())
    with pytest.raises(ValueError, match=complaint) as refusal:
        table.read(path, ["text", "label"])
    assert len(str(refusal.value)) < 1100


def test_a_ragged_row_below_one_column_names_the_header(tmp_path: Path):
    path = write_bytes(tmp_path / "a.csv", b"text;label\nfine;a\nwell, then;b\n")
    with pytest.raises(ValueError, match=r"a\.csv, row 3: 2 fields; accepted: the header's 1, 'text;label'"):
        table.read(path)


def test_checks_of_a_header_are_linear(tmp_path: Path):
    path = write_bytes(tmp_path / "a.csv", ",".join(f"f{i}" for i in range(100_000)).encode() + b"\n")
    begun = time.process_time()
    table.read(path)
    table.read(path, ["f1", "f99999"])
    assert time.process_time() - begun < 5  # of 100,000 squared, minutes


@pytest.mark.parametrize("text", ['[{"a": 1},\n {"b": "x"}]', '{"a": 1}\n{"b": "x"}\n', '\n[\n{"a": 1}, {"b": "x"}]\n'])
def test_json_is_an_array_of_objects_or_an_object_a_line(tmp_path: Path, text: str):
    found = table.read(write_bytes(tmp_path / "a.json", text.encode()))
    assert found.columns == {"a": [1, None], "b": [None, "x"]}
    assert list(found.numbers) == [1, 2]


@pytest.mark.parametrize(
    ("name", "contents", "message"),
    [
        ("a.json", b"[1]", r"a\.json, row 1: 1; accepted: an object per row"),
        ("a.json", b'[{"a": 1}', r"a\.json: not JSON"),
        ("a.csv.gz", b"a,b\n", r"a\.csv\.gz: damaged gzip after row 0"),
        ("a.csv.gz", gzip.compress(b"a,b\n" + b"1,2\n" * 999, mtime=0)[:-9], r"a\.csv\.gz: damaged gzip after row"),
        ("a.csv", gzip.compress(b"a,b\n", mtime=0), r"a\.csv: begins like gzip"),
        ("a.gz", gzip.compress(b"a,b\n", mtime=0), r"a\.gz: its name ends in '\.gz'; accepted: \.csv, .*with \.gz"),
        ("x" * 300 + ".csv", None, "File name too long; accepted: a file"),
        ("folder.csv", "folder", r"folder\.csv: a folder; accepted: a file"),
        ("link.csv", "link", r"link\.csv: a broken link; accepted: a file"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path: Path, name: str, contents: Any, message: str):
    path = tmp_path / name
    if contents == "folder":
        path.mkdir()
    elif contents == "link":
        path.symlink_to("nowhere")
    elif contents is not None:
        path.write_bytes(contents)
    with pytest.raises(ValueError, match=message) as refusal:
        table.read(path)
    assert len(str(refusal.value)) < 400


def test_classes_that_parquet_names_are_read_by_their_names_in_their_order(tmp_path: Path):
    features = {
        "label": {"names": ["low", "high"], "_type": "ClassLabel"},
        "text": {"dtype": "string", "_type": "Value"},
    }
    rows = pyarrow.table({"text": ["x", "y", "z"], "label": pyarrow.array([1, 0, -1], pyarrow.int64())})
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    parquet.write_table(rows.replace_schema_metadata(metadata), tmp_path / "a.parquet")
    found = decoded(table.read(tmp_path / "a.parquet"))
    assert (found["label"], found.orders) == (["high", "low", -1], {"label": ("low", "high")})
    (part,) = table.parts(tmp_path / "a.parquet")  # a table that only passes through keeps what it has
    assert part["label"] == [1, 0, -1]
    parquet.write_table(rows.replace_schema_metadata({"huggingface": "[1]"}), tmp_path / "b.parquet")
    assert decoded(table.read(tmp_path / "b.parquet"))["label"] == [1, 0, -1]
