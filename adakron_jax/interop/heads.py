"""Bases and classification heads, as the formats share them."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from adakron_jax.adapter import Card
from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.encoders import pretrained
from adakron_jax.encoders.sequence_classifier import HeadForm, Pooling
from adakron_jax.files import read_json, read_tensors
from adakron_jax.interop.fields import labels_of
from adakron_jax.interop.slots import Leaves, Piece, Slot
from adakron_jax.problems import Classification, Multilabel, Problem, Regression
from adakron_jax.splice import DENSES, Method, Site


@dataclasses.dataclass(frozen=True)
class Base:
    """The encoder that an adapter is imported onto.

    Attributes:
      config: its sizes.
      said: all that its `config.json` says.
      leaves: its pretrained leaves.
    """

    config: EncoderConfig
    said: Mapping[str, Any]
    leaves: Mapping[str, np.ndarray]

    @classmethod
    def read(cls, folder: Path) -> "Base":
        config = EncoderConfig.from_folder(folder)
        return cls(config, read_json(folder / "config.json"), pretrained.read(folder, config))

    @functools.cached_property
    def fingerprint(self) -> str:
        return pretrained.fingerprint(self.leaves)

    def problem(self, outputs: int) -> Problem:
        """The problem of a head of which only the number of outputs is known: the base may know the rest."""
        several = self.said.get("problem_type") == Multilabel.transformers_type
        if outputs == 1 and not several:
            return Regression()
        named = self.said.get("label2id")
        label2id = named if isinstance(named, dict) and len(named) == outputs else None
        labels = labels_of(label2id, outputs, "config.json of the base")
        return (Multilabel if several else Classification)(labels)


@dataclasses.dataclass(frozen=True)
class Imported:
    """An adapter of another program, in our terms.

    Attributes:
      method, problem, pooling, head: as a Card has them.
      leaves: path -> array, the head's among them.
    """

    method: Method
    leaves: Leaves
    problem: Problem
    pooling: Pooling = "pooler"
    head: HeadForm = "own"


def modules(config: EncoderConfig) -> dict[Site, list[str]]:
    """Site -> the published names, one a layer, of the dense layers whose outputs pass it.

    Raises:
      ValueError: the architecture's checkpoints hold several of them as one.
    """
    stored = config.architecture.stored
    if any(stored[f"{path}/kernel"].of > 1 for path in DENSES.values()):
        raise ValueError(
            f"an adapter of {config.model_type}, whose checkpoints hold several projections as one matrix, has no "
            "equal there; accepted: export --to huggingface, or our own format"
        )
    return {
        site: [
            pretrained.published_name(f"{path}/kernel".format(i=i), config).removesuffix(".weight")
            for i in range(config.num_layers)
        ]
        for site, path in DENSES.items()
    }


def own_head(config: EncoderConfig, outputs: int) -> list[Slot]:
    """Where the architecture's own head lies in a classifier's checkpoint."""
    d = config.hidden_size

    def shape(path: str) -> tuple[int, ...]:
        width = outputs if path.rpartition("/")[0] in ("classifier", "classifier/out_proj") else d
        return (d, width) if path.endswith("/kernel") else (width,)

    return [
        Slot(path, Piece(stored.name, shape(path), "transposed" if stored.transposed else "same"))
        for path, stored in config.architecture.head.items()
    ]


def outputs_of(tensors: Mapping[str, np.ndarray], config: EncoderConfig, where: str) -> int:
    """How many outputs the own head has that is among the tensors; ValueError if there is none."""
    *_, projection = (slot for slot in own_head(config, 1) if slot.path.endswith(("classifier/kernel", "proj/kernel")))
    piece = next(iter(projection.all))
    tensor = tensors.get(piece.name)
    if tensor is None or tensor.ndim != 2 or not len(tensor):
        raise ValueError(
            f"{where}: no classification head of {config.model_type} ({piece.name}); accepted: one with it"
        )
    return len(tensor)


def is_own(card: Card) -> bool:
    """Whether the head is what the architecture's own classifier has."""
    architecture = card.encoder.architecture
    own_form = card.head == "own" or (card.head == architecture.form.activation and not architecture.form.normed)
    first = not architecture.pooler and card.encoder.pooling in (None, "cls")
    return own_form and (card.pooling == "pooler" or (card.pooling == "first" and first))


def check_own(card: Card, what: str) -> None:
    """ValueError unless the head is the architecture's own."""
    if not is_own(card):
        raise ValueError(
            f"{what} cannot have a head of the form {card.head!r} on the pooling {card.pooling!r}; accepted: the own "
            f"head of {card.encoder.model_type} (--pooling pooler)"
        )


def in_own_unit(leaves: Mapping[str, Any], problem: Problem) -> Leaves:
    """The leaves, with a regression's mean and scale taken into the head: other programs have no place for them."""
    if problem.unit == (0.0, 1.0):
        return dict(leaves)
    last = "classifier/out_proj" if "classifier/out_proj/kernel" in leaves else "classifier"
    kernel, bias = (np.asarray(leaves[f"{last}/{leaf}"], np.float32) for leaf in ("kernel", "bias"))
    mean, scale = map(np.float32, problem.unit)
    return {**leaves, f"{last}/kernel": kernel * scale, f"{last}/bias": bias * scale + mean}


def tensors_of(folder: Path, file: str, pickled: str) -> dict[str, np.ndarray]:
    """A safetensors file's tensors; ValueError says how to convert a pickled one."""
    path = folder / file
    if not path.is_file() and (folder / pickled).is_file():
        raise ValueError(
            f"{folder} has only {pickled}, a pickle, which is never loaded, since loading it can run code; where torch "
            'is installed, convert it with: python -c "import torch, safetensors.torch as s; '
            f"s.save_file({{k: v.clone().contiguous() for k, v in torch.load('{pickled}', weights_only=True)"
            f".items()}}, '{file}')\""
        )
    return read_tensors(path)
