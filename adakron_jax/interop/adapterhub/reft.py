"""LoReFT as AdapterHub has it: in every layer a unit for the first tokens, 0, and one for the last, 1.

A unit for no tokens is in the program's files too, and is never used: it is not read, and not written.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.layers import layers_named
from adakron_jax.interop.fields import Fields
from adakron_jax.interop.heads import modules
from adakron_jax.interop.slots import Leaves, Slot, pieces
from adakron_jax.methods import LoReFT
from adakron_jax.splice import Site, path_of

_UNITS = ("prefix", "suffix")  # in order of their numbers


def read_reft(fields: Fields, config: EncoderConfig) -> LoReFT:
    """The method. Whether the projection is subtracted is not said; reading a file, the program always subtracts it."""
    fields.must(output_reft=True, orthogonality=True, tied_weights=False, non_linearity=None)
    fields.ignore("dropout", "dtype", "init_weights_seed")
    counts = {f"{unit}_positions": fields.whole(f"{unit}_positions", 0) for unit in _UNITS}
    layers = list(range(config.num_layers))
    if fields.left.get("layers") == "all":
        fields.ignore("layers")
    else:
        layers = [layer for layer in fields.wholes("layers") if layer < config.num_layers]
    if not layers or not any(counts.values()):
        raise fields.refuse("layers and positions", (layers, *counts.values()), "a unit somewhere")
    return LoReFT(fields.whole("r"), **counts, layers=layers_named(layers, config.num_layers))


def without_unused(tensors: Mapping[str, np.ndarray], method: LoReFT) -> dict[str, np.ndarray]:
    """The tensors of the units that change tokens.

    Raises:
      ValueError: weight decay moved what the program cuts to a whole number, and multiplies with.
    """
    unused = [f".units.{number}." for number, unit in enumerate(_UNITS) if unit not in method.positions]
    used = {name: x for name, x in tensors.items() if not any(unit in name for unit in unused)}
    for name, tensor in used.items():
        if name.endswith(".original") and tensor.ndim == 2 and (np.diagonal(tensor) != -1).any():
            raise ValueError(f"{name} has other numbers than -1 on its diagonal; accepted: -1")
    return used


def reft_slots(method: LoReFT, name: str, config: EncoderConfig) -> list[Slot]:
    slots, d, r, weight = [], config.hidden_size, method.r, "projection.parametrizations.weight"
    at, denses = path_of(Site.LAYER_OUTPUT, method.name), modules(config)[Site.FFN_DENSE]
    for number, unit in enumerate(_UNITS):
        roots = {
            i: f"{denses[i].removesuffix('output.dense')}reft_layer.refts.{name}.units.{number}"
            for i in method.layer_numbers(config)
        }
        stored = {
            "source/kernel": pieces(roots, ".learned_source.weight", (d, r), "transposed"),
            "source/bias": pieces(roots, ".learned_source.bias", (r,)),
            "projection/original": pieces(roots, f".{weight}.original", (d, r), "transposed"),
            "projection/base": pieces(roots, f".{weight}.0.base", (d, d)),
        }
        if unit in method.positions:
            slots += [Slot(f"{at}{unit}/{leaf}", tensors) for leaf, tensors in stored.items()]
    return slots


def describe_reft(method: LoReFT, config: EncoderConfig) -> dict[str, Any]:
    return {
        "architecture": "reft",
        "layers": list(method.layer_numbers(config)),
        "prefix_positions": method.prefix_positions,
        "suffix_positions": method.suffix_positions,
        "r": method.r,
        "orthogonality": True,
        "tied_weights": False,
        "non_linearity": None,
        "output_reft": True,
        "dropout": 0.0,
    }


def with_signs(leaves: Mapping[str, Any]) -> Leaves:
    """The leaves, with the factors that the program reads of vectors where ours has none: weight decay moves them."""
    signed = {path: np.array(leaf) for path, leaf in leaves.items() if path.endswith("/projection/original")}
    for leaf in signed.values():
        np.fill_diagonal(leaf, -1)
    return {**leaves, **signed}
