"""Files of tagged words: columns, documents, comments, and a message with the line where one is wrong."""

from pathlib import Path

import pytest

from adakron_jax.data import table
from adakron_jax.data.table import Table


def read(folder: Path, contents: str, name: str = "a.conll") -> Table:
    (folder / name).write_bytes(contents.encode())
    return table.read(folder / name)


SPACES = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O

Peter NNP B-NP B-PER

-DOCSTART- -X- -X- O

BRUSSELS NNP B-NP B-LOC
"""


@pytest.mark.parametrize("contents", [SPACES, SPACES.replace(" ", "\t"), SPACES.replace("\n", "\r\n"), SPACES.strip()])
def test_a_line_is_a_word_and_a_tag_whatever_stands_between(tmp_path: Path, contents: str):
    found = read(tmp_path, contents)
    assert found["text"] == [["EU", "rejects"], ["Peter"], ["BRUSSELS"]]
    assert found["label"] == [["B-ORG", "O"], ["B-PER"], ["B-LOC"]]
    assert found["document"] == [1, 1, 2]
    assert list(found.numbers) == [3, 6, 10]
    assert found.share == 1


def test_a_line_of_tabs_ends_a_sentence_and_words_may_hold_spaces(tmp_path: Path):
    found = read(tmp_path, "\ufeffNew York\tB-place\n\t\n \nin\u00a0a\tO\n")
    assert found["text"] == [["New York"], ["in\u00a0a"]]
    assert "document" not in found.columns


def test_comments_are_no_words_and_words_may_begin_like_comments(tmp_path: Path):
    found = read(tmp_path, "# sent_id = 1\n#topic\tO\n# a remark\n#\tO\n\n# newdoc id = 2\n#7\tB-x\n")
    assert found["text"] == [["#topic", "#"], ["#7"]]
    assert found["document"] == [0, 1]
    spaced = read(tmp_path, "# global columns\n#topic O\n# a remark\n# O\n# O B-x is a remark\nx B-x\n")
    assert spaced["text"] == [["#topic", "#", "x"]]


def test_sentences_come_in_parts(tmp_path: Path):
    (tmp_path / "a.txt").write_text("a O\n\nb O\n\nc O\n")
    first, second = table.parts(tmp_path / "a.txt", size=2)
    assert (first["text"], second["text"]) == ([["a"], ["b"]], [["c"]])
    assert list(second.numbers) == [5]


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ("a O\nb\n", r"a\.conll, row 2: 1 column in 'b'; accepted: 2 as in the lines before$"),
        ("a\nb\n", r"a\.conll, row 1: 1 column in 'a'; accepted: a word, and its tag in the last column$"),
        ("a\tO\n\nb\tx\tO\n", r"a\.conll, row 3: 3 columns in .*; accepted: 2 as in the lines before$"),
        ("a\tO\n\tO\n", r"a\.conll, row 2: no word in .*; accepted: 2 as in the lines before$"),
        ("a\tO\nb O\n", r"a\.conll, row 2: 1 column in 'b O'; accepted: 2"),
    ],
)
def test_a_damaged_line_is_refused_with_its_number(tmp_path: Path, contents: str, message: str):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, contents)


def test_what_is_not_utf_8_is_refused_with_its_line(tmp_path: Path):
    (tmp_path / "a.conll").write_bytes(b"a O\n\xe9 O\n")
    with pytest.raises(ValueError, match=r"a\.conll, row 2: not UTF-8"):
        table.read(tmp_path / "a.conll")


@pytest.mark.parametrize(
    ("contents", "columns"),
    [
        ("-DOCSTART-\tO\n\nEU\tB-ORG\nthe\tO\n", {"text": [["EU", "the"]], "label": [["B-ORG", "O"]], "document": [1]}),
        ("text\tlabel\na film\tO\n", {"text": ["a film"], "label": ["O"]}),
        ("text\tlabel\n", {"text": [], "label": []}),
    ],
)
def test_a_tsv_of_tagged_words_is_told_from_a_table(tmp_path: Path, contents: str, columns: dict[str, list]):
    assert read(tmp_path, contents, "a.tsv").columns == columns


def test_words_and_tags_take_the_names_that_are_asked_for(tmp_path: Path):
    (tmp_path / "a.conll").write_text("a O\n")
    assert table.read(tmp_path / "a.conll", ("words", "tags")).columns == {"words": [["a"]], "tags": [["O"]]}
    assert table.read(tmp_path / "a.conll", ("words",)).columns == {"words": [["a"]]}
    with pytest.raises(ValueError, match="has words and tags, and no column 'more'; accepted: two columns$"):
        table.read(tmp_path / "a.conll", ("words", "more", "tags"))
