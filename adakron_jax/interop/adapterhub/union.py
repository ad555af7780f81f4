"""UniPELT as AdapterHub has it: a union of a prefix, a bottleneck and LoRA, each behind a gate."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.layers import ALL_LAYERS
from adakron_jax.interop.adapterhub import bottlenecks
from adakron_jax.interop.adapterhub.prefixes import describe_prefix, prefix_slots, read_prefix
from adakron_jax.interop.adapterhub.updates import described, lora_slots, present, read_targets
from adakron_jax.interop.fields import Fields
from adakron_jax.interop.slots import Slot
from adakron_jax.methods import Pfeiffer, UniPELT
from adakron_jax.splice import require


def read_unipelt(fields: Fields, name: str, config: EncoderConfig) -> tuple[UniPELT, list[Slot]]:
    """The method and where its leaves lie."""
    parts = fields.left.pop("configs", None)
    if not isinstance(parts, list):
        raise fields.refuse("configs", parts, "a list of descriptions")
    fields_of_part: dict[str, dict[str, Any]] = {}
    adapter, missing = None, []
    for number, said in enumerate(parts):
        part = Fields(said, f"{fields.where}: configs[{number}]")
        if part.left.pop("use_gating", False) is not True:
            raise part.refuse("use_gating", False, "true, of every part of a union (UniPELT)")
        kind = part.left.pop("architecture", None)
        if kind is None:
            adapter = bottlenecks.read(part, config)
            fields_of_part["adapter"] = _adapter_fields(part, adapter)
        elif kind == "prefix_tuning":
            fields_of_part["prefix"] = _prefix_fields(part, config)
        elif kind == "lora":
            part.must(composition_mode="add")
            targets, missing = read_targets(part, config)
            fields_of_part["lora"] = {"lora_r": part.whole("r"), "targets": targets}
            part.ignore("alpha")  # in whose place the gate stands
        else:
            raise part.refuse("architecture", kind, "a bottleneck, prefix_tuning, lora")
        part.done()
    if len(fields_of_part) < len(parts):
        raise fields.refuse("configs", f"{len(parts)} parts", "one of a kind")
    order = [part for part in ("adapter", "prefix", "lora") if part in fields_of_part]
    method = UniPELT(tuple(order), **{key: value for part in order for key, value in fields_of_part[part].items()})
    # A layer without one part of the three has zeros for it, which add nothing.
    slots = lora_slots(method, name, present(method, config, missing), config) if "lora" in fields_of_part else []
    if "prefix" in fields_of_part:
        slots += prefix_slots(method, name, config)
    if adapter:
        slots += bottlenecks.slots(adapter, name, config, method)
    return method, slots


def _adapter_fields(part: Fields, adapter: bottlenecks.Measured) -> dict[str, Any]:
    method = adapter.method
    if not isinstance(method, Pfeiffer) or dataclasses.replace(method, layers=ALL_LAYERS) != Pfeiffer(method.r):
        raise part.refuse("the bottleneck", str(method), "seq_bn, unscaled")
    return {"r": max(adapter.widths)}


def _prefix_fields(part: Fields, config: EncoderConfig) -> dict[str, Any]:
    if part.left.get("shared_gating", True) is not True:
        raise part.refuse("shared_gating", part.left["shared_gating"], "true")
    prefix = read_prefix(part, config)
    if prefix.layers != ALL_LAYERS:
        raise part.refuse("leave_out", f"all but {prefix.layers}", "none, of the prefix of a union")
    return {"length": prefix.length, "mlp": prefix.mlp, "mid": prefix.mid}


def write_unipelt(
    method: UniPELT, leaves: Mapping[str, Any], name: str, config: EncoderConfig
) -> tuple[dict[str, Any], list[Slot]]:
    require(method.layers == ALL_LAYERS, "layers", method.layers, f"{ALL_LAYERS}, of {method.name} for AdapterHub")
    parts, slots = [], []
    if "prefix" in method.parts:
        parts.append(describe_prefix(method, config, gated=True))
        slots += prefix_slots(method, name, config)
    if "adapter" in method.parts:
        widths = bottlenecks.measure(Pfeiffer(method.r), leaves, config, method)
        parts.append(bottlenecks.describe(widths, config) | {"use_gating": True})
        slots += bottlenecks.slots(widths, name, config, method)
    if "lora" in method.parts:
        parts.append(described(method.targets, [], method.lora_r, method.lora_r, "add", "lora", gated=True))
        slots += lora_slots(method, name, present(method, config), config)
    return {"architecture": "union", "configs": parts}, slots
