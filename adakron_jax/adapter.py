"""The portable adapter: the trained parameters, as a folder of two files that any program can read.

`adapter.safetensors` holds its tensors in canonical names: `layer.{i}.{label}.{leaf}` for the method's parts,
`classifier....` for the head (kernels [in, out]), and published names and layouts for trained tensors of the encoder.
Frozen tensors that a method added (VeRA's projections) are there too. `adapter.json` describes the adapter.
"""

import copy
import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import DTypeLike

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.layers import layers_without
from adakron_jax.architectures.paths import layer_of
from adakron_jax.encoders import pretrained
from adakron_jax.encoders.sequence_classifier import HeadForm, Pooling, SequenceClassifier
from adakron_jax.io.fields import hold_to_types, typed_fields
from adakron_jax.io.files import json_digest, read_described, read_json, write_whole
from adakron_jax.methods.registry import as_table, from_table
from adakron_jax.params import count, flatten, graft, refuse, split_params
from adakron_jax.problems import Problem, from_json
from adakron_jax.splice import Method, is_added, is_trainable
from adakron_jax.xla.precision import fuses

FORMAT = 2
FILES = CARD, TENSORS = "adapter.json", "adapter.safetensors"
# Upper bounds that no encoder exceeds, so that a stranger's description cannot request more memory than there is.
_MOST, _MOST_OTHERS = {"num_layers": 1000}, 1 << 24


@dataclasses.dataclass(frozen=True)
class Card:
    """The contents of `adapter.json`.

    Attributes:
      method: the method with its fields.
      task: the name of what it was trained on.
      problem: what the head predicts.
      pooling, head: what the head reads and its form, as in `SequenceClassifier`.
      max_length: number of tokens at which an example is cut.
      base, fingerprint: the encoder's name, and `pretrained.fingerprint` of the weights it was trained on.
      encoder: the encoder's sizes.
      scores: metric -> value on the development set.
      texts, label: names of the one or two columns that held the texts, and of those that held the labels; empty if
        they had no names.
    """

    method: Method = dataclasses.field(metadata={"accepted": "a method, such as AdaKron()"})
    task: str
    problem: Problem
    base: str
    fingerprint: str
    encoder: EncoderConfig
    scores: Mapping[str, float]
    max_length: int
    pooling: Pooling = "pooler"
    head: HeadForm = "own"
    texts: tuple[str, ...] = ()
    label: tuple[str, ...] = ()

    def __post_init__(self):
        hold_to_types(self)
        if not 1 <= self.max_length <= (most := self.encoder.max_length):
            raise ValueError(f"max_length is {self.max_length}; accepted: 1 to {most}, the encoder's")

    def check_encoder(self, fingerprint: str, name: str, where: object) -> None:
        """Raises ValueError unless an encoder of this fingerprint is the one that the adapter was trained on.

        Args:
          name: the encoder's name in the message.
          where: the adapter's location, for the message.
        """
        if fingerprint != self.fingerprint:
            raise ValueError(
                f"{where}: trained on {self.base} with the fingerprint {self.fingerprint[:12]}, not on {name}, whose "
                f"fingerprint is {fingerprint[:12]}"
            )

    def classifier(self, **settings: Any) -> SequenceClassifier:
        """Returns the model that the card describes, with the card; `settings` are further fields, such as `dtype`."""
        return SequenceClassifier(
            self.encoder,
            self.method,
            num_labels=self.problem.outputs,
            pooling=self.pooling,
            head=self.head,
            reads=self.problem.reads,
            card=self,
            fused=fuses(settings.get("dtype")),
            **settings,
        )


def canonical(paths: Sequence[str], method: Method, config: EncoderConfig) -> dict[str, str]:
    """Maps our paths to names in `adapter.safetensors`."""
    base, seen = pretrained.table(config), method.seen_of(config)
    parts = {f"{site}@{method.name}": part for site, part in method.splices(seen).items()}
    if shared := method.shared(seen):
        parts[f"shared@{method.name}"] = shared

    def named(path: str) -> str:
        if path in base:
            return pretrained.published_name(path, config)
        keys = path.split("/")
        spliced = next((k for k, key in enumerate(keys) if key in parts), None)
        if spliced is None:
            return ".".join(keys)
        part, (first, *others) = parts[keys[spliced]], keys[spliced + 1 :]
        name = part.renamed[first] if first in part.renamed else f"{part.label}.{first}".removeprefix(".")
        leaf, layer = ".".join([name, *others]), layer_of(path)
        return leaf if layer is None else f"layer.{layer}.{leaf}"

    return {path: named(path) for path in paths}


def to_tensors(leaves: Mapping[str, Any], method: Method, config: EncoderConfig) -> dict[str, np.ndarray]:
    """Converts path -> leaf to canonical name -> float32 tensor."""
    base = {path: leaf for path, leaf in leaves.items() if path in pretrained.table(config)}
    tensors = pretrained.to_checkpoint(base, config)
    for path, name in canonical([p for p in leaves if p not in base], method, config).items():
        tensors[name] = np.ascontiguousarray(leaves[path], np.float32)
    return tensors


def from_tensors(
    tensors: Mapping[str, np.ndarray], paths: Sequence[str], method: Method, config: EncoderConfig
) -> dict[str, np.ndarray]:
    """Inverts `to_tensors`: returns the leaves at `paths` that the tensors hold.

    Raises:
      ValueError: a tensor belongs to no path, or does not divide into the leaves that it holds.
    """
    leaves, problems, base = {}, [], pretrained.table(config)
    names = canonical(paths, method, config)
    for path, name in names.items():
        if name not in tensors:
            continue
        tensor = np.asarray(tensors[name], np.float32)
        if path not in base:
            leaves[path] = tensor
        elif tensor.shape == (shape := base[path].stored_shape):
            leaves[path] = base[path].within(tensor)
        else:
            problems.append(f"misshapen {name} {tensor.shape}, expected {shape}")
    refuse(problems + [f"unexpected {name}" for name in sorted(tensors.keys() - set(names.values()))])
    return leaves


