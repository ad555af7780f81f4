"""Texts to ids: a model folder's tokenizer, and tokenised examples."""

import dataclasses
import functools
import hashlib
import importlib.metadata
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np

from adakron_jax.hub import TOKENIZER_FILES

_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json")


@dataclasses.dataclass(frozen=True)
class Examples:
    """Tokenised examples, end to end.

    Attributes:
      tokens, token_types: ids of all examples one after another, special tokens included.
      offsets: where each example begins, and where the last one ends [examples + 1].
      labels: int32 codes, or float32 numbers of a regression [examples].
      empty_texts: how many texts were empty.
    """

    tokens: np.ndarray
    token_types: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray
    empty_texts: int

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each example."""
        return np.diff(self.offsets)

    def first(self, limit: int | Literal["all"]) -> "Examples":
        """The first `limit` examples."""
        if limit == "all" or limit >= len(self):
            return self
        end = self.offsets[limit]
        return Examples(
            self.tokens[:end], self.token_types[:end], self.offsets[: limit + 1], self.labels[:limit], self.empty_texts
        )


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """A model folder's tokenizer, read when it is first used: what is in the cache needs only its fingerprint.

    Raises:
      ValueError: the folder has no tokenizer; on first use also: it cannot be read, or its vocabulary is larger than
        the encoder's.
    """

    folder: Path
    vocab_size: int

    def __post_init__(self):
        # Where there is none, transformers makes one up to which every word is unknown.
        if not any((self.folder / file).is_file() for file in _VOCABULARIES):
            raise ValueError(f"{self.folder}: no usable tokenizer; accepted: {', '.join(_VOCABULARIES)}")

    @functools.cached_property
    def fast(self) -> Any:
        """The tokenizer itself, as `transformers` has it."""
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        from transformers import AutoTokenizer

        try:
            # Not left unsaid: of a folder that names code of its own, transformers would ask on the terminal.
            fast = AutoTokenizer.from_pretrained(self.folder, use_fast=True, trust_remote_code=False)
            fast("\N{SNOWMAN}")  # without its unknown token, a vocabulary fails where it first needs one
        except Exception as error:  # both libraries raise whatever their parsers do
            raise ValueError(f"{self.folder}: no usable tokenizer ({' '.join(str(error).split())[:200]})") from None
        if len(fast) > self.vocab_size:
            raise ValueError(f"{self.folder}: the tokenizer has {len(fast)} tokens, the encoder only {self.vocab_size}")
        return fast

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all that decides how texts are cut: its files, and the versions of what reads them."""
        digest = hashlib.sha256(f"{self.vocab_size}".encode())
        for name in ("transformers", "tokenizers"):
            digest.update(f"{name} {importlib.metadata.version(name)}\n".encode())
        for name in ("config.json", *TOKENIZER_FILES):
            if (path := self.folder / name).is_file():
                digest.update(f"{name} {path.stat().st_size}\n".encode() + path.read_bytes())
        return digest.hexdigest()
