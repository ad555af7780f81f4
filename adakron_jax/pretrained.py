"""Pretrained encoders: found by hub id, folder or `pkg:NAME`, and read into our tree.

One table says where each tensor of a checkpoint goes. It is read both ways: `from_checkpoint` brings tensors in,
`to_checkpoint` gives our leaves their published names and layouts back.
"""

import functools
import hashlib
import importlib
import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from adakron_jax.config import EncoderConfig
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

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "flax_model.msgpack")
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt"),
)


def names(path: str, config: EncoderConfig) -> list[str]:
    """Names in a checkpoint, without prefix, of the base leaf at `path`: one a layer, or one."""
    name, _ = TABLE[path]
    return [name.format(i=i) for i in range(config.num_layers)] if "{i}" in name else [name]


def base_paths(config: EncoderConfig) -> list[str]:
    """Our leaves of the pretrained part. RoBERTa's pooler, where there is one, is not used."""
    return [path for path in TABLE if not (config.model_type == "roberta" and path.startswith("pooler/"))]


@functools.cache
def _shapes(config: EncoderConfig) -> dict[str, tuple[int, ...]]:
    from adakron_jax.encoder import SequenceClassifier

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


def locate(model: str) -> Path:
    """The folder of a model: a folder itself, `pkg:NAME` in an installed package, or a hub id, downloaded if need be.

    Raises:
      ValueError: there is no such model, or the hub cannot be reached; the message says what to do.
    """
    if model.startswith("pkg:"):
        return _in_package(model.removeprefix("pkg:"))
    if model and Path(model).is_dir():
        return Path(model)
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise ValueError(f"model {model!r}: no such folder")
    return _from_hub(model)


def _in_package(name: str) -> Path:
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"model 'pkg:{name}': no installed package of this name")
    for root in map(Path, spec.submodule_search_locations):
        for config in sorted((*root.glob("config.json"), *root.glob("*/config.json"))):
            return config.parent
    raise ValueError(f"model 'pkg:{name}': the package holds no model folder (one with a config.json)")


def _from_hub(model: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    cached_only = not hub_is_reachable()

    def fetch(file: str) -> Path | None:
        try:
            return Path(hf_hub_download(model, file, local_files_only=cached_only))
        except LocalEntryNotFoundError:
            # Neither in the cache nor within reach. Of a model in the cache, that is a file which it never had.
            if file == "config.json" or not cached_only:
                raise
            return None
        except EntryNotFoundError:
            return None

    try:
        config = fetch("config.json")
        if config is None:
            raise ValueError(f"model {model!r}: the hub's repository has no config.json")
        if not any(map(fetch, _WEIGHTS[:1])) and (index := fetch(_WEIGHTS[1])):
            for shard in _shards(index):
                fetch(shard)
        elif not (config.parent / _WEIGHTS[0]).exists() and not fetch(_WEIGHTS[2]):
            fetch(_PICKLED[0])  # only so that `read` finds it and says how to convert it
        for file in TOKENIZER_FILES:
            fetch(file)
        if cached_only and not any((config.parent / file).exists() for file in _WEIGHTS + _PICKLED):
            raise LocalEntryNotFoundError("weights")
    except (RepositoryNotFoundError, GatedRepoError, HFValidationError):
        raise ValueError(
            f"model {model!r}: no such folder, and no such model on the hub or no access to it; "
            "accepted: a hub id, a folder, or pkg:NAME"
        ) from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ValueError(
            f"model {model!r}: not in the cache, and the hub cannot be reached ({type(error).__name__}); "
            "give --model a folder or pkg:NAME, or fill the cache on a machine with access and copy HF_HOME"
        ) from None
    return config.parent


def hub_is_reachable() -> bool:
    """Whether the hub answers; False as well where HF_HUB_OFFLINE says to leave it alone.

    One quick question, where the hub's own client would try again and again for half a minute.
    """
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return False
    session = get_session()
    http = importlib.import_module(type(session).__module__.partition(".")[0])  # the client has changed it before
    try:
        session.head(constants.ENDPOINT, timeout=10)
    except (http.HTTPError, http.InvalidURL):
        return False
    return True


def _shards(index: Path) -> list[str]:
    try:
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (KeyError, TypeError, AttributeError):
        raise ValueError("no map of weights to shards") from None


def read(folder: Path, config: EncoderConfig) -> Leaves:
    """Reads a model folder's weights into path -> float32 array.

    Raises:
      ValueError: there are no weights, they are damaged, or they do not fit; the file is named.
    """
    from safetensors import SafetensorError

    for file in _WEIGHTS:
        if (path := folder / file).is_file():
            try:
                return from_checkpoint(_tensors(path), config)
            except (ValueError, OSError, SafetensorError) as error:
                raise ValueError(f"{path}: {error}") from None
    if any((folder / file).is_file() for file in _PICKLED):
        raise ValueError(
            f"{folder} has only pickled weights ({_PICKLED[0]}), which are never loaded, since loading them can run "
            'code; where torch is installed, convert them with: python -c "import torch, safetensors.torch as s; '
            f"s.save_file({{k: v.contiguous() for k, v in torch.load('{_PICKLED[0]}', weights_only=True).items()}}, "
            "'model.safetensors')\""
        )
    raise ValueError(f"{folder} has no weights; accepted: {', '.join(_WEIGHTS)}")


def _tensors(path: Path) -> Leaves:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if path.suffix == ".safetensors":
        return load_file(path)
    if path.suffix == ".msgpack":
        return dict(_flax_tensors(path))
    tensors: Leaves = {}
    for shard in _shards(path):
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
