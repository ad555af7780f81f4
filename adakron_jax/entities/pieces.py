"""Words to pieces: sentences as examples whose tokens have labels.

Every word is tokenised by itself, as in Hugging Face with `is_split_into_words`; a byte-level tokenizer reads a space
before each. A word's label is on its first piece. A sentence of more pieces than an example may have becomes several
overlapping examples, as a window moves over it by whole words; a word in two windows has its label in the window that
holds more around it.
"""

import copy
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Int

from adakron_jax.data.examples import ENCODED_AT_ONCE, Examples, ignore
from adakron_jax.data.sentences import Sentences

NONE, CONTINUES = -100, -1  # the label of a token that has none, and of the later pieces of a labelled word
OVERLAP = 4  # a window shares one in this many of its pieces with the next

Ranges = Int[np.ndarray, "windows 4"]  # start and end of a window's pieces, and of those that carry labels


def encode_words(
    tokenizer: Any,
    sentences: Sentences,
    max_length: int,
    codes: Int[np.ndarray, " words"] | None = None,
    done: Callable[[int], None] = ignore,
) -> Examples:
    """Encodes sentences as ids with special tokens. The labels of 0 and above are those of all words, in order.

    Args:
      max_length: most tokens of an example.
      codes: the words' labels; by default 0.
      done: called now and then with the number of sentences done.

    Returns:
      The examples; `cut` counts the sentences that are split into several.
    """
    before, after = _special(tokenizer)
    room = max(1, max_length - len(before) - len(after))
    ids, word = _pieces(tokenizer, sentences, room, done)
    windows, rows, cut = _windows(word, sentences.offsets, room)
    begin, end, labelled, until = windows.T
    lengths = end - begin + len(before) + len(after)
    offsets = np.r_[0, np.cumsum(lengths)]
    within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    piece = np.repeat(begin, lengths) + within - len(before)
    inside = (within >= len(before)) & (piece < np.repeat(end, lengths))
    has_label = inside & (piece >= np.repeat(labelled, lengths)) & (piece < np.repeat(until, lengths))

    tokens, labels = np.zeros(offsets[-1], np.int32), np.full(offsets[-1], NONE, np.int32)
    tokens[inside] = ids[piece[inside]]
    for i, token in enumerate(before):
        tokens[offsets[:-1] + i] = token
    for i, token in enumerate(after):
        tokens[offsets[1:] - len(after) + i] = token
    of_word = np.zeros(len(sentences.bounds), np.int32) if codes is None else codes
    of_piece = np.where(np.diff(word, prepend=-1) > 0, of_word[word], CONTINUES) if len(word) else word
    labels[has_label] = of_piece[piece[has_label]]
    return Examples(
        tokens=tokens,
        token_types=np.zeros(len(tokens), np.int8),
        offsets=offsets,
        labels=labels,
        empty_texts=int((np.diff(sentences.offsets) == 0).sum()),
        cut=cut,
        rows=rows,
    )


def word_offsets(examples: Examples) -> Int[np.ndarray, " ends"]:
    """Returns where each sentence's words begin among the labels of 0 and above, and where the last one's end."""
    words = np.r_[0, np.cumsum(examples.labels >= 0)][examples.offsets]
    begins = np.flatnonzero(np.diff(examples.rows, prepend=-1))
    return np.r_[words[begins], words[-1]]


def decoded_words(tokenizer: Any, examples: Examples, sentence: int) -> list[str]:
    """Returns the words of a sentence, as far as their tokens preserve them."""
    part = examples.take(np.array([sentence]))
    begins = np.flatnonzero(part.labels >= 0)
    # A word extends over the pieces that continue it.
    goes_on = np.r_[part.labels[1:] == CONTINUES, False]
    words = []
    for begin in begins.tolist():
        end = begin + 1
        while goes_on[end - 1]:
            end += 1
        words.append(tokenizer.fast.decode(part.tokens[begin:end].tolist()).strip())
    return words


def on_all_pieces(labels: Int[np.ndarray, " tokens"]) -> Int[np.ndarray, " tokens"]:
    """Puts labels, as codes of BIO, on every piece of a word; pieces after one that begins an entity continue it."""
    first = np.maximum.accumulate(np.where(labels >= 0, np.arange(len(labels)), 0))
    continuing = labels[first] + labels[first] % 2
    return np.where(labels == CONTINUES, continuing, labels).astype(labels.dtype)


