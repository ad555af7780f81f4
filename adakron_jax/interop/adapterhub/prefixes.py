"""Prefixes as AdapterHub has them: trained directly (`flat`), or through an MLP that all layers share."""

from typing import Any

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.layers import layers_without
from adakron_jax.interop.adapterhub.updates import gate_slots, left_out, missing_of
from adakron_jax.interop.fields import Fields
from adakron_jax.interop.heads import modules
from adakron_jax.interop.slots import Piece, Slot
from adakron_jax.methods import Prefix, UniPELT
from adakron_jax.splice import Site, path_of, path_of_shared

FLAT = "flat prefix"  # in place of a leaf's path: the file has keys and values of all layers as one vector


def read_prefix(fields: Fields, config: EncoderConfig) -> Prefix:
    length, flat = fields.whole("prefix_length"), fields.flag("flat")
    mid = 512 if flat else fields.whole("bottleneck_size")
    if not flat:
        fields.must(non_linearity="tanh")
    layers = layers_without(left_out(fields, config), config.num_layers)
    fields.ignore("bottleneck_size", "non_linearity", "shared_gating", "cross_prefix", "encoder_prefix")
    fields.ignore("dropout", "init_weights_seed")
    fields.done()
    return Prefix(length, mlp=not flat, mid=mid, layers=layers)


def as_prefix(method: Prefix | UniPELT) -> Prefix:
    return method if isinstance(method, Prefix) else Prefix(method.length, method.mlp, method.mid, layers=method.layers)


def prefix_slots(method: Prefix | UniPELT, name: str, config: EncoderConfig) -> list[Slot]:
    """Of a prefix, trained directly or through its MLP; of UniPELT's with its gates."""
    prefix, d = as_prefix(method), config.hidden_size
    width, at = 2 * len(prefix.layer_numbers(config)) * d, path_of_shared(method.name)
    root = f"{config.architecture.prefix}prefix_tuning.prefix_tunings.{name}.self_prefix."
    if not prefix.mlp:
        slots = [Slot(FLAT, Piece(f"{root}control_trans", (prefix.length * width,)))]
    else:
        slots = [
            Slot(f"{at}embedding", Piece(f"{root}wte.weight", (prefix.length, d))),
            Slot(f"{at}mlp_1/kernel", Piece(f"{root}control_trans.0.weight", (d, prefix.mid), "transposed")),
            Slot(f"{at}mlp_1/bias", Piece(f"{root}control_trans.0.bias", (prefix.mid,))),
            Slot(f"{at}mlp_2/kernel", Piece(f"{root}control_trans.2.weight", (prefix.mid, width), "transposed")),
            Slot(f"{at}mlp_2/bias", Piece(f"{root}control_trans.2.bias", (width,))),
        ]
    if isinstance(method, UniPELT):
        queries = modules(config)[Site.QUERY]
        names = {i: f"{q.rpartition('.')[0]}.prefix_tuning.prefix_gates.{name}" for i, q in enumerate(queries)}
        slots += gate_slots(path_of(Site.KEYS_VALUES, method.name), names, d)
    return slots


def describe_prefix(method: Prefix | UniPELT, config: EncoderConfig, gated: bool) -> dict[str, Any]:
    return {
        "architecture": "prefix_tuning",
        "flat": not method.mlp,
        "prefix_length": method.length,
        "bottleneck_size": method.mid,
        "non_linearity": "tanh",
        "leave_out": missing_of(method, config),
        "encoder_prefix": True,
        "cross_prefix": True,
        "use_gating": gated,
        "shared_gating": True,
        "dropout": 0.0,
    }
