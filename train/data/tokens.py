"""A split as token arrays: tokenised once, then cached."""

import dataclasses
import hashlib
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adakron_jax.data.tokenizer import Examples, Tokenizer
from adakron_jax.files import cache_folder, write_whole
from train.data.glue import Task
from train.data.sources import Rows, _at, _files, read, read_labels

_SURROGATE = re.compile("[\ud800-\udfff]")  # half a character, which JSON can spell


def load(
    data: str,
    task: Task,
    split: str,
    tokenizer: Tokenizer,
    max_length: int,
    cache: Path | None = None,
    labelled: bool = True,
) -> Examples:
    """Reads and tokenises one split, or takes it from the cache.

    Args:
      data: `hub`, `mini` or a folder with `TASK/SPLIT.parquet|tsv|csv|jsonl`.
      max_length: tokens at which an example is cut, the longer text of a pair first.
      cache: the folder of the cache; by default `~/.cache/adakron-jax`, or `$XDG_CACHE_HOME/adakron-jax`.
      labelled: False for a test set, whose labels, if it has any, are not looked at; they all become 0.

    Raises:
      ValueError: the split is missing, unreadable or empty; the file and row are named.
    """
    rows, digest = None, hashlib.sha256(f"{task.name} {max_length} {labelled} {tokenizer.fingerprint} 2\n".encode())
    if data == "hub":
        rows = read(data, task, split, labelled)
        digest.update(json.dumps([rows.texts, rows.labels], default=str).encode())
    else:
        for path in _files(data, task, split):
            digest.update(f"{path.suffix} {path.stat().st_size}\n".encode() + path.read_bytes())
    path = (cache or cache_folder()) / "tokens" / f"{task.name}-{split}-{digest.hexdigest()[:32]}.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as arrays:
            return Examples(
                **{name: arrays[name] for name in arrays.files if name != "empty_texts"},
                empty_texts=int(arrays["empty_texts"]),
            )
    examples = tokenise(rows or read(data, task, split, labelled), task, tokenizer.fast, max_length)
    buffer = io.BytesIO()
    np.savez(buffer, **dataclasses.asdict(examples))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, buffer.getvalue())
    return examples


def tokenise(rows: Rows, task: Task, tokenizer: Any, max_length: int) -> Examples:
    """Turns texts into ids with special tokens, cut to `max_length`; checks every text and label."""
    labels = read_labels(rows, task)
    for name, column in zip(task.texts, rows.texts, strict=True):
        for i, text in enumerate(column):
            if not isinstance(text, str) or _SURROGATE.search(text):
                raise ValueError(f"{_at(rows, i)}: {name} is {text!r}; accepted: a text")
    encoded = tokenizer(
        *rows.texts,
        truncation="longest_first",
        max_length=max_length,
        return_attention_mask=False,
        return_token_type_ids=True,
    )
    ids = encoded["input_ids"]
    offsets = np.cumsum([0, *map(len, ids)])

    def flat(lists: Sequence[Sequence[int]]) -> np.ndarray:
        return np.fromiter((x for xs in lists for x in xs), np.int32, offsets[-1])

    return Examples(
        tokens=flat(ids),
        token_types=flat(encoded["token_type_ids"]),
        offsets=offsets,
        labels=labels,
        empty_texts=sum(not text.strip() for column in rows.texts for text in column),
    )
