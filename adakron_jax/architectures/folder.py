"""The files of a model's folder: weights, tokenizer, and the pooling that a sentence encoder declares."""

from pathlib import Path
from typing import Literal, get_args

import numpy as np

from adakron_jax.io.files import conversion, read_object, read_tensors

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "flax_model.msgpack")
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "sentencepiece.bpe.model", "spm.model"),
)
POOLING = "1_Pooling/config.json"  # names the pooling that a sentence encoder was trained with
Pooling = Literal["pooler", "first", "mean"]  # what a head reads
AnyPooling = Literal["auto", "pooler", "first", "mean"]
AUTO = "auto"
_MODES: dict[str, Pooling] = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "first"}


def pooling_in(folder: Path, pooling: str) -> Pooling:
    """Returns the pooling that a word means: `auto` is the one that the encoder was trained with, else `pooler`.

    Raises:
      ValueError: there is no such pooling, or the encoder's file is damaged.
    """
    if pooling == AUTO:
        return trained_pooling(folder) or "pooler"
    known = {name: name for name in get_args(Pooling)}
    if pooling not in known:
        raise ValueError(f"pooling is {pooling!r}; accepted: {', '.join(get_args(AnyPooling))}")
    return known[pooling]


def trained_pooling(folder: Path) -> Pooling | None:
    """Returns the pooling that a sentence encoder was trained with; None if its folder names none, or an unsupported
    one.

    Raises:
      ValueError: the file that names it is damaged.
    """
    try:
        said = read_object(folder / POOLING)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder / POOLING}: {error}") from None
    modes: list[Pooling] = [mode for key, mode in _MODES.items() if said.get(key) is True]
    return modes[0] if len(modes) == 1 else None


def shards(index: Path) -> list[str]:
    """Returns the files that a checkpoint's index names, all in its folder; ValueError if it is not such an index."""
    try:
        names = sorted(set(read_object(index)["weight_map"].values()))
    except (KeyError, TypeError, AttributeError):
        raise ValueError("no weight_map to shards") from None
    if outside := [name for name in names if not isinstance(name, str) or Path(name).name != name]:
        raise ValueError(f"a shard is {outside[0]!r}; accepted: a file beside the index")
    return names


def tensors_of(folder: Path, file: str, pickled: str) -> dict[str, np.ndarray]:
    """Reads the tensors of a safetensors file, or of the shards that its index names.

    Raises:
      ValueError: there is no such file, it is damaged, two shards hold one tensor, or there is only a pickled file; the
        message then says how to convert that.
    """
    path, index = folder / file, folder / f"{file}.index.json"
    if path.is_file() or not index.is_file():
        if not path.is_file() and any((folder / name).is_file() for name in (pickled, f"{pickled}.index.json")):
            raise ValueError(
                f"{folder} has only {pickled}, a pickle; pickled weights are never loaded, since loading them can run "
                f"code; where torch is installed, convert them with: {conversion(pickled, file)}"
            )
        return read_tensors(path)
    tensors: dict[str, np.ndarray] = {}
    try:
        for shard in shards(index):
            more = read_tensors(folder / shard)
            if doubled := sorted(tensors.keys() & more.keys()):
                raise ValueError(f"doubled {', '.join(doubled)}")
            tensors |= more
    except (OSError, ValueError) as error:
        raise ValueError(f"{index}: {error}") from None
    return tensors
