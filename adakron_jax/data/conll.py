"""Files of tagged words, a word a line, as CoNLL's shared tasks have them.

A line's first column is the word, its last one the tag; tabs part the columns, or spaces where there is no tab. A blank
line ends a sentence, `-DOCSTART-` (or `# newdoc`) a document. Other lines that begin with `#` are comments, unless they
have a word's columns: `#` and `#topic` are words too.
"""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from adakron_jax.data.table import PART, Table, _Lines, printable

SUFFIXES = (".conll", ".txt", ".tsv")
WORDS, TAGS, DOCUMENT = "tokens", "tags", "document"  # the columns of the table
_DOCUMENT = ("-DOCSTART-", "# newdoc")
_SPACES = re.compile("[ \t]+")
_TAG = re.compile(r"O|[A-Z]-\S+|[A-Z]")


def parts(path: Path, size: int = PART) -> Iterator[Table]:
    """The sentences in their order, at most `size` at a time: lists of words, lists of tags, and the document's number.

    A row's number is that of the line on which the sentence begins.

    Raises:
      ValueError: names the line that is not UTF-8, has one column, or other columns than the first.
    """
    with path.open("rb") as file:
        lines = _Lines(path, file)
        sentences, begun = _sentences(lines), False
        while group := list(itertools.islice(sentences, size)):
            begun, (numbers, words, tags, documents) = True, map(list, zip(*group, strict=True))
            yield Table(str(path), numbers, {WORDS: words, TAGS: tags, DOCUMENT: documents}, share=lines.share)
        if not begun:
            yield Table(str(path), [], {WORDS: [], TAGS: [], DOCUMENT: []})


def is_conll(path: Path) -> bool:
    """Whether a file's first lines are words with tags: so they are told from a table with a header."""
    if path.suffix.lower() != ".tsv":
        return path.suffix.lower() in SUFFIXES
    with path.open("rb") as file:
        lines = (line.strip("\r\n") for line in _Lines(path, file))
        words = (line.split("\t") for line in lines if line.strip() and not line.startswith(_DOCUMENT))
        return all(len(fields) > 1 and _TAG.fullmatch(fields[-1]) for fields in itertools.islice(words, 2))


def _sentences(lines: _Lines) -> Iterator[tuple[int, list[str], list[str], int]]:
    """(line on which it begins, words, tags, document) of every sentence."""
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
            raise ValueError(f"{lines.at(lines.number)}: {columns} in {_short(line)}; accepted: {accepted}")
        begin = begin if words else lines.number
        words.append(fields[0])
        tags.append(fields[-1].strip())


def _is_word(fields: list[str], width: int, by_tab: bool) -> bool:
    """Whether a line that begins with # has a word's columns."""
    like_others = len(fields) == width if width else len(fields) > 1
    return like_others and (by_tab or _TAG.fullmatch(fields[-1]) is not None)


def _short(line: str) -> str:
    return repr(printable(line)[:40])