def is_portable(method: Method) -> Callable[[str], bool]:
    """Returns the rule for the leaves of a portable adapter: all that train, and all that the method added."""
    trains = is_trainable(method)
    return lambda path: trains(path) or is_added(path)


def save(folder: Path, tree: Mapping[str, Any], card: Card) -> None:
    """Writes the adapter's folder from its portable leaves; each file is written whole or not at all."""
    from safetensors.numpy import save as to_bytes

    said = {"format": FORMAT, **dataclasses.asdict(card), "method": as_table(card.method), **card.problem.as_json()}
    folder.mkdir(parents=True, exist_ok=True)
    tensors = to_tensors(flatten(tree), card.method, card.encoder)
    write_whole(folder / TENSORS, to_bytes(tensors, {"sha256": _digest(tensors, said)}))
    write_whole(folder / CARD, json.dumps(said, indent=2).encode() + b"\n")


def _digest(tensors: Mapping[str, np.ndarray], said: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of all that decides predictions: the tensors, and `adapter.json` less names and scores."""
    deciding = {key: value for key, value in said.items() if key not in ("task", "base", "scores", "texts", "label")}
    digest = hashlib.sha256(json_digest(deciding).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].shape}\n".encode() + tensors[name].tobytes())
    return digest.hexdigest()


def load(folder: Path, expected: Mapping[str, Any] | None = None) -> tuple[dict[str, Any], Card]:
    """Reads an adapter's folder and returns the tree of its portable leaves, and the card.

    Args:
      folder: a folder that `save` wrote.
      expected: the tree's shapes; by default those of the card's method on the card's encoder.

    Raises:
      ValueError: a file is missing, damaged, of another format version, has unknown keys, or has misshapen tensors.
    """
    description, path = folder / CARD, folder / TENSORS
    said = read_json(description)
    card = _card_of(said, description)
    if expected is None:
        try:
            expected = portable_shapes(card)
        except (ValueError, TypeError, OverflowError) as error:
            raise ValueError(f"{description}: no model has such sizes ({error})") from None
    if not path.is_file():
        raise ValueError(f"{path}: no such file; accepted: both files of an adapter, {' and '.join(FILES)}")
    if (size := path.stat().st_size) < (least := 4 * count(expected)):  # checked before anything is allocated
        raise ValueError(f"{path}: {size:,} bytes; accepted: at least {least:,}, as described")
    tensors, metadata = read_described(path)
    try:
        leaves = from_tensors(tensors, list(flatten(expected)), card.method, card.encoder)
        # They also differ if another adapter replaced this one between the two reads.
        if metadata.get("sha256") not in (None, _digest(tensors, said)):
            raise ValueError("it or adapter.json is not as it was written; accepted: an unchanged adapter")
        return graft(expected, leaves), card
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def attach(
    folder: Path, base: Mapping[str, np.ndarray], name: str = "the encoder given", dtype: DTypeLike | None = None
) -> tuple[SequenceClassifier, dict[str, Any], Card]:
    """Puts an adapter on its encoder.

    Args:
      folder: a folder that `save` wrote.
      base: the encoder's leaves, from `pretrained.read`.
      name: the encoder's name in messages.
      dtype: the type that the model computes in; None: the parameters' type, float32.

    Returns:
      The `SequenceClassifier` that the card describes, all its parameters, and the card.

    Raises:
      ValueError: the adapter cannot be loaded, or was trained on another encoder.
    """
    tree, card = load(folder)
    card.check_encoder(pretrained.fingerprint(base), name, folder)
    model = card.classifier(dtype=dtype)
    return model, model.assemble(base, flatten(tree)), card


def portable_shapes(card: Card) -> dict[str, Any]:
    """Returns the shapes of what the card's method trains and adds on the card's encoder."""
    return _portable_shapes(card.classifier())  # pyright: ignore[reportArgumentType]


@functools.lru_cache
def _portable_shapes(model: SequenceClassifier) -> dict[str, Any]:
    return split_params(model.shapes(), is_portable(model.method))[0]


def read_card(path: Path) -> Card:
    """Reads `adapter.json`; ValueError names the file and what is wrong with it."""
    return _card_of(read_json(path), path)


def _card_of(description: Mapping[str, Any], path: Path) -> Card:
    """Builds the card from the object in an `adapter.json`."""
    said = copy.deepcopy(dict(description))
    try:
        if "format" not in said:
            raise ValueError(f"no 'format'; accepted: an adapter's description of format {FORMAT}")
        if (version := said.pop("format")) != FORMAT:
            raise ValueError(f"format {version}; accepted: {FORMAT}")
        if not isinstance(fields := said.pop("method"), dict):
            raise ValueError(f"method is {fields!r:.40}; accepted: an object with a name and fields")
        for name, value in said["encoder"].items():
            if isinstance(value, int) and value > (most := _MOST.get(name, _MOST_OTHERS)):
                raise ValueError(f"{name} is {value:,}; accepted: at most {most:,}")
        said["encoder"] = EncoderConfig(**said["encoder"])
        if missing := fields.pop("leave_out", ()):  # a prefix's earlier form of `layers`
            fields["layers"] = layers_without(missing, said["encoder"].num_layers)
        said["method"] = from_table(fields, path.parent)
        said["problem"] = from_json({key: said.pop(key) for key in ("problem", "labels", "targets")})
        return Card(**typed_fields(Card, said))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
