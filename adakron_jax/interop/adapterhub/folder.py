"""AdapterHub's folders: `adapter_config.json` and `adapter.safetensors`, and two files of the head beside them.

The description has every field of a method, but not its name.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from adakron_jax.adapter import Card
from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.interop.adapterhub import bottlenecks
from adakron_jax.interop.adapterhub.heads import read_head, write_head
from adakron_jax.interop.adapterhub.prefixes import describe_prefix, prefix_slots, read_prefix
from adakron_jax.interop.adapterhub.reft import describe_reft, read_reft, reft_slots, with_signs, without_unused
from adakron_jax.interop.adapterhub.union import read_unipelt, write_unipelt
from adakron_jax.interop.adapterhub.updates import describe_lora, lora_slots, read_lora
from adakron_jax.interop.fields import Fields
from adakron_jax.interop.heads import CLASSES, Base, Imported, tensors_of
from adakron_jax.interop.slots import Slot, put, take
from adakron_jax.methods import IA3, Compacter, DoRA, Houlsby, LoRA, LoReFT, Pfeiffer, PiSSA, Prefix, UniPELT
from adakron_jax.splice import Method

CONFIG, WEIGHTS, PICKLED = "adapter_config.json", "adapter.safetensors", "pytorch_adapter.bin"
# Model type -> what the names of its classes begin with.
PREFIXES = {
    "bert": "Bert",
    "roberta": "Roberta",
    "xlm-roberta": "XLMRoberta",
    "electra": "Electra",
    "deberta-v2": "DebertaV2",
}
_KINDS = ("AdapterModel", "Model", *CLASSES.values())


def read(folder: Path, base: Base) -> Imported:
    """An adapter's folder as AdapterHub saves it, with its head.

    Raises:
      ValueError: a file is missing or damaged, a field or tensor is not understood, or it does not fit the base.
    """
    fields, path = Fields.read(folder / CONFIG), folder / WEIGHTS
    config = base.config
    if config.model_type not in PREFIXES:
        raise ValueError(f"the base is a {config.model_type}; accepted for AdapterHub: {', '.join(PREFIXES)}")
    fields.must(model_type=config.model_type, hidden_size=config.hidden_size)
    fields.any_of("model_class", [PREFIXES[config.model_type] + kind for kind in _KINDS])
    trained_on = fields.name("model_name")
    fields.ignore("version", "config_id")
    name = fields.text("name")
    method, slots = _read_method(Fields(fields.left.pop("config", None), f"{fields.where}: config"), name, config)
    fields.done()
    tensors = _without_copies(tensors_of(folder, WEIGHTS, PICKLED), name)
    try:
        tensors = without_unused(tensors, method) if isinstance(method, LoReFT) else tensors
        leaves = take(slots, tensors)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    head = read_head(folder, config)
    return Imported(method, leaves | head.leaves, head.problem, head.pooling, head.head, trained_on)


def _without_copies(tensors: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """A prefix's MLP is in the file once for the model and once for every layer; ValueError if the copies differ."""
    kept: dict[str, np.ndarray] = {}
    for long, tensor in tensors.items():
        prefix, is_copy, rest = long.partition(f".pool.prefix_tunings.{name}.")
        short = f"{prefix.partition('.')[0]}.prefix_tuning.prefix_tunings.{name}.{rest}" if is_copy else long
        if short in kept and not np.array_equal(kept[short], tensor, equal_nan=True):
            raise ValueError(f"{long} is another than {short}; accepted: copies of one tensor")
        kept[short] = tensor
    return kept


def _read_method(fields: Fields, name: str, config: EncoderConfig) -> tuple[Method, list[Slot]]:
    match kind := fields.left.pop("architecture", None):
        case None:
            method, widths = bottlenecks.read(fields, config)
            slots = bottlenecks.slots(method, widths, name, config)
        case "union":
            method, slots = read_unipelt(fields, name, config, lambda part: _read_method(part, name, config))
        case "prefix_tuning":
            fields.must(use_gating=False)
            method = read_prefix(fields, config)
            slots = prefix_slots(method, name, config)
        case "lora":
            fields.must(use_gating=False)
            method = read_lora(fields, config)
            slots = lora_slots(method, name, config)
        case "reft":
            method = read_reft(fields, config)
            slots = reft_slots(method, name, config)
        case _:
            raise fields.refuse("architecture", kind, "none (a bottleneck), lora, prefix_tuning, reft, union")
    fields.done()
    return method, slots


def write(card: Card, leaves: Mapping[str, Any]) -> dict[str, bytes]:
    """The files of an adapter, for `load_adapter`.

    Raises:
      ValueError: AdapterHub has no such method, or its form of the method cannot say what ours does.
    """
    config, name = card.encoder, "adapter"
    if config.model_type not in PREFIXES:
        raise ValueError(f"the encoder is a {config.model_type}; accepted for AdapterHub: {', '.join(PREFIXES)}")
    said, slots = _write_method(card.method, leaves, name, config)
    leaves = with_signs(leaves)
    about = {
        "hidden_size": config.hidden_size,
        "model_name": card.base,
        "model_type": config.model_type,
        "name": name,
        "version": "adapters.1.3.0",
    }
    head = write_head(card, leaves, name, about, PREFIXES[config.model_type])
    about |= {"config": said, "model_class": head.model_class}
    return {CONFIG: json.dumps(about, indent=2).encode() + b"\n", WEIGHTS: save(put(slots, leaves))} | head.files


def _write_method(
    method: Method, leaves: Mapping[str, Any], name: str, config: EncoderConfig
) -> tuple[dict[str, Any], list[Slot]]:
    match method:
        case Pfeiffer() | Houlsby() | Compacter():
            widths = bottlenecks.measure(method, leaves, config)
            return bottlenecks.describe(method, widths, config), bottlenecks.slots(method, widths, name, config)
        case UniPELT():
            write_part = lambda part, of_part: _write_method(part, of_part, name, config)  # noqa: E731
            return write_unipelt(method, leaves, name, config, write_part)
        case Prefix():
            if method.shift_positions:
                raise ValueError(
                    "method.shift_positions is True; accepted for AdapterHub, where real tokens begin at position 0: "
                    "False"
                )
            return describe_prefix(method, config), prefix_slots(method, name, config)
        case LoRA() | IA3() if not isinstance(method, DoRA | PiSSA):
            return describe_lora(method, config), lora_slots(method, name, config)
        case LoReFT():
            return describe_reft(method, config), reft_slots(method, name, config)
    raise ValueError(
        f"method {method.name} has no equal in AdapterHub; accepted: compacter, compacter++, houlsby, ia3, lora, "
        "loreft, pfeiffer, prefix, unipelt"
    )
