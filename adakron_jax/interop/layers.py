"""An adapter that is in some layers alone, as one of all layers: the form in which other programs' files have it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.paths import is_stacked
from adakron_jax.methods import IA3, Compacter, Houlsby, Pfeiffer, Prefix
from adakron_jax.methods.lora import Update
from adakron_jax.splice import ALL_LAYERS, Method, is_own, require


def in_every_layer(method: Method, leaves: Mapping[str, Any], config: EncoderConfig) -> tuple[Method, dict[str, Any]]:
    """The same adapter with `layers` all: where it was not, its scale is 0, its vectors are 1, its prefix is left out.

    Raises:
      ValueError: the method has no such form.
    """
    chosen = method.layer_range(config)
    if len(chosen) == config.num_layers:
        return method, dict(leaves)
    outside = tuple(layer for layer in range(config.num_layers) if layer not in chosen)

    def widened(per_layer: int, own: float, scales: tuple[float, ...]) -> tuple[float, ...]:
        inside = scales or (own,) * (per_layer * len(chosen))
        before, after = chosen.start * per_layer, (config.num_layers - chosen.stop) * per_layer
        return (0.0,) * before + inside + (0.0,) * after

    match method:
        case Update():
            changed: dict[str, Any] = {"scales": widened(len(method.targets), method.own_scale, method.scales)}
        case Pfeiffer() | Houlsby() | Compacter():
            changed = {"scales": widened(1, 1.0, method.scales)}
        case Prefix():
            changed = {"leave_out": outside + tuple(chosen.start + layer for layer in method.leave_out)}
        case _:
            require(isinstance(method, IA3), "layers", method.layers, f"{ALL_LAYERS}, of {method.name} in this format")
            changed = {}

    def spread(leaf: Any) -> np.ndarray:
        wide = np.full((config.num_layers, *np.shape(leaf)[1:]), float(isinstance(method, IA3)), np.float32)
        wide[chosen.start : chosen.stop] = leaf
        return wide

    wide = {path: spread(leaf) if is_stacked(path) and is_own(path) else leaf for path, leaf in leaves.items()}
    return dataclasses.replace(method, layers=ALL_LAYERS, **changed), wide
