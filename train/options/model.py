"""The pretrained model that `--model` names."""

import functools
import json
import typing
from pathlib import Path

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.folder import POOLING
from adakron_jax.encoders import pretrained
from adakron_jax.encoders.sequence_classifier import HeadForm, Pooling, readable
from adakron_jax.hub import models
from adakron_jax.tokenizer import Tokenizer


class Pretrained:
    """A pretrained model, of which each part is looked up when it is first asked for, and then kept.

    Raises:
      ValueError: on asking: there is no such model, or the part of it is missing or damaged.
    """

    def __init__(self, name: str):
        self.name = name

    @functools.cached_property
    def encoder(self) -> EncoderConfig:
        """Its sizes, for which nothing but a hub model's `config.json` is fetched."""
        return EncoderConfig.from_folder(models.locate_config(self.name))

    @functools.cached_property
    def folder(self) -> Path:
        """With all its files; those of a hub's model are fetched."""
        return models.locate(self.name)

    @functools.cached_property
    def pooling(self) -> str:
        """By what a sentence encoder was trained to read a text, as `--pooling` says it; empty if unknown."""
        path = self.folder / POOLING
        try:
            said = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        modes = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "first"}
        words = [word for key, word in modes.items() if said.get(key) is True]
        return words[0] if len(words) == 1 else ""

    def reads(self, pooling: str) -> tuple[Pooling, HeadForm]:
        """What a new head reads and is, if it is to have this pooling."""
        return readable(typing.cast(Pooling, pooling), "own", self.encoder, self.leaves)

    @functools.cached_property
    def leaves(self) -> pretrained.Leaves:
        return pretrained.read(self.folder, self.encoder)

    @functools.cached_property
    def fingerprint(self) -> str:
        return pretrained.fingerprint(self.leaves)

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer(self.folder, self.encoder.vocab_size)
