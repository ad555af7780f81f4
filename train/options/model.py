"""The pretrained model that `--model` names."""

import functools
from pathlib import Path

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.folder import Pooling, pooling_in, trained_pooling
from adakron_jax.encoders import pretrained
from adakron_jax.encoders.sequence_classifier import HeadForm, readable
from adakron_jax.hub import models
from adakron_jax.problems import Problem
from adakron_jax.tokenizer import Tokenizer


class Pretrained:
    """A pretrained model, each part of which is read when it is first asked for, and then kept.

    Raises:
      ValueError: on access: there is no such model, or that part of it is missing or damaged.
    """

    def __init__(self, name: str):
        self.name = name

    @functools.cached_property
    def encoder(self) -> EncoderConfig:
        """Its configuration, for which only `config.json` is fetched of a model on the hub."""
        return EncoderConfig.from_folder(models.locate_config(self.name))

    @functools.cached_property
    def folder(self) -> Path:
        """The folder with all its files, which are fetched of a model on the hub."""
        return models.locate(self.name)

    @functools.cached_property
    def pooling(self) -> Pooling | None:
        """The pooling that a sentence encoder was trained with, if its folder says so."""
        return trained_pooling(self.folder)

    def reads(self, pooling: str, problem: Problem) -> tuple[Pooling, HeadForm]:
        """Returns what a new head for a problem reads, with this pooling, and its form."""
        return readable(pooling_in(self.folder, pooling), "own", self.encoder, self.leaves, problem.reads)

    @functools.cached_property
    def leaves(self) -> pretrained.Leaves:
        return pretrained.read(self.folder, self.encoder)

    @functools.cached_property
    def fingerprint(self) -> str:
        return pretrained.fingerprint(self.leaves)

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer(self.folder, self.encoder.vocab_size)
