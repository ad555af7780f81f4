"""UniPELT as AdapterHub has it: a union of a prefix, a bottleneck and LoRA, each behind a gate.

A part is read and written as the method that it is by itself; its leaves are then UniPELT's, with gates beside them.
"""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.layers import ALL_LAYERS
from adakron_jax.interop.fields import Fields
from adakron_jax.interop.heads import modules
from adakron_jax.interop.slots import Piece, Slot, pieces
from adakron_jax.methods import LoRA, Pfeiffer, Prefix, UniPELT
from adakron_jax.splice import Method, Site, path_of, require

# The kinds of part: UniPELT's names of them, and of their fields.
_KINDS: dict[type[Method], tuple[str, dict[str, str]]] = {
    Pfeiffer: ("adapter", {"r": "r"}),
    Prefix: ("prefix", {"length": "length", "mlp": "mlp", "mid": "mid"}),
    LoRA: (
        "lora",
        {
            "lora_r": "r",
            "targets": "targets",
        },
    ),
}
# The end of a leaf's path that a gate stands beside, and that of its tensor's name.
_GATED = {"down/kernel": ".adapter_down.0.weight", "lora_a": ".lora_A"}


def read_unipelt(
    fields: Fields, name: str, config: EncoderConfig, read: Callable[[Fields], tuple[Method, list[Slot]]]
) -> tuple[UniPELT, list[Slot]]:
    """The method and where its leaves lie. A layer without one of the parts has zeros for it, which add nothing.

    Args:
      read: reads the description of a part.
    """
    parts = fields.left.pop("configs", None)
    if not isinstance(parts, list):
        raise fields.refuse("configs", parts, "a list of descriptions")
    said: dict[str, dict[str, Any]] = {}
    slots: list[Slot] = []
    for number, described in enumerate(parts):
        part = Fields(described, f"{fields.where}: configs[{number}]")
        if part.left.pop("use_gating", False) is not True:
            raise part.refuse("use_gating", False, "true, of every part of a union (UniPELT)")
        part.must(shared_gating=True)
        method, part_slots = read(part)
        kind, of_kind = _KINDS.get(type(method), ("", {}))
        if not kind or getattr(method, "scales", ()) or isinstance(method, Prefix) and method.layers != ALL_LAYERS:
            raise part.refuse("a part", str(method), "seq_bn, unscaled; lora; prefix_tuning of all layers")
        said[kind] = {field: getattr(method, of_part) for field, of_part in of_kind.items()}
        slots += _gated(part_slots, method, name, config)
    if len(said) < len(parts):
        raise fields.refuse("configs", f"{len(parts)} parts", "one of a kind")
    order = [kind for kind, _ in _KINDS.values() if kind in said]
    unipelt = UniPELT(tuple(order), **{field: value for kind in order for field, value in said[kind].items()})
    return unipelt, slots


def write_unipelt(
    method: UniPELT,
    leaves: Mapping[str, Any],
    name: str,
    config: EncoderConfig,
    write: Callable[[Method, Mapping[str, Any]], tuple[dict[str, Any], list[Slot]]],
) -> tuple[dict[str, Any], list[Slot]]:
    """The description, and where the leaves lie.

    Args:
      write: writes a part.
    """
    require(method.layers == ALL_LAYERS, "layers", method.layers, f"{ALL_LAYERS}, of {method.name} for AdapterHub")
    parts, slots = [], []
    for _, part in method.members():
        of_part = {path.replace(f"@{method.name}/", f"@{part.name}/"): leaf for path, leaf in leaves.items()}
        said, part_slots = write(part, of_part)
        parts.append(said | {"use_gating": True})
        slots += _gated(part_slots, part, name, config)
    return {"architecture": "union", "configs": parts}, slots


def _gated(slots: list[Slot], part: Method, name: str, config: EncoderConfig) -> list[Slot]:
    """A part's slots as UniPELT's, of all layers, with those of its gates."""
    gates: list[Slot] = []

    def gate(at: str, names: Mapping[int, str], inputs: int) -> None:
        gates.append(Slot(f"{at}gate/kernel", pieces(names, ".weight", (inputs, 1), "transposed")))
        gates.append(Slot(f"{at}gate/bias", pieces(names, ".bias", (1,))))

    for slot, (end, tensor) in itertools.product(slots, _GATED.items()):
        if slot.path.endswith(end) and not isinstance(slot.pieces, Piece):
            names = {i: f"{x.name.removesuffix(tensor)}.gate" if x else "" for i, x in slot.pieces.items()}
            gate(slot.path.removesuffix(end), names, next(iter(slot.all)).shape[0])
    if isinstance(part, Prefix):
        queries = modules(config)[Site.QUERY]
        names = {i: f"{q.rpartition('.')[0]}.prefix_tuning.prefix_gates.{name}" for i, q in enumerate(queries)}
        gate(path_of(Site.KEYS_VALUES, part.name), names, config.hidden_size)

    def of_union(slot: Slot) -> Slot:
        slot = slot._replace(path=slot.path.replace(f"@{part.name}/", f"@{UniPELT.name}/"))
        if isinstance(slot.pieces, Piece):
            return slot
        return slot._replace(pieces={i: slot.pieces.get(i) for i in range(config.num_layers)})

    return [of_union(slot) for slot in (*slots, *gates)]
