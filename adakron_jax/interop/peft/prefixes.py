"""Prefixes as peft has them: what stands before the keys and values of every layer, in one matrix."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.layers import ALL_LAYERS
from adakron_jax.interop.fields import Fields
from adakron_jax.interop.slots import Leaves, Piece, Slot
from adakron_jax.methods import Prefix
from adakron_jax.splice import Site, path_of

PROMPTS = "prompt_embeddings"


def read_prefix(fields: Fields, config: EncoderConfig) -> tuple[Prefix, list[Slot]]:
    length = fields.whole("num_virtual_tokens")
    fields.must(
        num_transformer_submodules=1,
        num_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        token_dim=config.hidden_size,
    )
    # With its projection, too, the file has only what the projection gives.
    fields.ignore("prefix_projection", "encoder_hidden_size", "init_weights")
    shape = (length, 2 * config.num_layers * config.hidden_size)
    return Prefix(length, mlp=False, shift_positions=True), [Slot(PROMPTS, Piece(PROMPTS, shape))]


def write_prefix(
    method: Prefix, leaves: Mapping[str, Any], config: EncoderConfig
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    if not method.shift_positions or method.layers != ALL_LAYERS:
        raise ValueError(
            f"method.shift_positions is {method.shift_positions} and method.layers {method.layers}; accepted for peft, "
            f"which counts the prefix among the positions of every layer: true and {ALL_LAYERS}"
        )
    if method.mlp:
        fused, leaves = method.fuse(dict(leaves), config)
        assert isinstance(fused, Prefix)
        method = fused
    return {
        "peft_type": "PREFIX_TUNING",
        "num_virtual_tokens": method.length,
        "num_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "token_dim": config.hidden_size,
        "encoder_hidden_size": config.hidden_size,
        "num_transformer_submodules": 1,
        "prefix_projection": False,
    }, {PROMPTS: join_prompts(leaves, config, method)}


def split_prompts(prompts: np.ndarray, config: EncoderConfig, method: Prefix, owner: str = Prefix.name) -> Leaves:
    """Keys of layer i stand at 2 i, its values at 2 i + 1; layers without a prefix are not counted.

    Args:
      owner: the name of the method that the leaves are of.
    """
    layers, at = method.layer_numbers(config), path_of(Site.KEYS_VALUES, owner)
    given = prompts.reshape(method.length, len(layers), 2, config.hidden_size).transpose(1, 2, 0, 3)
    return {
        f"{at}{name}".format(i=layer): leaf
        for layer, pair in zip(layers, given, strict=True)
        for name, leaf in zip(("key", "value"), pair, strict=True)
    }


def join_prompts(
    leaves: Mapping[str, Any], config: EncoderConfig, method: Prefix, owner: str = Prefix.name
) -> np.ndarray:
    """The inverse [length, layers * 2 * hidden]."""
    at = path_of(Site.KEYS_VALUES, owner)
    layers, names = method.layer_numbers(config), ("key", "value")
    pairs = np.asarray([[leaves[f"{at}{name}".format(i=i)] for name in names] for i in layers], np.float32)
    return np.ascontiguousarray(pairs.transpose(2, 0, 1, 3)).reshape(method.length, -1)
