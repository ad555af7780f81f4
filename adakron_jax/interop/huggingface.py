"""Plain Hugging Face classifiers, of texts and of tokens: `config.json`, `model.safetensors`, the tokenizer's files.

Methods that fuse into the encoder are exported; a classifier is imported as full fine-tuning, or a head on the base.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from adakron_jax.adapter import Card
from adakron_jax.architectures.folder import TOKENIZER_FILES
from adakron_jax.architectures.paths import CLASSIFIER, POOLER
from adakron_jax.encoders import pretrained
from adakron_jax.encoders.sequence_classifier import Pooling, Reads
from adakron_jax.interop.heads import CLASSES, Base, Imported, check_native_head, native_head, outputs_of, unwrapped
from adakron_jax.interop.tensor_table import Leaves, names_in, read_leaves, write_tensors
from adakron_jax.io.files import read_json
from adakron_jax.methods import Full, Head
from adakron_jax.methods.registry import fuse
from adakron_jax.splice import Method, is_added

WEIGHTS, PICKLED = "model.safetensors", "pytorch_model.bin"
PREFIXES = {
    "bert": "Bert",
    "roberta": "Roberta",
    "xlm-roberta": "XLMRoberta",
    "camembert": "Camembert",
    "distilbert": "DistilBert",
    "electra": "Electra",
    "modernbert": "ModernBert",
    "deberta-v2": "DebertaV2",
}
_POOLING = "classifier_pooling"
_POOLINGS: dict[Pooling, str] = {"mean": "mean", "first": "cls"}
# Fields on a base's origin, or on code to run, which do not hold for another classifier.
_DROPPED = (
    *("auto_map", "_name_or_path", "transformers_version", "torch_dtype", "dtype", "task_specific_params"),
    "problem_type",
)


def read(folder: Path, base: Base) -> Imported:
    """Reads a classifier of the base's architecture.

    Raises:
      ValueError: a file is missing or damaged, or it is of another architecture or size, or not a classifier.
    """
    classifier = Base(base.config, read_json(folder / "config.json"), {}, base.asked)
    where = str(folder / "config.json")
    if (model_type := classifier.said.get("model_type")) != base.config.model_type:
        raise ValueError(
            f"{folder}: model_type is {model_type!r}; accepted: that of the base, {base.config.model_type}"
        )
    reads = _reads(classifier, where)
    path, tensors = folder / WEIGHTS, unwrapped(folder, WEIGHTS, PICKLED)
    outputs = outputs_of(tensors, base.config, str(path), reads)
    table = native_head(base.config, outputs, reads)
    named = names_in(table)
    try:
        head = read_leaves(table, {name: tensor for name, tensor in tensors.items() if name in named})
        encoder = pretrained.from_checkpoint(tensors, base.config)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    unread = (f"{POOLER}/",) if reads == "token" else ()
    encoder = {path: leaf for path, leaf in encoder.items() if path not in head and not path.startswith(unread)}
    problem = classifier.problem(outputs, where, reads)
    pooling = _pooling(classifier) if reads == "example" else "pooler"
    same = {path: leaf for path, leaf in base.leaves.items() if not path.startswith(unread)}
    if pretrained.fingerprint(encoder) == pretrained.fingerprint(same):
        return Imported(Head(), head, problem, pooling)
    return Imported(Full(), encoder | head, problem, pooling)


def _reads(classifier: Base, where: str) -> Reads:
    """Returns what the head reads, from `architectures`, else from what the user asked for."""
    prefix = PREFIXES[classifier.config.model_type]
    accepted: dict[str, Reads] = {prefix + kind: reads for reads, kind in CLASSES.items()}
    architectures = classifier.said.get("architectures") or []
    if not architectures:
        return classifier.asked_reads
    if architectures not in [[name] for name in accepted]:
        raise ValueError(f"{where}: architectures is {architectures!r}; accepted: {', '.join(accepted)}")
    return accepted[architectures[0]]


def _pooling(classifier: Base) -> Pooling:
    """Returns what the classifier's head reads, if its `config.json` differs from the base's."""
    config = classifier.config
    said = classifier.said.get(_POOLING, config.pooling)
    if "pooling" not in config.architecture.keys or said == config.pooling:
        return "pooler"
    if said not in _POOLINGS.values():
        raise ValueError(f"config.json: {_POOLING} is {said!r}; accepted: {', '.join(_POOLINGS.values())}")
    return next(pooling for pooling, stored in _POOLINGS.items() if stored == said)


def fused(method: Method, leaves: Mapping[str, np.ndarray], card: Card, formats: Sequence[str] = ()) -> Leaves:
    """Returns the classifier's leaves without any that the method added.

    Args:
      formats: formats that take the method unfused.

    Raises:
      ValueError: the method does not fuse into the encoder.
    """
    config = card.encoder
    if not method.splices(method.seen_of(config)):
        return dict(leaves)
    try:
        simpler, leaves = fuse(method, dict(leaves), config)
        if any(map(is_added, leaves)):
            raise ValueError(f"method {method.name} fuses into {simpler.name}, which keeps modules of its own")
    except ValueError as error:
        said = str(error).partition(";")[0]
        raise ValueError(
            f"{said}, so it is not a plain Hugging Face model; export it --to {', '.join((*formats, 'onnx'))}, or use "
            "the adapter with the library's own encoder"
        ) from None
    return leaves


def _with_pooler(card: Card, leaves: Leaves) -> tuple[Card, Leaves]:
    """Turns a `tanh` head on the first token into a pooler and a projection, if the architecture has them."""
    form = card.problem.reads, card.pooling, card.head
    if not card.encoder.architecture.pooler or form != ("example", "first", "tanh"):
        return card, leaves
    moved = {f"{CLASSIFIER}/dense/": f"{POOLER}/", f"{CLASSIFIER}/out_proj/": f"{CLASSIFIER}/"}

    def name(path: str) -> str:
        old = next((old for old in moved if path.startswith(old)), "")
        return moved.get(old, "") + path.removeprefix(old)

    others = {path: leaf for path, leaf in leaves.items() if not path.startswith(f"{POOLER}/")}
    return dataclasses.replace(card, pooling="pooler", head="own"), {name(path): x for path, x in others.items()}


def write(card: Card, leaves: Mapping[str, np.ndarray], folder: Path, formats: Sequence[str] = ()) -> dict[str, bytes]:
    """Returns the files of the classifier that an adapter makes of its encoder.

    Args:
      card: the adapter's.
      leaves: all parameters, path -> array.
      folder: the encoder's, for its configuration and tokenizer.
      formats: as in `fused`.

    Raises:
      ValueError: method or head have no equivalent in a plain classifier.
    """
    card, leaves = _with_pooler(card, fused(card.method, leaves, card, formats))
    config, pooled, reads = card.encoder, {}, card.problem.reads
    if reads == "example" and "pooling" in config.architecture.keys and card.pooling in _POOLINGS:
        card, pooled = dataclasses.replace(card, pooling="pooler"), {_POOLING: _POOLINGS[card.pooling]}
    check_native_head(card, "a Hugging Face classifier")
    head = native_head(config, card.problem.outputs, reads)
    of_head = {entry.path for entry in head}
    tensors = pretrained.to_checkpoint({path: x for path, x in leaves.items() if path not in of_head}, config)
    tensors |= write_tensors(head, leaves)
    return described(card, folder, **pooled) | {WEIGHTS: save(tensors, metadata={"format": "pt"})}


def described(card: Card, folder: Path, **more: str) -> dict[str, bytes]:
    """Returns the files of a classifier without its weights: `config.json` with the labels, and the tokenizer's.

    Args:
      folder: the encoder's.
      more: further fields of the configuration.
    """
    problem, names = card.problem, card.problem.output_names
    said = {key: value for key, value in read_json(folder / "config.json").items() if key not in _DROPPED}
    said |= {
        "architectures": [PREFIXES[card.encoder.model_type] + CLASSES[problem.reads]],
        "id2label": {str(code): name for code, name in enumerate(names)},
        "label2id": {name: code for code, name in enumerate(names)},
        **({"problem_type": problem.transformers_type} if problem.transformers_type else {}),
        **more,
    }
    tokenizer = {file: (folder / file).read_bytes() for file in TOKENIZER_FILES if (folder / file).is_file()}
    return tokenizer | {"config.json": json.dumps(said, indent=2, ensure_ascii=False).encode() + b"\n"}
