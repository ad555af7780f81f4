"""Pretrained encoders: read from a model's folder into our tree.

One table per model type, in `architectures`, says where each tensor of a checkpoint goes. It is read both ways:
`from_checkpoint` reads tensors, and `to_checkpoint` gives our leaves their published names and layouts back.
"""

import collections
import functools
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.folder import PICKLED, WEIGHTS, tensors_of
from adakron_jax.architectures.paths import CLASSIFIER, POOLER, layer_of, without_layer
from adakron_jax.architectures.stored import Stored
from adakron_jax.params import flatten, refuse
from adakron_jax.splice import Method

Leaves = dict[str, np.ndarray]

_POOLER = (f"{POOLER}/kernel", f"{POOLER}/bias")
# Earlier names of a LayerNorm's leaves, renamed before the table is read.
_RENAMES = ((r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias"))


@functools.cache
def _shapes(config: EncoderConfig) -> dict[str, tuple[int, ...]]:
    from adakron_jax.encoders.sequence_classifier import SequenceClassifier

    return {path: leaf.shape for path, leaf in flatten(SequenceClassifier(config, Method()).shapes()).items()}


@functools.cache
def table(config: EncoderConfig) -> Mapping[str, Stored]:
    """Returns the leaves of the pretrained part, each with its place in a checkpoint."""
    layers = config.num_layers
    known = {
        path.format(i=i): (stored, i)
        for path, stored in config.architecture.stored.items()
        for i in (range(layers) if "{i}" in path else [0])
    }
    shapes = _shapes(config)
    return {path: stored.of_layer(i, layers, shapes[path]) for path, (stored, i) in known.items() if path in shapes}


def published_name(path: str, config: EncoderConfig) -> str:
    """Returns the name, prefix included, of the tensor that holds the base leaf at `path`."""
    return config.architecture.prefix + table(config)[path].name


def from_checkpoint(tensors: Mapping[str, np.ndarray], config: EncoderConfig, where: object = "") -> Leaves:
    """Maps the tensors of a checkpoint to path -> array, with kernels laid out [in, out].

    If an architecture's checkpoints hold parts of a head that was trained with the encoder (ModernBERT's), the leaves
    include them, and a new head starts from them. A pooler may be missing, since masked-language training saves none.

    Args:
      where: the file's name in messages.

    Raises:
      ValueError: tensors are missing, unexpected, doubled or misshapen; all of them are listed.
    """
    named, problems = _without_foreign(tensors, config)
    leaves, used = _pretrained_head(tensors, config), set()
    expected = table(config)
    if not any(expected[path].name in named for path in _POOLER if path in expected):
        expected = {path: stored for path, stored in expected.items() if path not in _POOLER}
    for path, stored in expected.items():
        name, shape = stored.name, stored.stored_shape
        tensor = named.get(name)
        if tensor is None:
            problems.append(f"missing {name}")
        elif tensor.shape != shape:
            problems.append(f"misshapen {name} {tensor.shape}, expected {shape}")
        else:
            leaves[path] = stored.within(tensor)
        used.add(name)
    problems += [f"unexpected {name}" for name in sorted(named.keys() - used)]
    refuse(dict.fromkeys(problems), where)
    return {path: leaf.astype(np.float32, copy=False) for path, leaf in leaves.items()}


def _without_foreign(tensors: Mapping[str, np.ndarray], config: EncoderConfig) -> tuple[Leaves, list[str]]:
    """Returns the encoder's tensors by their names without prefix, and a list of those that occur twice."""
    architecture, named, problems = config.architecture, {}, []
    for name, tensor in tensors.items():
        short = name.removeprefix(architecture.prefix)
        for pattern, replacement in _RENAMES:
            short = re.sub(pattern, replacement, short)
        if architecture.foreign.search(short):
            continue
        if short in named:
            problems.append(f"doubled {name}")
        named[short] = tensor
    return named, problems


def _pretrained_head(tensors: Mapping[str, np.ndarray], config: EncoderConfig) -> Leaves:
    """Returns those leaves of a pretrained head that are of the shape of ours."""
    leaves = {}
    for path in config.architecture.pretrained_head:
        stored = config.architecture.head[path]._replace(shape=_shapes(config)[path])
        tensor = np.asarray(tensors.get(stored.name, ()))
        if tensor.shape == stored.stored_shape:
            leaves[path] = stored.within(tensor)
    return leaves


def to_checkpoint(leaves: Mapping[str, Any], config: EncoderConfig) -> Leaves:
    """Inverts `from_checkpoint` for any of its leaves: published name with prefix -> array.

    Raises:
      ValueError: only some of the leaves that one tensor holds are given.
    """
    tensors, parts = Leaves(), collections.Counter[str]()
    for path, leaf in leaves.items():
        leaf, stored, name = np.asarray(leaf), table(config)[path], published_name(path, config)
        tensor = tensors.setdefault(name, np.zeros(stored.stored_shape, leaf.dtype))
        stored.within(tensor)[...] = leaf
        parts[name] += 1
    whole = {published_name(path, config): table(config)[path].of for path in leaves}
    refuse(f"incomplete {name}" for name, count in parts.items() if count < whole[name])
    return tensors


def fingerprint(leaves: Mapping[str, np.ndarray]) -> str:
    """Computes the SHA-256 of the encoder's leaves' names, shapes and float32 values, whatever file they came from.

    The leaves of one kind in all layers count as one array, concatenated along a first axis and named without a number:
    existing adapters identify their encoders by this form.
    """
    digest, alike = hashlib.sha256(), collections.defaultdict(list)
    for path in sorted(leaves, key=lambda path: layer_of(path) or 0):
        if not path.startswith(f"{CLASSIFIER}/"):
            alike[without_layer(path).replace("/{i}/", "/")].append(path)
    for name in sorted(alike):
        shape = np.shape(leaves[alike[name][0]])
        shape = shape if layer_of(alike[name][0]) is None else (len(alike[name]), *shape)
        digest.update(f"{name} {shape}\n".encode())
        for path in alike[name]:
            digest.update(np.ascontiguousarray(leaves[path], dtype="<f4").data)
    return digest.hexdigest()


# What flax raises for bytes that hold no parameters, besides ValueError.
_NO_TREE = (TypeError, KeyError, IndexError, AttributeError, OverflowError)


def read(folder: Path, config: EncoderConfig) -> Leaves:
    """Reads a model folder's weights into path -> float32 array.

    Raises:
      ValueError: there are no weights, they are damaged, or they are not the encoder's; the file is named.
    """
    path = next((path for file in (*WEIGHTS, *PICKLED) if (path := folder / file).is_file()), None)
    if path is None:
        raise ValueError(f"{folder} has no weights; accepted: {', '.join(WEIGHTS)}")
    if path.suffix != ".msgpack":
        return from_checkpoint(tensors_of(folder, WEIGHTS[0], PICKLED[0]), config, path)
    try:
        return from_checkpoint(dict(_flax_tensors(path)), config)
    except (ValueError, OSError, *_NO_TREE) as error:
        raise ValueError(f"{path}: {error}") from None


def _flax_tensors(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yields a checkpoint of transformers' former Flax classes in the names and layouts of other checkpoints."""
    from flax.serialization import msgpack_restore

    tree: Any = msgpack_restore(path.read_bytes())
    if not isinstance(tree, dict):
        raise ValueError("no tree of parameters")
    for name, leaf in flatten(tree).items():
        module, _, kind = name.replace("/", ".").rpartition(".")
        weight = {"kernel": "weight", "scale": "weight", "embedding": "weight"}.get(kind, kind)
        yield f"{module}.{weight}", np.swapaxes(leaf, -1, -2) if kind == "kernel" else np.asarray(leaf)
