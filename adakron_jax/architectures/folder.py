"""The files of a model's folder: weights, tokenizer, and what a sentence encoder says of its pooling."""

from pathlib import Path

from adakron_jax.files import read_object

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "flax_model.msgpack")


PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")


TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "sentencepiece.bpe.model"),
)
POOLING = "1_Pooling/config.json"  # what a sentence encoder was trained to read a text by


def shards(index: Path) -> list[str]:
    """The files that a checkpoint's index names, all in the index's folder; ValueError if it is no such index."""
    try:
        names = sorted(set(read_object(index)["weight_map"].values()))
    except (KeyError, TypeError, AttributeError):
        raise ValueError("no map of weights to shards") from None
    if outside := [name for name in names if not isinstance(name, str) or Path(name).name != name]:
        raise ValueError(f"a shard is {outside[0]!r}; accepted: a file beside the index")
    return names
