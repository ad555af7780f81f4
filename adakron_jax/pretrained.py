"""Pretrained encoders: found by hub id, folder or `pkg:NAME`, and read into our tree.

One table says where each tensor of a checkpoint goes. It is read both ways: `from_checkpoint` brings tensors in,
`to_checkpoint` gives our leaves their published names and layouts back.
"""

import functools
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from adakron_jax.config import EncoderConfig
from adakron_jax.hub import PICKLED, WEIGHTS, shards
from adakron_jax.params import flatten, refuse
from adakron_jax.splice import Method

Leaves = dict[str, np.ndarray]

_DENSES = {
    "encoder.layer.{i}.attention.self.query": "encoder/layers/attention/query",
    "encoder.layer.{i}.attention.self.key": "encoder/layers/attention/key",
    "encoder.layer.{i}.attention.self.value": "encoder/layers/attention/value",
    "encoder.layer.{i}.attention.output.dense": "encoder/layers/attention/dense",
    "encoder.layer.{i}.intermediate.dense": "encoder/layers/ffn/hidden",
    "encoder.layer.{i}.output.dense": "encoder/layers/ffn/dense",
    "pooler.dense": "pooler",
}
_NORMS = {
    "embeddings.LayerNorm": "encoder/embeddings/norm",
    "encoder.layer.{i}.attention.output.LayerNorm": "encoder/layers/attention_norm",
    "encoder.layer.{i}.output.LayerNorm": "encoder/layers/ffn_norm",
}
_EMBEDDINGS = {
    "embeddings.word_embeddings": "encoder/embeddings/word",
    "embeddings.position_embeddings": "encoder/embeddings/position",
    "embeddings.token_type_embeddings": "encoder/embeddings/token_type",
}
# Our leaf -> (name in a checkpoint, whether it lies there transposed).
TABLE: dict[str, tuple[str, bool]] = (
    {f"{ours}/kernel": (f"{theirs}.weight", True) for theirs, ours in _DENSES.items()}
    | {f"{ours}/bias": (f"{theirs}.bias", False) for theirs, ours in (_DENSES | _NORMS).items()}
    | {f"{ours}/scale": (f"{theirs}.weight", False) for theirs, ours in _NORMS.items()}
    | {f"{ours}/embedding": (f"{theirs}.weight", False) for theirs, ours in _EMBEDDINGS.items()}
)

# Spellings of other times and programs, brought to today's before the table is read.
_RENAMES = (
    (r"^(bert|roberta)\.", ""),
    (r"LayerNorm\.gamma$", "LayerNorm.weight"),
    (r"LayerNorm\.beta$", "LayerNorm.bias"),
)
# Tensors of a checkpoint that are no part of the encoder: heads of other tasks, and a buffer that counts 0, 1, 2, ...
_FOREIGN = re.compile(r"^(cls|lm_head|classifier|qa_outputs)\.|^embeddings\.(position_ids|token_type_ids)$")


def names(path: str, config: EncoderConfig) -> list[str]:
    """Names in a checkpoint, without prefix, of the base leaf at `path`: one a layer, or one."""
    name, _ = TABLE[path]
    return [name.format(i=i) for i in range(config.num_layers)] if "{i}" in name else [name]


def base_paths(config: EncoderConfig) -> list[str]:
    """Our leaves of the pretrained part. RoBERTa's pooler, where there is one, is not used."""
    return [path for path in TABLE if not (config.model_type == "roberta" and path.startswith("pooler/"))]


@functools.cache
def _shapes(config: EncoderConfig) -> dict[str, tuple[int, ...]]:
    from adakron_jax.encoders.classifier import SequenceClassifier

    return {path: leaf.shape for path, leaf in flatten(SequenceClassifier(config, Method()).shapes()).items()}


