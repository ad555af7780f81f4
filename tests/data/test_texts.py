"""Texts of tables and of streams: what comes is given on at once, and what is no text is named with its place."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adakron_jax.data.table import Table
from adakron_jax.data.texts import lines, texts


def test_a_cell_without_a_value_is_an_empty_text():
    table = Table("t", range(1, 4), {"a": ["x", None, ""], "b": ["1", "2", "3"], "c": [1, 2, 3]})
    assert texts(table, ["b", "a"]) == [["1", "2", "3"], ["x", "", ""]]


@pytest.mark.parametrize(
    ("cell", "complaint"),
    [(3, "t, row 7: a is 3; accepted: a text"), (["x"], r"a is \['x'\]"), ("\udc80", r"a is '\\udc80'")],
)
def test_a_cell_that_is_no_text_is_named(cell: Any, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        texts(Table("t", [5, 7], {"a": ["x", cell]}), ["a"])


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[Callable[[bytes], int]]:
    """Makes file descriptors of files with given contents."""
    with contextlib.ExitStack() as stack:

        def make(contents: bytes) -> int:
            path = tmp_path / "lines"
            path.write_bytes(contents)
            return stack.enter_context(path.open("rb")).fileno()

        yield make


@pytest.mark.parametrize("block", [1, 3, 2**20])
def test_lines_become_tables_in_order_whatever_their_ends(
    stream: Callable[[bytes], int], block: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("adakron_jax.data.texts.BLOCK", block)
    tables = list(lines(stream("\ufeffa\tb\r\n\n\u00e9\nlast".encode()), ["text"], 2))
    assert [cell for table in tables for cell in table["text"]] == ["a\tb", "", "\u00e9", "last"]
    assert [number for table in tables for number in table.numbers] == [1, 2, 3, 4]
    assert max(map(len, tables)) <= 2
    (empty,) = lines(stream(b""), ["text"], 2)
    assert empty.columns == {"text": []}


def test_pairs_have_a_tab_between(stream: Callable[[bytes], int]):
    (table,) = lines(stream(b"a\tb\n"), ["premise", "hypothesis"], 1)
    assert table.columns == {"premise": ["a"], "hypothesis": ["b"]}
    with pytest.raises(ValueError, match="stdin, line 2: 3 texts; accepted: 2, with a tab between"):
        list(lines(stream(b"a\tb\na\tb\tc\n"), ["premise", "hypothesis"], 1))


def test_a_line_that_is_not_utf_8_is_named(stream: Callable[[bytes], int]):
    with pytest.raises(ValueError, match="stdin, line 2: not UTF-8"):
        list(lines(stream(b"a\n\xff\n"), ["text"], 8))


def test_a_line_does_not_wait_for_the_next():
    reading, writing = os.pipe()
    tables = lines(reading, ["text"], 100)
    for text in ("first", "second"):
        os.write(writing, f"{text}\n".encode())
        assert next(tables)["text"] == [text]
    os.close(writing)
    assert list(tables) == []
    os.close(reading)
