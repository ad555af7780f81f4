"""peft's folders: `adapter_config.json` and `adapter_model.safetensors`.

A tensor's name is that of the module in the classification model and the tensor's own, behind `base_model.model.`; the
head lies in the same file. Label names and the kind of problem are not saved.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors.numpy import save

from adakron_jax import methods
from adakron_jax.adapter import Card
from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.encoders.sequence_classifier import Reads
from adakron_jax.interop.fields import Fields
from adakron_jax.interop.heads import (
    WRAPPERS,
    Base,
    Imported,
    bare,
    check_native_head,
    modules,
    native_head,
    outputs_of,
    tensors_of,
)
from adakron_jax.interop.peft import lokr, oft, products, shared, spectral, updates
from adakron_jax.interop.peft.norms import read_norms, write_norms
from adakron_jax.interop.peft.prefixes import PROMPTS, read_prefix, write_prefix
from adakron_jax.interop.peft.targets import Targets
from adakron_jax.interop.slots import Slot, put, take
from adakron_jax.splice import Method

CONFIG, WEIGHTS, PICKLED = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
TASKS: dict[Reads, str] = {"example": "SEQ_CLS", "token": "TOKEN_CLS"}
_PREFIX = "base_model.model."
_DENSES_OF_HEADS = {"distilbert": ["pre_classifier"], "deberta-v2": ["pooler"]}
_OUTSIDE = ("pooler.dense", "embeddings_project")  # dense layers besides those of the layers

Read = Callable[[Fields, Targets, EncoderConfig], tuple[Method, list[Slot]]]
Write = Callable[[Any, Mapping[str, Any], EncoderConfig], tuple[dict[str, Any], list[Slot]]]
READERS: dict[str, Read] = {
    "LORA": updates.read_lora,
    "LOKR": lokr.read,
    "VERA": updates.read_vera,
    "IA3": updates.read_ia3,
    "FOURIERFT": spectral.read_fourierft,
    "C3A": spectral.read_c3a,
    "OFT": oft.read,
    "HIRA": products.read_hira,
    "MISS": products.read_miss,
    "RANDLORA": shared.read_randlora,
    "VBLORA": shared.read_vblora,
}
WRITERS: dict[type[Method], Write] = {
    methods.LoRA: updates.write_lora,
    methods.DoRA: updates.write_lora,
    methods.PiSSA: updates.write_lora,
    methods.KronA: lokr.write,
    methods.VeRA: updates.write_vera,
    methods.IA3: updates.write_ia3,
    methods.FourierFT: spectral.write_fourierft,
    methods.C3A: spectral.write_c3a,
    methods.OFT: oft.write,
    methods.HiRA: products.write_hira,
    methods.MiSS: products.write_miss,
    methods.RandLoRA: shared.write_randlora,
    methods.VBLoRA: shared.write_vblora,
    methods.LNTuning: write_norms,
}


def read(folder: Path, base: Base) -> Imported:
    """An adapter's folder as peft saves it.

    Raises:
      ValueError: a file is missing or damaged, a field or tensor is not understood, or it does not fit the base.
    """
    fields = Fields.read(folder / CONFIG)
    kind = fields.any_of("peft_type", [*READERS, "LN_TUNING", "PREFIX_TUNING"])
    reads = base.asked_reads
    if fields.left.get("task_type") is not None:
        reads = fields.any_of("task_type", {task: reads for reads, task in TASKS.items()})
    trained_on = fields.name("base_model_name_or_path")
    fields.ignore("peft_version", "revision", "inference_mode", "auto_mapping")
    saved = fields.texts("modules_to_save")
    of_head = {"classifier", "score", "pre_classifier", "head", *_DENSES_OF_HEADS.get(base.config.model_type, ())}
    if others := set(saved) - of_head:
        raise fields.refuse("modules_to_save", sorted(others), "classifier, score")
    path = folder / WEIGHTS
    tensors = bare(path, tensors_of(folder, WEIGHTS, PICKLED).items(), (_PREFIX, "base_model.", *WRAPPERS))
    outputs = outputs_of(tensors, base.config, str(path), reads)
    kept: Mapping[str, Any] = {}
    if kind == "PREFIX_TUNING":
        method, slots = read_prefix(fields, base.config)
    elif kind == "LN_TUNING":
        method, slots, kept = read_norms(fields, base, tensors)
    else:
        targets = Targets(fields, modules(base.config), tensors)
        method, slots = READERS[kind](fields, targets, base.config)
    fields.done()
    _refuse_others(tensors, base.config, str(path))
    try:
        if isinstance(method, methods.VBLoRA):
            tensors = shared.with_orders(tensors, method)
        leaves = take([*slots, *native_head(base.config, outputs, reads)], tensors) | kept
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    leaves = method.initial(dict(base.leaves), base.config) | leaves
    return Imported(method, leaves, base.problem(outputs, reads=reads), trained_on=trained_on)


def _refuse_others(tensors: Mapping[str, Any], config: EncoderConfig, where: str) -> None:
    """ValueError if an adapter is on a dense layer that no method of ours reaches, as `all-linear` has it."""
    outside = [f"{config.architecture.prefix}{name}" for name in _OUTSIDE]
    if others := sorted(module for module in outside if any(name.startswith(f"{module}.") for name in tensors)):
        reached = sorted({names[0].rpartition(".")[2] for names in modules(config).values()})
        raise ValueError(
            f"{where}: an adapter is on {', '.join(others)}, which no method here reaches; accepted: one on the "
            f"layers' {', '.join(reached)} (exclude_modules), or the classifier that peft's merge_and_unload makes"
        )


def _placed(name: str, prefix: str) -> str:
    """A tensor's name in the file: what all modules share has no module's."""
    return name if name == PROMPTS else f"base_model.{name}" if "." not in name else prefix + name


def write(card: Card, leaves: Mapping[str, Any]) -> dict[str, bytes]:
    """The files of an adapter, for `PeftModel.from_pretrained`.

    Raises:
      ValueError: peft has no such method, or its form of the method cannot say what ours does.
    """
    check_native_head(card, "an adapter of peft")
    method, config = card.method, card.encoder
    if isinstance(method, methods.Prefix):
        if method.mlp:
            _, leaves = method.fuse(dict(leaves), config)
        (said, slots), prefix = write_prefix(dataclasses.replace(method, mlp=False), config), "base_model."
    elif type(method) in WRITERS:
        (said, slots), prefix = WRITERS[type(method)](method, leaves, config), _PREFIX
    else:
        accepted = ", ".join(sorted(known.name for known in (*WRITERS, methods.Prefix)))
        raise ValueError(f"method {method.name} has no equal in peft; accepted: {accepted}")
    tensors = put([*slots, *native_head(config, card.problem.outputs, card.problem.reads)], leaves)
    if isinstance(method, methods.VBLoRA):
        tensors = shared.with_indices(tensors, method)
    named = {_placed(name, prefix): tensor for name, tensor in tensors.items()}
    said |= {
        "task_type": TASKS[card.problem.reads],
        "base_model_name_or_path": card.base,
        "inference_mode": True,
        "modules_to_save": ["classifier", "score", *_DENSES_OF_HEADS.get(config.model_type, ())],
    }
    return {CONFIG: json.dumps(said, indent=2).encode() + b"\n", WEIGHTS: save(named, metadata={"format": "pt"})}
