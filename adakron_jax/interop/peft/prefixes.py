"""Prefixes as peft has them: what stands before the keys and values of every layer, in one matrix."""

from typing import Any

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.layers import ALL_LAYERS
from adakron_jax.interop.fields import Fields
from adakron_jax.interop.slots import Layout, Piece, Slot
from adakron_jax.methods import Prefix
from adakron_jax.splice import Site, path_of

PROMPTS = "prompt_embeddings"


def _described(config: EncoderConfig) -> dict[str, int]:
    """What a description says of the encoder."""
    return {
        "num_transformer_submodules": 1,
        "num_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "token_dim": config.hidden_size,
    }


def read_prefix(fields: Fields, config: EncoderConfig) -> tuple[Prefix, list[Slot]]:
    length = fields.whole("num_virtual_tokens")
    fields.must(**_described(config))
    # With its projection, too, the file has only what the projection gives.
    fields.ignore("prefix_projection", "encoder_hidden_size", "init_weights")
    method = Prefix(length, mlp=False, shift_positions=True)
    return method, prompt_slots(method, config, PROMPTS)


def write_prefix(method: Prefix, config: EncoderConfig) -> tuple[dict[str, Any], list[Slot]]:
    """Of a prefix without its MLP."""
    if not method.shift_positions or method.layers != ALL_LAYERS:
        raise ValueError(
            f"method.shift_positions is {method.shift_positions} and method.layers {method.layers}; accepted for peft, "
            f"which counts the prefix among the positions of every layer: true and {ALL_LAYERS}"
        )
    return {
        "peft_type": "PREFIX_TUNING",
        "num_virtual_tokens": method.length,
        "encoder_hidden_size": config.hidden_size,
        "prefix_projection": False,
        **_described(config),
    }, prompt_slots(method, config, PROMPTS)


def prompt_slots(method: Prefix, config: EncoderConfig, name: str, layout: Layout = "same") -> list[Slot]:
    """One tensor [length, layers * 2 * hidden]: keys of layer i stand at 2 i, its values at 2 i + 1.

    Layers without a prefix are not counted.
    """
    layers, at, shape = (
        method.layer_numbers(config),
        path_of(Site.KEYS_VALUES, method.name),
        (method.length, config.hidden_size),
    )
    return [
        Slot(f"{at}{leaf}", {i: Piece(name, shape, layout, 2 * k + n, 2 * len(layers)) for k, i in enumerate(layers)})
        for n, leaf in enumerate(("key", "value"))
    ]