def from_checkpoint(tensors: Mapping[str, np.ndarray], config: EncoderConfig) -> Leaves:
    """Maps the tensors of a checkpoint to path -> array, with layers stacked and kernels laid [in, out].

    Raises:
      ValueError: tensors are missing, unexpected, doubled or misshapen; all of them are listed.
    """
    shapes = _shapes(config)
    found: dict[str, np.ndarray] = {}
    problems = []
    for name, tensor in tensors.items():
        short = name
        for pattern, replacement in _RENAMES:
            short = re.sub(pattern, replacement, short)
        if _FOREIGN.search(short) or (config.model_type == "roberta" and short.startswith("pooler.")):
            continue
        if short in found:
            problems.append(f"doubled {name}")
        found[short] = tensor

    leaves: Leaves = {}
    for path in base_paths(config):
        template, transposed = TABLE[path]
        stacked, parts = "{i}" in template, []
        shape = shapes[path][1:] if stacked else shapes[path]
        shape = shape[::-1] if transposed else shape
        for name in names(path, config):
            part = found.pop(name, None)
            if part is None:
                problems.append(f"missing {name}")
            elif part.shape != shape:
                problems.append(f"misshapen {name} {part.shape}, expected {shape}")
            else:
                parts.append(part)
        if not problems:
            leaf = np.stack(parts) if stacked else parts[0]
            leaves[path] = np.swapaxes(leaf, -1, -2) if transposed else leaf
    problems += [f"unexpected {name}" for name in sorted(found)]
    refuse(problems)
    return {path: leaf.astype(np.float32, copy=False) for path, leaf in leaves.items()}


def to_checkpoint(leaves: Mapping[str, Any], config: EncoderConfig) -> Leaves:
    """The inverse of `from_checkpoint`, for any of its leaves: published name with prefix -> array."""
    tensors = {}
    for path, leaf in leaves.items():
        leaf = np.asarray(leaf)
        template, transposed = TABLE[path]
        leaf = np.swapaxes(leaf, -1, -2) if transposed else leaf
        for name, part in zip(names(path, config), leaf if "{i}" in template else [leaf], strict=True):
            tensors[f"{config.model_type}.{name}"] = np.ascontiguousarray(part)
    return tensors


def fingerprint(leaves: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of the pretrained leaves' names, shapes and float32 values, whatever file they came from."""
    digest = hashlib.sha256()
    for path in sorted(leaves):
        leaf = np.ascontiguousarray(leaves[path], dtype="<f4")
        digest.update(f"{path} {leaf.shape}\n".encode())
        digest.update(leaf.data)
    return digest.hexdigest()


# What flax raises of bytes that hold no parameters, besides ValueError.
_NO_TREE = (TypeError, KeyError, IndexError, AttributeError, OverflowError)


def read(folder: Path, config: EncoderConfig) -> Leaves:
    """Reads a model folder's weights into path -> float32 array.

    Raises:
      ValueError: there are no weights, they are damaged, or they do not fit; the file is named.
    """
    from safetensors import SafetensorError

    for file in WEIGHTS:
        if (path := folder / file).is_file():
            try:
                return from_checkpoint(_tensors(path), config)
            except (ValueError, OSError, SafetensorError, *_NO_TREE) as error:
                raise ValueError(f"{path}: {error}") from None
    if any((folder / file).is_file() for file in PICKLED):
        raise ValueError(
            f"{folder} has only pickled weights ({PICKLED[0]}), which are never loaded, since loading them can run "
            'code; where torch is installed, convert them with: python -c "import torch, safetensors.torch as s; '
            f"s.save_file({{k: v.contiguous() for k, v in torch.load('{PICKLED[0]}', weights_only=True).items()}}, "
            "'model.safetensors')\""
        )
    raise ValueError(f"{folder} has no weights; accepted: {', '.join(WEIGHTS)}")


def _tensors(path: Path) -> Leaves:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if path.suffix == ".safetensors":
        return load_file(path)
    if path.suffix == ".msgpack":
        return dict(_flax_tensors(path))
    tensors: Leaves = {}
    for shard in shards(path):
        try:
            more = load_file(path.parent / shard)
        except (OSError, SafetensorError) as error:
            raise ValueError(f"{shard}: {error}") from None
        refuse(f"doubled {name}" for name in sorted(tensors.keys() & more.keys()))
        tensors |= more
    return tensors


def _flax_tensors(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """A checkpoint of the Flax classes that transformers once had, brought to names and layouts of the others."""
    from flax.serialization import msgpack_restore

    tree: Any = msgpack_restore(path.read_bytes())
    if not isinstance(tree, dict):
        raise ValueError("no tree of parameters")
    for name, leaf in flatten(tree).items():
        module, _, kind = name.replace("/", ".").rpartition(".")
        weight = {"kernel": "weight", "scale": "weight", "embedding": "weight"}.get(kind, kind)
        yield f"{module}.{weight}", np.swapaxes(leaf, -1, -2) if kind == "kernel" else np.asarray(leaf)