def _pieces(
    tokenizer: Any, sentences: Sentences, room: int, done: Callable[[int], None]
) -> tuple[Int[np.ndarray, " pieces"], Int[np.ndarray, " pieces"]]:
    """Returns the ids of all words' pieces, and the words' numbers. A word keeps at most `room` pieces."""
    by_words, ids, word = _by_words(tokenizer), [np.zeros(0, np.int32)], [np.zeros(0, np.int64)]
    for start in range(0, len(sentences), ENCODED_AT_ONCE):
        group = range(start, min(start + ENCODED_AT_ONCE, len(sentences)))
        encoded = by_words.encode_batch(
            [sentences.words(i) for i in group], is_pretokenized=True, add_special_tokens=False
        )
        for sentence, pieces in zip(group, encoded, strict=True):
            ids.append(np.asarray(pieces.ids, np.int32))
            word.append(np.asarray(pieces.word_ids, np.int64) + sentences.offsets[sentence])
        done(group.stop)
    all_ids, words = np.concatenate(ids), np.concatenate(word)
    # A word of which a tokenizer leaves nothing, such as a mark alone, becomes the unknown token.
    lost = np.setdiff1d(np.arange(len(sentences.bounds)), words)
    fast = tokenizer.fast
    unknown = fast.pad_token_id if fast.unk_token_id is None else fast.unk_token_id
    in_order = np.argsort(np.r_[words, lost], kind="stable")
    all_ids, words = np.r_[all_ids, np.full(len(lost), unknown, np.int32)][in_order], np.r_[words, lost][in_order]
    within_room = np.arange(len(words)) - np.searchsorted(words, words) < room
    return all_ids[within_room], words[within_room]


def _windows(
    word: Int[np.ndarray, " pieces"], offsets: Int[np.ndarray, " ends"], room: int
) -> tuple[Ranges, Int[np.ndarray, " windows"], int]:
    """Returns the windows over all sentences, each one's sentence, and the number of sentences that have several."""
    ends = np.searchsorted(word, offsets)
    begins = np.r_[np.flatnonzero(np.diff(word, prepend=-1)), len(word)]  # where a word may begin
    begin, end = ends[:-1], ends[1:]
    long = np.flatnonzero(end - begin > room)
    windows = {int(i): list(_over(begins, int(begin[i]), int(end[i]), room)) for i in long}
    count = np.ones(len(begin), np.int64)
    count[long] = [len(windows[int(i)]) for i in long]
    rows = np.repeat(np.arange(len(begin)), count)
    ranges = np.repeat(np.stack([begin, end, begin, end], axis=-1), count, axis=0)
    for i in long:
        ranges[rows == i] = windows[int(i)]
    return ranges, rows, len(long)


def _over(begins: np.ndarray, begin: int, end: int, room: int) -> Iterator[tuple[int, int, int, int]]:
    """Yields the windows over one sentence's pieces."""
    start, labelled = begin, begin
    while True:
        until = int(begins[np.searchsorted(begins, min(start + room, end), side="right") - 1])
        if until == end:
            yield start, end, labelled, end
            return
        next_word = int(begins[np.searchsorted(begins, until, side="right")])
        following = int(begins[np.searchsorted(begins, max(until - room // OVERLAP, next_word - room, start + 1))])
        boundary = int(begins[np.searchsorted(begins, (following + until) // 2)])
        yield start, until, labelled, boundary
        start, labelled = following, boundary


@functools.lru_cache(maxsize=8)
def _by_words(tokenizer: Any) -> Any:
    """Returns a copy that cuts nothing and, if byte-level, reads a space before each word; threads can share it."""
    by_words = copy.deepcopy(tokenizer.fast.backend_tokenizer)
    by_words.no_padding()
    by_words.no_truncation()
    before = by_words.pre_tokenizer
    for step in before if type(before).__name__ == "Sequence" else (before,):
        if type(step).__name__ == "ByteLevel":
            step.add_prefix_space = True
    return by_words


def _special(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Returns the ids of the special tokens before and after an example's pieces."""
    encoded = _by_words(tokenizer).encode(["a"], is_pretokenized=True)
    special = np.asarray(encoded.special_tokens_mask)
    first, last = np.flatnonzero(special == 0)[[0, -1]]
    return encoded.ids[:first], encoded.ids[last + 1 :]
