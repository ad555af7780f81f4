"""Prefixes as AdapterHub has them: trained directly (`flat`), or through an MLP that all layers share."""

from typing import Any

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.layers import layers_without
from adakron_jax.interop.adapterhub.updates import left_out, missing_of
from adakron_jax.interop.fields import Fields
from adakron_jax.interop.peft.prefixes import prompt_slots
from adakron_jax.interop.slots import Piece, Slot
from adakron_jax.methods import Prefix
from adakron_jax.splice import path_of_shared


def read_prefix(fields: Fields, config: EncoderConfig) -> Prefix:
    length, flat = fields.whole("prefix_length"), fields.flag("flat")
    mid = 512 if flat else fields.whole("bottleneck_size")
    if not flat:
        fields.must(non_linearity="tanh")
    layers = layers_without(left_out(fields, config), config.num_layers)
    fields.ignore("bottleneck_size", "non_linearity", "shared_gating", "cross_prefix", "encoder_prefix")
    fields.ignore("dropout", "init_weights_seed")
    return Prefix(length, mlp=not flat, mid=mid, layers=layers)


def describe_prefix(method: Prefix, config: EncoderConfig) -> dict[str, Any]:
    return {
        "architecture": "prefix_tuning",
        "flat": not method.mlp,
        "prefix_length": method.length,
        "bottleneck_size": method.mid,
        "non_linearity": "tanh",
        "leave_out": missing_of(method, config),
        "encoder_prefix": True,
        "cross_prefix": True,
        "use_gating": False,
        "shared_gating": True,
        "dropout": 0.0,
    }


def prefix_slots(method: Prefix, name: str, config: EncoderConfig) -> list[Slot]:
    """Of a prefix, trained directly or through its MLP."""
    width, at = 2 * len(method.layer_numbers(config)) * config.hidden_size, path_of_shared(method.name)
    root = f"{config.architecture.prefix}prefix_tuning.prefix_tunings.{name}.self_prefix."
    if not method.mlp:
        return prompt_slots(method, config, f"{root}control_trans", "flat")
    slots = [Slot(f"{at}embedding", Piece(f"{root}wte.weight", (method.length, config.hidden_size)))]
    for dense, number, sizes in (
        ("mlp_1", 0, (config.hidden_size, method.mid)),
        ("mlp_2", 2, (method.mid, width)),
    ):
        slots += [
            Slot(f"{at}{dense}/kernel", Piece(f"{root}control_trans.{number}.weight", sizes, "transposed")),
            Slot(f"{at}{dense}/bias", Piece(f"{root}control_trans.{number}.bias", sizes[1:])),
        ]
    return slots
