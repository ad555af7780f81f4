"""AdapterHub's heads: `head_config.json` and `model_head.safetensors`.

A flexible head has a separate description and reads the first token, or the pooled output; a static one is the model's
own classifier.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.numpy import save

from adakron_jax.adapter import Card
from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.encoders.sequence_classifier import HeadForm, Pooling
from adakron_jax.interop.adapterhub.bottlenecks import ACTIVATIONS
from adakron_jax.interop.fields import Fields, labels_of
from adakron_jax.interop.heads import CLASSES, is_native_head, native_head, unwrapped
from adakron_jax.interop.tensor_table import Entry, Leaves, dense, read_leaves, write_tensors
from adakron_jax.problems import Classification, Multilabel, Problem, Regression, Tokens

CONFIG, WEIGHTS, PICKLED = "head_config.json", "model_head.safetensors", "pytorch_model_head.bin"
_FORMS = {stored: form for stored, form in ACTIVATIONS.items() if form in ("relu", "gelu", "tanh")}
_HEAD_TYPES: dict[str, type[Problem]] = {
    "classification": Classification,
    "multilabel_classification": Multilabel,
    "tagging": Tokens,
}
_HEAD_TYPE_OF = {kind: name for name, kind in _HEAD_TYPES.items()} | {Regression: "classification"}


def read_head(folder: Path, config: EncoderConfig) -> tuple[Leaves, Problem, Pooling, HeadForm]:
    """Reads the head of an adapter's folder; ValueError if there is none, or its form is not supported."""
    fields = Fields.read(folder / CONFIG)
    fields.must(model_type=config.model_type, hidden_size=config.hidden_size)
    fields.ignore("model_name", "version")
    model_class = fields.name("model_class")
    name, said = fields.left.pop("name", None), fields.left.pop("config", None)
    if said is None:
        kind = Tokens if model_class.endswith(CLASSES["token"]) else Classification
        problem = _problem(kind, fields)
        table, pooling, form = native_head(config, problem.outputs, kind.reads), "pooler", "own"
    else:
        problem, table, pooling, form = _flexible(Fields(said, f"{fields.where}: config"), str(name), config)
        fields.ignore("num_labels", "label2id", "id2label")
    fields.done()
    leaves = read_leaves(table, unwrapped(folder, WEIGHTS, PICKLED), folder / WEIGHTS)
    return leaves, problem, pooling, form


def _problem(kind: type[Problem], fields: Fields) -> Problem:
    outputs = fields.whole("num_labels")
    tables = {key: fields.left.pop(key, None) for key in ("id2label", "label2id")}
    if outputs == 1 and kind is Classification:
        return Regression()
    return kind(labels_of(tables, outputs, fields.where))


def _flexible(fields: Fields, name: str, config: EncoderConfig) -> tuple[Problem, list[Entry], Pooling, HeadForm]:
    kind = fields.any_of("head_type", _HEAD_TYPES)
    form: HeadForm = "linear"
    if fields.any_of("layers", (1, 2)) == 2:
        form = fields.any_of("activation_function", _FORMS)
    pooling: Pooling = "pooler"
    if kind.reads == "example":
        pooling = "pooler" if fields.flag("use_pooler") else "first"
        if pooling == "pooler" and not config.architecture.pooler:
            raise fields.refuse("use_pooler", True, f"false: {config.model_type} has no pretrained pooler")
    fields.must(bias=True)
    fields.ignore("activation_function", "dropout_prob")
    problem = _problem(kind, fields)
    fields.done()
    return problem, _flexible_table(name, form, problem.outputs, config), pooling, form


def _flexible_table(name: str, form: str, outputs: int, config: EncoderConfig) -> list[Entry]:
    """Numbers the modules, counting the dropout before each dense layer and the activation after the first."""
    d = config.hidden_size
    if form == "linear":
        return dense("classifier", f"heads.{name}.1", (d, outputs))
    out = dense("classifier/out_proj", f"heads.{name}.4", (d, outputs))
    return [*dense("classifier/dense", f"heads.{name}.1", (d, d)), *out]


def write_head(
    card: Card, leaves: Leaves, name: str, about: Mapping[str, object], class_prefix: str
) -> tuple[str, dict[str, bytes]]:
    """Returns the class of the model with the head, a static one if it is the architecture's own, and the head's files.

    Raises:
      ValueError: AdapterHub has no such head.
    """
    problem, config = card.problem, card.encoder
    names = problem.output_names
    label2id = {label: code for code, label in enumerate(names)}
    of_tokens = problem.reads == "token"
    on_pooler = of_tokens or card.pooling == "pooler"
    if is_native_head(card) and on_pooler and card.head == "own" and not problem.independent:
        said = {"config": None, "name": None, "num_labels": problem.outputs, "label2id": label2id}
        table, kind = native_head(config, problem.outputs, problem.reads), CLASSES[problem.reads]
    else:
        architecture = config.architecture
        form = architecture.form.activation if card.head == "own" else card.head
        flexible = on_pooler and config.pooling != "mean" or card.pooling == "first"
        if not flexible or architecture.form.normed:
            raise ValueError(
                f"a head of the form {card.head!r} on the pooling {card.pooling!r} has no equivalent in AdapterHub; "
                "accepted: the poolings pooler and first"
            )
        table, kind = _flexible_table(name, form, problem.outputs, config), "AdapterModel"
        said = {
            "name": name,
            "config": {
                "head_type": _HEAD_TYPE_OF[type(problem)],
                "num_labels": problem.outputs,
                "layers": 1 if form == "linear" else 2,
                "activation_function": "tanh" if form == "linear" else form,
                "dropout_prob": None,
                "label2id": label2id,
            }
            | ({} if of_tokens else {"use_pooler": card.pooling == "pooler" and architecture.pooler, "bias": True}),
        }
    described = {**about, **said, "model_class": class_prefix + kind}
    files = {CONFIG: json.dumps(described, indent=2).encode() + b"\n", WEIGHTS: save(write_tensors(table, leaves))}
    return class_prefix + kind, files
