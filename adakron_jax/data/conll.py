"""Files of tagged words, one word per line, in the format of CoNLL's shared tasks.

A line's first column is the word and its last one the tag; tabs separate the columns, or spaces if there is no tab. A
blank line ends a sentence, `-DOCSTART-` (or `# newdoc`) a document. Other lines that begin with `#` are comments,
unless they have a word's columns: `#` and `#topic` are words too.
"""

import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from adakron_jax.data.formats import Lines, Part

WORDS, TAGS, DOCUMENT = "text", "label", "document"  # the columns of a table read from such a file
_DOCUMENT = ("-DOCSTART-", "# newdoc")
TOLD_BY = 20  # lines by which tagged words are distinguished from texts
_SPACES = re.compile("[ \t]+")
_TAG = re.compile(r"O|[A-Z]-\S+|[A-Z]")


def tables(path: Path, size: int) -> Iterator[Part]:
    """Yields the sentences, at most `size` at a time, numbered by the lines on which they begin.

    The columns are lists of words, lists of tags, and the document's number if a line says that one begins.

    Raises:
      ValueError: a line is not UTF-8, has one column, or has other columns than the first line; the line is named.
    """
    with path.open("rb") as file:
        lines = Lines(path, file)
        sentences, begun = _sentences(lines), False
        while (group := list(itertools.islice(sentences, size))) or not begun:
            begun = True
            numbers, words, tags, documents = map(list, zip(*group, strict=True)) if group else ([], [], [], [])
            columns = {WORDS: words, TAGS: tags}
            yield numbers, columns | ({DOCUMENT: documents} if any(documents) else {}), lines.share


def is_conll(path: Path) -> bool:
    """Returns whether a file begins with words and tags between tabs, unlike a table with a header."""
    return _begins_tagged(path, lambda line: line.split("\t"), 2)


def is_tagged(path: Path) -> bool:
    """Returns whether a file begins with words and tags, unlike texts."""
    return _begins_tagged(path, lambda line: _SPACES.split(line.strip(" \t")), TOLD_BY)


def _begins_tagged(path: Path, parted: Callable[[str], list[str]], count: int) -> bool:
    with path.open("rb") as file:
        stripped = (line.strip("\r\n") for line in Lines(path, file))
        words = (parted(line) for line in stripped if line.strip() and not line.startswith(_DOCUMENT))
        first = list(itertools.islice(words, count))
    return bool(first) and all(len(fields) > 1 and _TAG.fullmatch(fields[-1]) for fields in first)


def _sentences(lines: Lines) -> Iterator[tuple[int, list[str], list[str], int]]:
    """Yields (line on which it begins, words, tags, document) for every sentence."""
    words, tags, begin, document, width, by_tab = [], [], 0, 0, 0, False
    for line in itertools.chain(lines, [""]):
        line = line.rstrip("\r\n")
        by_tab = "\t" in line if not width else by_tab
        fields = line.split("\t") if by_tab else _SPACES.split(line.strip(" \t"))
        starts_document = line.startswith(_DOCUMENT)
        if starts_document or not line.strip():
            if words:
                yield begin, words, tags, document
            words, tags, document = [], [], document + starts_document
            continue
        if line.startswith("#") and not _is_word(fields, width, by_tab):
            continue
        width = width or len(fields)
        if len(fields) < 2 or len(fields) != width or not fields[0].strip():
            columns = f"{len(fields)} column{'s' * (len(fields) > 1)}" if fields[0].strip() else "no word"
            accepted = f"{width} as in the lines before" if width > 1 else "a word, and its tag in the last column"
            raise ValueError(f"{lines.at(lines.number)}: {columns} in {line[:40]!r}; accepted: {accepted}")
        begin = begin if words else lines.number
        words.append(fields[0])
        tags.append(fields[-1].strip())


def _is_word(fields: list[str], width: int, by_tab: bool) -> bool:
    """Returns whether a line that begins with # has a word's columns."""
    like_others = len(fields) == width if width else len(fields) > 1
    return like_others and (by_tab or _TAG.fullmatch(fields[-1]) is not None)
