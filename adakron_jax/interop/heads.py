"""Bases and classification heads, shared by the formats."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adakron_jax.adapter import Card
from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.folder import tensors_of
from adakron_jax.encoders import pretrained
from adakron_jax.encoders.sequence_classifier import HeadForm, Pooling, Reads
from adakron_jax.interop.fields import labels_of
from adakron_jax.interop.tensor_table import Entry, Leaves
from adakron_jax.io.files import read_json
from adakron_jax.problems import Classification, Multilabel, Problem, Regression, Tokens, kind_of
from adakron_jax.splice import DENSES, Method, Site

CLASSES: dict[Reads, str] = {"example": "ForSequenceClassification", "token": "ForTokenClassification"}
WRAPPERS = ("module.", "_orig_mod.")  # prefixes that torch's DataParallel and its compiler add to every name


@dataclasses.dataclass(frozen=True)
class Base:
    """The encoder that an adapter is imported onto.

    Attributes:
      config: its sizes.
      said: the contents of its `config.json`.
      leaves: its pretrained leaves.
      asked: the kind of problem that the user names, which overrides `config.json`; empty if none.
    """

    config: EncoderConfig
    said: Mapping[str, Any]
    leaves: Mapping[str, np.ndarray]
    asked: str = ""

    @classmethod
    def read(cls, folder: Path, asked: str = "") -> "Base":
        config = EncoderConfig.from_folder(folder)
        return cls(config, read_json(folder / "config.json"), pretrained.read(folder, config), asked)

    @functools.cached_property
    def fingerprint(self) -> str:
        return pretrained.fingerprint(self.leaves)

    @property
    def asked_reads(self) -> Reads:
        """What the head reads for the kind of problem that the user names."""
        return kind_of(self.asked).reads if self.asked else "example"

    def problem(self, outputs: int, where: str = "", reads: Reads = "example") -> Problem:
        """Returns the problem of a head with this number of outputs, as far as `config.json` describes it.

        Args:
          where: the `config.json`, if it is the head's; empty for a base, whose labels may be another head's.

        Raises:
          ValueError: it contradicts itself or the head, or describes a regression of several numbers.
        """
        kind = self.said.get("problem_type") if reads == "example" else None
        kinds = [known.transformers_type for known in (Classification, Multilabel, Regression)]
        if where and kind not in (None, *kinds):
            raise ValueError(f"{where}: problem_type is {kind!r}; accepted: {', '.join(kinds)}")
        if kind == Regression.transformers_type and outputs > 1 and self.asked in ("", Regression.name):
            raise ValueError(
                f"{where or 'config.json of the base'}: problem_type is 'regression', and the head has {outputs} "
                "outputs; accepted: a regression of one number"
            )
        several = kind == Multilabel.transformers_type
        if outputs == 1 and not several and reads == "example":
            return Regression()
        tables = {key: self.said.get(key) for key in ("id2label", "label2id")}
        if not where:
            known = {key: table for key, table in tables.items() if isinstance(table, dict | list)}
            tables, where = {key: x for key, x in known.items() if len(x) == outputs}, "config.json of the base"
        of_example = Multilabel if several else Classification
        return (Tokens if reads == "token" else of_example)(labels_of(tables, outputs, where))


@dataclasses.dataclass(frozen=True)
class Imported:
    """An adapter of another program, in our terms.

    Attributes:
      method, problem, pooling, head: as in a Card.
      leaves: path -> array, including the head's.
      trained_on: the folder's name for its base; empty if it has none.
    """

    method: Method
    leaves: Leaves
    problem: Problem
    pooling: Pooling = "pooler"
    head: HeadForm = "own"
    trained_on: str = ""


def modules(config: EncoderConfig) -> dict[Site, list[str]]:
    """Returns site -> the published names, one per layer, of the dense layers whose outputs pass it.

    Raises:
      ValueError: the architecture's checkpoints hold several of them as one.
    """
    kernels = [config.architecture.stored[f"{path}/kernel"] for path in DENSES.values()]
    if joined := sorted({kernel.name.split(".")[-2] for kernel in kernels if kernel.of > 1}):
        raise ValueError(
            f"an adapter of {config.model_type}, whose checkpoints hold several projections as one matrix "
            f"({', '.join(joined)}), has no equivalent; accepted: the classifier that it makes of its encoder (export "
            "--to huggingface; of peft, merge_and_unload, save_pretrained and import)"
        )
    return {
        site: [
            pretrained.published_name(f"{path}/kernel".format(i=i), config).removesuffix(".weight")
            for i in range(config.num_layers)
        ]
        for site, path in DENSES.items()
    }


def native_head(config: EncoderConfig, outputs: int, reads: Reads = "example") -> list[Entry]:
    """Returns the places of the architecture's own head in a classifier's checkpoint."""
    d, architecture = config.hidden_size, config.architecture

    def shape(path: str) -> tuple[int, ...]:
        width = outputs if path.rpartition("/")[0] in ("classifier", "classifier/out_proj") else d
        return (d, width) if path.endswith("/kernel") else (width,)

    return [
        Entry(path, stored._replace(shape=shape(path)))
        for path, stored in (architecture.token_head if reads == "token" else architecture.head).items()
    ]


def outputs_of(tensors: Mapping[str, np.ndarray], config: EncoderConfig, where: str, reads: Reads = "example") -> int:
    """Returns the number of outputs of the architecture's own head among the tensors; ValueError if there is none."""
    ends = ("classifier/kernel", "proj/kernel")
    *_, name = (x.tensor.name for x in native_head(config, 1, reads) if x.tensor and x.path.endswith(ends))
    tensor = tensors.get(name)
    if tensor is None or tensor.ndim != 2 or not len(tensor):
        raise ValueError(f"{where}: no classification head of {config.model_type} ({name}); accepted: one with it")
    return len(tensor)


