"""AdapterHub's folders: `adapter_config.json` and `adapter.safetensors`, with two files of the head.

The description has every field of a method, but not its name.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from adakron_jax.adapter import Card
from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.layers import ALL_LAYERS
from adakron_jax.architectures.paths import without_layer
from adakron_jax.interop.adapterhub import bottlenecks, forms
from adakron_jax.interop.adapterhub.heads import read_head, write_head
from adakron_jax.interop.fields import Fields, Said
from adakron_jax.interop.heads import CLASSES, Base, Imported, modules, unwrapped
from adakron_jax.interop.huggingface import PREFIXES as CLASS_PREFIXES
from adakron_jax.interop.tensor_table import Entry, Leaves, dense, read_leaves, write_tensors
from adakron_jax.methods import IA3, Compacter, CompacterPlusPlus, Houlsby, LoRA, LoReFT, Pfeiffer, Prefix, UniPELT
from adakron_jax.splice import Method, Site, path_of, require

CONFIG, WEIGHTS, PICKLED = "adapter_config.json", "adapter.safetensors", "pytorch_adapter.bin"
# Model type -> the beginning of its classes' names.
PREFIXES = {kind: CLASS_PREFIXES[kind] for kind in ("bert", "roberta", "xlm-roberta", "electra", "deberta-v2")}
_KINDS = ("AdapterModel", "Model", *CLASSES.values())
# The description's field `architecture` -> its reader; a bottleneck's description has no such field.
_READERS = {
    None: bottlenecks.read,
    "lora": forms.read_lora,
    "prefix_tuning": forms.read_prefix,
    "reft": forms.read_reft,
}
_WRITERS: dict[type[Method], Callable[[Any, Leaves, str, EncoderConfig], tuple[Said, list[Entry]]]] = {
    **dict.fromkeys((Pfeiffer, Houlsby, Compacter, CompacterPlusPlus), bottlenecks.write),
    **dict.fromkeys((LoRA, IA3), forms.write_lora),
    Prefix: forms.write_prefix,
    LoReFT: forms.write_reft,
}
METHODS = {*_WRITERS, UniPELT}
# For a union, UniPELT's names of its parts, and field of UniPELT -> field of the part.
_PARTS: dict[type[Method], tuple[str, dict[str, str]]] = {
    Pfeiffer: ("adapter", {"r": "r"}),
    Prefix: ("prefix", {"length": "length", "mlp": "mlp", "mid": "mid"}),
    LoRA: ("lora", {"lora_r": "r", "targets": "targets"}),
}
# The end of the path of a leaf that has a gate beside it -> the end of its tensor's name.
_GATED = {"down/kernel": ".adapter_down.0.weight", "lora_a": ".lora_A"}


def read(folder: Path, base: Base) -> Imported:
    """Reads an adapter's folder that AdapterHub saved, with its head.

    Raises:
      ValueError: a file is missing or damaged, a field or tensor is not understood, or it does not fit the base.
    """
    fields, config = Fields.read(folder / CONFIG), base.config
    if config.model_type not in PREFIXES:
        raise ValueError(f"the base is a {config.model_type}; accepted for AdapterHub: {', '.join(PREFIXES)}")
    fields.must(model_type=config.model_type, hidden_size=config.hidden_size)
    fields.any_of("model_class", [PREFIXES[config.model_type] + kind for kind in _KINDS])
    trained_on = fields.name("model_name")
    fields.ignore("version", "config_id")
    name = fields.text("name")
    said = Fields(fields.left.pop("config", None), f"{fields.where}: config")
    method, table = _read_method(said, name, config)
    fields.done()
    tensors = _without_copies(unwrapped(folder, WEIGHTS, PICKLED), name)
    leaves = read_leaves(table, forms.without_unused(tensors, method), folder / WEIGHTS)
    of_head, problem, pooling, form = read_head(folder, config)
    return Imported(method, leaves | of_head, problem, pooling, form, trained_on)


def _without_copies(tensors: Leaves, name: str) -> Leaves:
    """Drops copies: the file holds a prefix's MLP once for the model and once per layer; ValueError if they differ."""
    unique: Leaves = {}
    for long, tensor in tensors.items():
        prefix, is_copy, rest = long.partition(f".pool.prefix_tunings.{name}.")
        short = f"{prefix.partition('.')[0]}.prefix_tuning.prefix_tunings.{name}.{rest}" if is_copy else long
        if short in unique and not np.array_equal(unique[short], tensor, equal_nan=True):
            raise ValueError(f"{long} differs from {short}; accepted: copies of one tensor")
        unique[short] = tensor
    return unique


def _read_method(fields: Fields, name: str, config: EncoderConfig) -> tuple[Method, list[Entry]]:
    kind = fields.left.pop("architecture", None)
    if kind == "union":
        method, table = _read_union(fields, name, config)
    elif isinstance(kind, str | None) and kind in _READERS:
        method, table = _READERS[kind](fields, name, config)
    else:
        raise fields.refuse("architecture", kind, "none (a bottleneck), lora, prefix_tuning, reft, union")
    fields.done()
    return method, table


