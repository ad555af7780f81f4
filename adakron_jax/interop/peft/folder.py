"""peft's folders: `adapter_config.json` and `adapter_model.safetensors`.

A tensor's name is `base_model.model.`, the name of the module in the classification model, and an ending. The head is
in the same file. Label names and the kind of problem are not saved.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from safetensors.numpy import save

from adakron_jax.adapter import Card
from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.folder import tensors_of
from adakron_jax.architectures.paths import ENCODER
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
)
from adakron_jax.interop.peft import lokr, norms, prefixes, projections, updates
from adakron_jax.interop.peft.form import Form
from adakron_jax.interop.tensor_table import Leaves, read_leaves, write_tensors

CONFIG, WEIGHTS, PICKLED = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
TASKS: dict[Reads, str] = {"example": "SEQ_CLS", "token": "TOKEN_CLS"}
_PREFIX = "base_model.model."
_DENSES_OF_HEADS = {"distilbert": ["pre_classifier"], "deberta-v2": ["pooler"]}
_OUTSIDE = ("pooler.dense", "embeddings_project")  # dense layers outside the encoder's layers

FORMS: tuple[Form, ...] = (
    *(updates.LoRAForm(), lokr.LoKrForm(), projections.VeRAForm(), updates.IA3Form(), updates.FourierFTForm()),
    *(updates.C3AForm(), updates.OFTForm(), updates.HiRAForm(), updates.MiSSForm(), projections.RandLoRAForm()),
    *(projections.VBLoRAForm(), norms.LNTuningForm(), prefixes.PrefixForm()),
)
METHODS = {method for form in FORMS for method in form.methods}


def read(folder: Path, base: Base) -> Imported:
    """Reads an adapter's folder that peft saved.

    Raises:
      ValueError: a file is missing or damaged, a field or tensor is not understood, or it does not fit the base.
    """
    fields = Fields.read(folder / CONFIG)
    form = fields.any_of("peft_type", {form.peft_type: form for form in FORMS})
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
    tensors = bare(path, tensors_of(folder, WEIGHTS, PICKLED), (_PREFIX, "base_model.", *WRAPPERS))
    outputs = outputs_of(tensors, base.config, str(path), reads)
    method, table = form.read(fields, base, tensors)
    fields.done()
    _refuse_others(tensors, base.config, str(path))
    leaves = read_leaves([*table, *native_head(base.config, outputs, reads)], tensors, path)
    trained = {path: x for path, x in base.leaves.items() if path.startswith(ENCODER) and method.trains(path)}
    leaves = trained | method.initial(dict(base.leaves), base.config) | leaves
    return Imported(method, leaves, base.problem(outputs, reads=reads), trained_on=trained_on)


def _refuse_others(tensors: Iterable[str], config: EncoderConfig, where: str) -> None:
    """Raises ValueError if an adapter is on a dense layer that no method here reaches, as with `all-linear`."""
    outside = [f"{config.architecture.prefix}{name}" for name in _OUTSIDE]
    if others := sorted(module for module in outside if any(name.startswith(f"{module}.") for name in tensors)):
        reached = sorted({names[0].rpartition(".")[2] for names in modules(config).values()})
        raise ValueError(
            f"{where}: an adapter is on {', '.join(others)}, which no method here reaches; accepted: one on the "
            f"layers' {', '.join(reached)} (exclude_modules), or the classifier that peft's merge_and_unload makes"
        )


def _placed(name: str, prefix: str) -> str:
    """Returns a tensor's name in the file; what all modules share is under no module."""
    return name if name == prefixes.PROMPTS else f"base_model.{name}" if "." not in name else prefix + name


def write(card: Card, leaves: Leaves) -> dict[str, bytes]:
    """Returns the files of an adapter, for `PeftModel.from_pretrained`.

    Raises:
      ValueError: peft has no such method, or its form of the method cannot express ours.
    """
    check_native_head(card, "an adapter of peft")
    method, config = card.method, card.encoder
    form = next((form for form in FORMS if type(method) in form.methods), None)
    if form is None:
        accepted = ", ".join(sorted(known.name for known in METHODS))
        raise ValueError(f"method {method.name} has no equivalent in peft; accepted: {accepted}")
    said, tensors = form.write(method, leaves, config)
    tensors |= write_tensors(native_head(config, card.problem.outputs, card.problem.reads), leaves)
    named = {_placed(name, form.wrapper): tensor for name, tensor in tensors.items()}
    said |= {
        "task_type": TASKS[card.problem.reads],
        "base_model_name_or_path": card.base,
        "inference_mode": True,
        "modules_to_save": ["classifier", "score", *_DENSES_OF_HEADS.get(config.model_type, ())],
    }
    return {CONFIG: json.dumps(said, indent=2).encode() + b"\n", WEIGHTS: save(named, metadata={"format": "pt"})}