def is_native_head(card: Card) -> bool:
    """Returns whether the head is that of the architecture's own classifier."""
    architecture, of_tokens = card.encoder.architecture, card.problem.reads == "token"
    form = architecture.token_form if of_tokens else architecture.form
    form_matches = card.head == "own" or (card.head == form.activation and not form.normed)
    if of_tokens:
        return form_matches
    first = not architecture.pooler and card.encoder.pooling in (None, "cls")
    return form_matches and (card.pooling == "pooler" or (card.pooling == "first" and first))


def check_native_head(card: Card, what: str) -> None:
    """Raises ValueError unless the head is the architecture's own."""
    if not is_native_head(card):
        reads, accepted = f"the pooling {card.pooling!r}", "--pooling pooler"
        if card.problem.reads == "token":
            reads, accepted = "tokens", "--head own"
        raise ValueError(
            f"{what} cannot have a head of the form {card.head!r} on {reads}; accepted: "
            f"{card.encoder.model_type}'s own head ({accepted})"
        )


def with_unit_fused(leaves: Mapping[str, np.ndarray], problem: Problem) -> Leaves:
    """Returns the leaves with a regression's mean and scale fused into the head: other programs do not store them."""
    if problem.unit == (0.0, 1.0):
        return dict(leaves)
    last = "classifier/out_proj" if "classifier/out_proj/kernel" in leaves else "classifier"
    kernel, bias = (np.asarray(leaves[f"{last}/{leaf}"], np.float32) for leaf in ("kernel", "bias"))
    mean, scale = map(np.float32, problem.unit)
    return {**leaves, f"{last}/kernel": kernel * scale, f"{last}/bias": bias * scale + mean}


def unwrapped(folder: Path, file: str, pickled: str) -> dict[str, np.ndarray]:
    """Does the same as `tensors_of`, with wrappers' prefixes removed from the names."""
    return bare(folder / file, tensors_of(folder, file, pickled), WRAPPERS)


def bare(path: Path, tensors: Mapping[str, np.ndarray], prefixes: Sequence[str]) -> dict[str, np.ndarray]:
    """Removes any of the prefixes from the tensors' names; ValueError if two tensors then have one name."""
    named: dict[str, np.ndarray] = {}
    for name, tensor in tensors.items():
        short = name
        while prefix := next((prefix for prefix in prefixes if short.startswith(prefix)), ""):
            short = short.removeprefix(prefix)
        if short in named:
            raise ValueError(f"{path}: {name} is there twice; accepted: every tensor once")
        named[short] = tensor
    return named