def write(card: Card, leaves: Leaves) -> dict[str, bytes]:
    """Returns the files of an adapter, for `load_adapter`.

    Raises:
      ValueError: AdapterHub has no such method, or its form of the method cannot express ours.
    """
    config, name = card.encoder, "adapter"
    if config.model_type not in PREFIXES:
        raise ValueError(f"the encoder is a {config.model_type}; accepted for AdapterHub: {', '.join(PREFIXES)}")
    said, table = _write_method(card.method, leaves, name, config)
    leaves = forms.with_signs(leaves)
    about = {
        "hidden_size": config.hidden_size,
        "model_name": card.base,
        "model_type": config.model_type,
        "name": name,
        "version": "adapters.1.3.0",
    }
    model_class, files = write_head(card, leaves, name, about, PREFIXES[config.model_type])
    about |= {"config": said, "model_class": model_class}
    return files | {CONFIG: json.dumps(about, indent=2).encode() + b"\n", WEIGHTS: save(write_tensors(table, leaves))}


def _write_method(method: Method, leaves: Leaves, name: str, config: EncoderConfig) -> tuple[Said, list[Entry]]:
    if isinstance(method, UniPELT):
        return _write_union(method, leaves, name, config)
    if type(method) not in _WRITERS:
        accepted = ", ".join(sorted(kind.name for kind in METHODS))
        raise ValueError(f"method {method.name} has no equivalent in AdapterHub; accepted: {accepted}")
    return _WRITERS[type(method)](method, leaves, name, config)


def _read_union(fields: Fields, name: str, config: EncoderConfig) -> tuple[UniPELT, list[Entry]]:
    """Reads each part as a separate method; its leaves then become UniPELT's, with gates beside them.

    A layer without one of the parts gets zeros for it, which add nothing.
    """
    parts = fields.left.pop("configs", None)
    if not isinstance(parts, list):
        raise fields.refuse("configs", parts, "a list of descriptions")
    said: dict[str, Said] = {}
    table: list[Entry] = []
    for number, described in enumerate(parts):
        part = Fields(described, f"{fields.where}: configs[{number}]")
        if part.left.pop("use_gating", False) is not True:
            raise part.refuse("use_gating", False, "true, of every part of a union (UniPELT)")
        part.must(shared_gating=True)
        method, entries = _read_method(part, name, config)
        kind, of_kind = _PARTS.get(type(method), ("", {}))
        if not kind or getattr(method, "scales", ()) or isinstance(method, Prefix) and method.layers != ALL_LAYERS:
            raise part.refuse("a part", str(method), "seq_bn, unscaled; lora; prefix_tuning of all layers")
        said[kind] = {field: getattr(method, of_part) for field, of_part in of_kind.items()}
        table += _gated(entries, method, name, config)
    if len(said) < len(parts):
        raise fields.refuse("configs", f"{len(parts)} parts", "one of a kind")
    settings = {field: value for of_part in said.values() for field, value in of_part.items()}
    return UniPELT(tuple(kind for kind, _ in _PARTS.values() if kind in said), **settings), table


def _write_union(method: UniPELT, leaves: Leaves, name: str, config: EncoderConfig) -> tuple[Said, list[Entry]]:
    require(method.layers == ALL_LAYERS, "layers", method.layers, f"{ALL_LAYERS}, of {method.name} for AdapterHub")
    parts, table = [], []
    for _, part in method.members():
        of_part = {path.replace(f"@{method.name}/", f"@{part.name}/"): leaf for path, leaf in leaves.items()}
        said, entries = _write_method(part, of_part, name, config)
        parts.append(said | {"use_gating": True})
        table += _gated(entries, part, name, config)
    return {"architecture": "union", "configs": parts}, table


def _gated(entries: list[Entry], part: Method, name: str, config: EncoderConfig) -> list[Entry]:
    """Returns a part's table as UniPELT's, of all layers, with its gates."""
    gates: list[Entry] = []
    for path, tensor, *_ in entries:
        end = next((end for end in _GATED if path.endswith(end)), "")
        if tensor and end:
            gate = f"{tensor.name.removesuffix(_GATED[end])}.gate"
            gates += dense(f"{path.removesuffix(end)}gate", gate, (tensor.shape[0], 1))
    if isinstance(part, Prefix):
        for i, query in enumerate(modules(config)[Site.QUERY]):
            gate = f"{query.rpartition('.')[0]}.prefix_tuning.prefix_gates.{name}"
            gates += dense(f"{path_of(Site.KEYS_VALUES, part.name)}gate".format(i=i), gate, (config.hidden_size, 1))
    whole: dict[str, Entry] = {}
    for entry in (*entries, *gates):
        assert entry.tensor
        for layer in range(config.num_layers):  # zeros, until the layer's own entry follows
            path = without_layer(entry.path).format(i=layer)
            whole.setdefault(path, Entry(path, None, entry.shape or entry.tensor.shape))
        whole[entry.path] = entry
    return [entry._replace(path=path.replace(f"@{part.name}/", f"@{UniPELT.name}/")) for path, entry in whole.items()]
