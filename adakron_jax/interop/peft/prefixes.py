"""peft's form of prefixes: the vectors before the keys and values of every layer, in one matrix."""

import dataclasses

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.layers import ALL_LAYERS
from adakron_jax.architectures.stored import Layout, Stored
from adakron_jax.interop.fields import Fields, Said
from adakron_jax.interop.heads import Base
from adakron_jax.interop.peft.form import Form
from adakron_jax.interop.tensor_table import Entry, Leaves, write_tensors
from adakron_jax.methods import Prefix
from adakron_jax.splice import Site, path_of

PROMPTS = "prompt_embeddings"


class PrefixForm(Form[Prefix]):
    """Even with a projection, the file holds only the projection's results."""

    peft_type, methods = "PREFIX_TUNING", (Prefix,)
    wrapper = "base_model."

    def read(self, fields: Fields, base: Base, tensors: Leaves) -> tuple[Prefix, list[Entry]]:
        method = Prefix(fields.whole("num_virtual_tokens"), mlp=False, shift_positions=True)
        fields.must(**_described(base.config))
        fields.ignore("prefix_projection", "encoder_hidden_size", "init_weights")
        return method, prompts(method, base.config, PROMPTS)

    def write(self, method: Prefix, leaves: Leaves, config: EncoderConfig) -> tuple[Said, Leaves]:
        if not method.shift_positions or method.layers != ALL_LAYERS:
            raise ValueError(
                f"method.shift_positions is {method.shift_positions} and method.layers {method.layers}; accepted for "
                f"peft, which counts the prefix among the positions of every layer: true and {ALL_LAYERS}"
            )
        if method.mlp:
            _, leaves = method.fuse(leaves, config)
            method = dataclasses.replace(method, mlp=False)
        return {
            "peft_type": self.peft_type,
            "num_virtual_tokens": method.length,
            "encoder_hidden_size": config.hidden_size,
            "prefix_projection": False,
            **_described(config),
        }, write_tensors(prompts(method, config, PROMPTS), leaves)


def _described(config: EncoderConfig) -> dict[str, int]:
    """Returns a description's fields on the encoder."""
    return {
        "num_transformer_submodules": 1,
        "num_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "token_dim": config.hidden_size,
    }


def prompts(method: Prefix, config: EncoderConfig, name: str, layout: Layout = "same") -> list[Entry]:
    """Places all in one tensor [length, layers * 2 * hidden]: layer i's keys are at 2 i, its values at 2 i + 1.

    Layers without a prefix are not counted.
    """
    layers, shape = method.layer_numbers(config), (method.length, config.hidden_size)
    return [
        Entry(
            f"{path_of(Site.KEYS_VALUES, method.name)}{leaf}".format(i=i),
            Stored(name, shape, layout, part=2 * place + second, of=2 * len(layers)),
        )
        for place, i in enumerate(layers)
        for second, leaf in enumerate(("key", "value"))
    ]
