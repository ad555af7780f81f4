"""LN tuning as peft has it: whole LayerNorms, each in place of the base's."""

from collections.abc import Mapping
from typing import Any

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.paths import ENCODER
from adakron_jax.encoders import pretrained
from adakron_jax.interop.fields import Fields
from adakron_jax.interop.heads import Base
from adakron_jax.interop.peft.targets import chosen
from adakron_jax.interop.slots import Leaves, Piece, Slot
from adakron_jax.methods import LNTuning


def read_norms(fields: Fields, base: Base, tensors: Mapping[str, Any]) -> tuple[LNTuning, list[Slot], Leaves]:
    """The method, where its leaves lie, and those of the base's in place of which the file has none."""
    is_chosen = chosen(fields, tensors)
    norms = {path: leaf for path, leaf in base.leaves.items() if _trains(path)}
    given = [path for path in norms if is_chosen(module_of(path, base.config))]
    if not given:
        known = sorted({module_of(path, base.config).rpartition(".")[2] for path in norms})
        raise ValueError(f"{fields.where}: target_modules names no LayerNorm; accepted: {', '.join(known)}")
    kept = {path: leaf for path, leaf in norms.items() if path not in given}
    return LNTuning(), norm_slots({path: norms[path].shape for path in given}, base.config), kept


def write_norms(
    method: LNTuning, leaves: Mapping[str, Any], config: EncoderConfig
) -> tuple[dict[str, Any], list[Slot]]:
    shapes = {path: leaf.shape for path, leaf in leaves.items() if _trains(path)}
    modules = sorted({module_of(path, config) for path in shapes})
    return {"peft_type": "LN_TUNING", "target_modules": modules}, norm_slots(shapes, config)


def _trains(path: str) -> bool:
    return path.startswith(ENCODER) and LNTuning().trains(path)


def module_of(path: str, config: EncoderConfig) -> str:
    return pretrained.published_name(path, config).rpartition(".")[0]


def norm_slots(shapes: Mapping[str, tuple[int, ...]], config: EncoderConfig) -> list[Slot]:
    def piece(path: str, shape: tuple[int, ...]) -> Piece:
        module, _, leaf = pretrained.published_name(path, config).rpartition(".")
        return Piece(f"{module}.ln_tuning_layers.{leaf}", shape)

    return [Slot(path, piece(path, shape)) for path, shape in shapes.items()]
