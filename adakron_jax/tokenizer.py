"""The tokenizer of a model folder, which turns texts into ids."""

import copy
import dataclasses
import functools
import hashlib
import importlib.metadata
import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Num

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.folder import TOKENIZER_FILES
from adakron_jax.data.examples import ENCODED_AT_ONCE, Examples, ignore
from adakron_jax.hub.models import locate

CHARACTERS_AT_ONCE = 2**22  # roughly; before it cuts, a tokenizer uses a hundred bytes for each
_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "spm.model")


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """A model folder's tokenizer, read on first use: data that is in the cache needs only its fingerprint.

    >>> import adakron_jax as ak
    >>> tokenizer = ak.Tokenizer.from_pretrained("bert-base-uncased")
    >>> examples = tokenizer.encode(["so good", "so very bad"], max_length=128, labels=[1, 0])
    >>> len(examples), examples.labels.tolist()
    (2, [1, 0])

    Raises:
      ValueError: the folder has no tokenizer; on first use also if it cannot be read, or if its vocabulary is larger
        than the encoder's.
    """

    folder: Path
    vocab_size: int

    def __post_init__(self):
        # Without a vocabulary, transformers makes up a tokenizer to which every word is unknown.
        if not any((self.folder / file).is_file() for file in _VOCABULARIES):
            raise ValueError(f"{self.folder}: no usable tokenizer; accepted: {', '.join(_VOCABULARIES)}")

    @functools.cached_property
    def fast(self) -> Any:
        """The tokenizer of `transformers`."""
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        from transformers import AutoTokenizer, PreTrainedTokenizerFast

        from adakron_jax.architectures import sentencepiece

        try:
            if sentencepiece.has(self.folder):
                tokenizer, special = sentencepiece.read(self.folder)
                fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
            else:  # stated, because transformers would ask on the terminal about a folder that names custom code
                fast = AutoTokenizer.from_pretrained(self.folder, use_fast=True, trust_remote_code=False)
            fast("\N{SNOWMAN}")  # a vocabulary without its unknown token fails only where it first needs one
        except Exception as error:  # both libraries raise whatever their parsers raise
            raise ValueError(f"{self.folder}: no usable tokenizer ({' '.join(str(error).split())[:200]})") from None
        if len(fast) > self.vocab_size:
            raise ValueError(f"{self.folder}: the tokenizer has {len(fast)} tokens, the encoder only {self.vocab_size}")
        return fast

    @classmethod
    def from_pretrained(cls, base: str) -> "Tokenizer":
        """Returns the tokenizer of an encoder: a folder, `pkg:NAME`, or a hub id.

        Raises:
          ValueError: there is no such encoder, or it has no tokenizer.
        """
        folder = locate(base)
        return cls(folder, EncoderConfig.from_folder(folder).vocab_size)

    def encode(
        self,
        texts: Sequence[str] | Sequence[Sequence[str]],
        max_length: int,
        done: Callable[[int], None] = ignore,
        *,
        labels: Sequence[Any] | Num[np.ndarray, "examples ..."] | None = None,
    ) -> Examples:
        """Encodes texts as ids with special tokens, on all cores.

        Args:
          texts: the texts, or columns of them: one column, or two for pairs.
          max_length: number of tokens at which an example is cut, the longer text of a pair first.
          done: called now and then with the number of examples done.
          labels: a code or a number per example, or for a multilabel problem whether each label holds; None: all 0.

        Raises:
          ValueError: there is not one label for each example.
        """
        texts = [texts] if all(isinstance(text, str) for text in texts) else texts  # pyright: ignore[reportAssignmentType]
        rows, cutting = len(texts[0]), _cutting(self, max_length)
        targets = np.zeros(rows, np.int32) if labels is None else np.asarray(labels)
        if len(targets) != rows:
            raise ValueError(f"{len(targets)} labels for {rows} examples; accepted: one for each")
        for kind, stored in ((np.signedinteger, np.int32), (np.floating, np.float32)):
            if np.issubdtype(targets.dtype, kind):
                targets = targets.astype(stored)
        lengths, ids, types, cut = [np.zeros(1, np.int64)], [], [], 0
        for start, end in itertools.pairwise(_bounds(texts)):
            columns = [column[start:end] for column in texts]
            encoded = cutting.encode_batch_fast(list(zip(*columns, strict=True)) if len(texts) > 1 else columns[0])
            lengths.append(np.fromiter(map(len, encoded), np.int64, len(encoded)))
            ids.append(np.concatenate([np.asarray(encoding.ids, np.int32) for encoding in encoded]))
            types.append(np.concatenate([np.asarray(encoding.type_ids, np.int8) for encoding in encoded]))
            cut += sum(bool(encoding.overflowing) for encoding in encoded)
            done(end)
        return Examples(
            tokens=np.concatenate([np.zeros(0, np.int32), *ids]),
            token_types=np.concatenate([np.zeros(0, np.int8), *types]),
            offsets=np.cumsum(np.concatenate(lengths)),
            labels=targets,
            empty_texts=sum(not text.strip() for column in texts for text in column),
            cut=cut,
        )

    def decode(self, ids: Sequence[int]) -> tuple[str, ...]:
        """Returns the one or two texts of an example's ids, as far as the tokens preserve them."""
        edges = {self.fast.cls_token_id, self.fast.sep_token_id}
        at = [i for i, token in enumerate(ids) if token in edges]
        texts = [self.fast.decode(ids[start + 1 : end]) for start, end in itertools.pairwise(at)]
        return (*texts[:1], *filter(None, texts[1:-1]), *texts[1:][-1:])  # RoBERTa puts two edges between a pair

    @functools.cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of all that decides how texts are tokenized: its files, and the versions of the libraries."""
        digest = hashlib.sha256(f"{self.vocab_size}".encode())
        for name in ("transformers", "tokenizers"):
            digest.update(f"{name} {importlib.metadata.version(name)}\n".encode())
        for name in ("config.json", *TOKENIZER_FILES):
            if (path := self.folder / name).is_file():
                digest.update(f"{name} {path.stat().st_size}\n".encode() + path.read_bytes())
        return digest.hexdigest()


def _bounds(texts: Sequence[Sequence[str]]) -> list[int]:
    """Returns the starts of the groups of examples that are encoded at once, and the end of the last group."""
    rows = len(texts[0])
    characters = np.cumsum(sum(np.fromiter(map(len, column), np.int64, rows) for column in texts))
    groups = np.arange(rows) // ENCODED_AT_ONCE + characters // CHARACTERS_AT_ONCE
    return [0, *(np.flatnonzero(np.diff(groups)) + 1).tolist(), *([rows] if rows else [])]


@functools.lru_cache(maxsize=8)
def _cutting(tokenizer: Tokenizer, max_length: int) -> Any:
    """Returns a copy that cuts at `max_length` and is never changed again, so that threads can share it."""
    cutting = copy.deepcopy(tokenizer.fast.backend_tokenizer)
    cutting.no_padding()
    cutting.enable_truncation(max_length, strategy="longest_first")
    return cutting
