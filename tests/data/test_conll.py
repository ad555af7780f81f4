"""Files of tagged words: columns, documents, comments, and a message with the line where one is wrong."""

from pathlib import Path

import pytest

from adakron_jax.data import conll
from adakron_jax.data.table import Table


def read(folder: Path, contents: str, name: str = "a.conll") -> Table:
    (folder / name).write_bytes(contents.encode())
    (table,) = conll.parts(folder / name)
    return table


SPACES = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O

Peter NNP B-NP B-PER

-DOCSTART- -X- -X- O

BRUSSELS NNP B-NP B-LOC
"""


@pytest.mark.parametrize("contents", [SPACES, SPACES.replace(" ", "\t"), SPACES.replace("\n", "\r\n"), SPACES.strip()])
def test_a_line_is_a_word_and_a_tag_whatever_stands_between(tmp_path: Path, contents: str):
    table = read(tmp_path, contents)
    assert table["tokens"] == [["EU", "rejects"], ["Peter"], ["BRUSSELS"]]
    assert table["tags"] == [["B-ORG", "O"], ["B-PER"], ["B-LOC"]]
    assert table["document"] == [1, 1, 2]
    assert list(table.numbers) == [3, 6, 10]
    assert table.share == 1


def test_a_line_of_tabs_ends_a_sentence_and_words_may_hold_spaces(tmp_path: Path):
    table = read(tmp_path, "\ufeffNew York\tB-place\n\t\n \nin\u00a0a\tO\n")
    assert table["tokens"] == [["New York"], ["in\u00a0a"]]
    assert table["document"] == [0, 0]


def test_comments_are_no_words_and_words_may_begin_like_comments(tmp_path: Path):
    table = read(tmp_path, "# sent_id = 1\n#topic\tO\n# a remark\n#\tO\n\n# newdoc id = 2\n#7\tB-x\n")
    assert table["tokens"] == [["#topic", "#"], ["#7"]]
    assert table["document"] == [0, 1]
    spaced = read(tmp_path, "# global columns\n#topic O\n# a remark\n# O\n# O B-x is a remark\nx B-x\n")
    assert spaced["tokens"] == [["#topic", "#", "x"]]


def test_sentences_come_in_parts(tmp_path: Path):
    (tmp_path / "a.txt").write_text("a O\n\nb O\n\nc O\n")
    first, second = conll.parts(tmp_path / "a.txt", size=2)
    assert (first["tokens"], second["tokens"]) == ([["a"], ["b"]], [["c"]])
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
        list(conll.parts(tmp_path / "a.conll"))


@pytest.mark.parametrize(
    ("name", "contents", "expected"),
    [
        ("a.conll", "", True),
        ("a.txt", "", True),
        ("a.csv", "a\tO\nb\tO\n", False),
        ("a.tsv", "-DOCSTART-\tO\n\nEU\tB-ORG\nthe\tO\n", True),
        ("a.tsv", "text\tlabel\na film\tO\n", False),
        ("a.tsv", "text\tlabel\n", False),
    ],
)
def test_a_tsv_of_tagged_words_is_told_from_a_table(tmp_path: Path, name: str, contents: str, expected: bool):
    (tmp_path / name).write_text(contents)
    assert conll.is_conll(tmp_path / name) is expected
