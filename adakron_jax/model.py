"""A classifier on a pretrained encoder, from its name to a saved adapter: the parts of a custom training loop."""

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from adakron_jax import adapter
from adakron_jax.adapter import Card
from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.folder import AnyPooling, pooling_in
from adakron_jax.data.packing import Batch
from adakron_jax.encoders import pretrained
from adakron_jax.encoders.sequence_classifier import HeadForm, SequenceClassifier, readable
from adakron_jax.hub.adapters import locate_adapter
from adakron_jax.hub.models import absolute, locate
from adakron_jax.methods import external, registry
from adakron_jax.params import Tree, flatten, split_params, unflatten
from adakron_jax.problems import Problem, of_labels
from adakron_jax.splice import Method
from adakron_jax.xla.precision import dtype_of

MAX_LENGTH = 128  # tokens at which a text is cut, unless the encoder takes fewer


def from_pretrained(
    name: str,
    method: Method,
    labels: int | Sequence[str] = 2,
    *,
    key: Array,
    problem: str | Problem = "classification",
    pooling: AnyPooling = "auto",
    head: HeadForm = "own",
    max_length: int | None = None,
    texts: Sequence[str] = (),
    dtype: Any = "auto",
) -> tuple[SequenceClassifier, Tree]:
    """Returns a pretrained encoder with a method's modules and a classification head, and all its parameters.

    >>> import adakron_jax as ak
    >>> model, params = ak.from_pretrained("bert-base-uncased", ak.AdaKron(), labels=3, key=jax.random.key(0))
    >>> inputs = ak.padded(np.array([[2, 7, 3]]), np.array([[1, 1, 1]]))
    >>> model.apply({"params": params}, inputs).shape  # rows, examples per row, labels
    (1, 1, 3)

    Args:
      name: a hub id, a folder, or `pkg:NAME`, a model inside an installed package.
      labels: their number, or their names, which are saved with the model; 1 for a regression; entity kinds or tags for
        tokens.
      key: the random key for initial values of head and method.
      problem: `classification`, `multilabel`, `regression` or `tokens`, or a `Problem` with its labels and unit.
      pooling: what the head reads; `auto` is the encoder's own pooling if its folder names it, else the architecture's.
      head: its form, as in `SequenceClassifier`; a pooler missing from the checkpoint is trained in it, with a warning.
      max_length: number of tokens at which a text is cut; by default 128, or the encoder's limit if that is lower.
      texts: names of the one or two columns that hold the texts.
      dtype: the precision: `auto` (bf16 on an accelerator, f32 on a CPU), `f32`, `bf16`, or a type of JAX.

    Raises:
      ValueError: there is no such model, or an argument is not valid for it.
    """
    dtype, asked = dtype_of(dtype), problem if isinstance(problem, Problem) else of_labels(labels, problem)
    folder = locate(name)
    config = EncoderConfig.from_folder(folder)
    base = pretrained.read(folder, config)
    if asked.reads == "token" and pooling != "auto":
        raise ValueError(f"pooling is {pooling!r}, and the head reads every token; accepted: auto, of problem tokens")
    reads = readable(pooling_in(folder, pooling), head, config, base, asked.reads)
    if reads[1] != head:
        warnings.warn(f"{name} has no pooler: a new one trains, as the first dense of the head", stacklevel=2)
    card = Card(
        method=method,
        task="",
        problem=asked,
        base=absolute(name),
        fingerprint=pretrained.fingerprint(base),
        encoder=config,
        scores={},
        max_length=min(MAX_LENGTH, config.max_length) if max_length is None else max_length,
        pooling=reads[0],
        head=reads[1],
        texts=_columns(texts),
    )
    model = card.classifier(dtype=dtype)
    return model, jax.device_put(model.assemble(base, model.start(key, base)))


def loss(
    model: SequenceClassifier,
    logits: Float[Array, "rows places outputs"],
    batch: Batch,
    again: Callable[[], Float[Array, "rows places outputs"]] | None = None,
) -> Float[Array, ""]:
    """Returns the mean of a batch's losses, weighted by example: the loss that the training program minimises.

    >>> import adakron_jax as ak
    >>> model, params = ak.from_pretrained("bert-base-uncased", ak.AdaKron(), ["bad", "good"], key=jax.random.key(0))
    >>> examples = ak.Tokenizer.from_pretrained("bert-base-uncased").encode(["so good", "so bad"], 128, labels=[1, 0])
    >>> (batch,) = ak.pack(examples, 64)
    >>> float(ak.loss(model, model.apply({"params": params}, batch.inputs), batch)) > 0
    True

    Args:
      model: a model from `from_pretrained` or `load_adapter`, which carries its problem.
      batch: a batch from `pack`.
      again: returns the logits of another pass with other random numbers, for methods whose loss compares two passes.

    Raises:
      ValueError: the model carries no card, or its method needs `again`.
    """
    card = _carried(model)
    if again is None and getattr(model.method, "consistency", False):
        raise ValueError(f"again is None, and {model.method.name} has consistency; accepted: a function of logits")
    losses = card.problem.losses(logits, jnp.asarray(batch.labels))
    losses += model.method.extra_losses(logits, again or (lambda: logits))
    return jnp.sum(batch.weights * losses) / jnp.sum(batch.weights)


def _carried(model: SequenceClassifier) -> Card:
    if model.card is None:
        raise ValueError("model carries no card; accepted: one of from_pretrained, load_adapter or Card.classifier")
    return model.card


def check_finite(params: Mapping[str, Any]) -> None:
    """Raises ValueError that names the parameters with values that are not finite."""
    if wrong := [path for path, leaf in flatten(params).items() if not np.isfinite(np.asarray(leaf)).all()]:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(f"{', '.join(wrong[:3])}{more}: not finite; accepted: numbers")


def _check_frozen(frozen: Mapping[str, Any], leaves: pretrained.Leaves, base: str) -> None:
    """Raises ValueError that names a frozen parameter that differs from the base's."""
    for path, leaf in flatten(frozen).items():
        if path not in leaves or not np.array_equal(np.asarray(leaf), leaves[path].astype(leaf.dtype)):
            raise ValueError(f"{path} is frozen, and is not what {base} has; accepted: the base's, or the method Full")


def _columns(names: Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def fuse(model: SequenceClassifier, params: Mapping[str, Any]) -> tuple[SequenceClassifier, Tree]:
    """Returns a model without the method's modules, or with simpler ones, and parameters that make it compute the same.

    >>> import adakron_jax as ak
    >>> model, params = ak.from_pretrained("bert-base-uncased", ak.LoRA(r=4), key=jax.random.key(0))
    >>> plain, fused = ak.fuse(model, params)
    >>> plain.method.name
    'head'

    Raises:
      ValueError: no simpler model computes the same; the message lists the methods that fuse.
    """
    method, leaves = registry.fuse(model.method, flatten(params), model.config)
    return model.clone(method=method), unflatten(leaves)


def save_adapter(
    folder: str | Path,
    model: SequenceClassifier,
    params: Mapping[str, Any],
    *,
    base: str = "",
    labels: int | Sequence[str] | None = None,
    problem: str | Problem | None = None,
    max_length: int | None = None,
    texts: Sequence[str] | None = None,
    task: str | None = None,
    scores: Mapping[str, float] | None = None,
) -> None:
    """Writes the trained parameters, and those that the method added, as a portable adapter: a folder of two files.

    The adapter's description is taken from the model, except where an argument overrides it.

    >>> import adakron_jax as ak
    >>> labels = ["negative", "positive"]
    >>> model, params = ak.from_pretrained("bert-base-uncased", ak.AdaKron(), labels, key=jax.random.key(0))
    >>> ak.save_adapter("reviews", model, params)
    >>> ak.TextClassifier.load("reviews").predict("a fine film").label in labels
    True

    Args:
      base: the encoder's name, as in `from_pretrained`.
      labels, problem, max_length, texts: as in `from_pretrained`.
      task: a name for what it was trained on.
      scores: metric -> value on a development set.

    Raises:
      ValueError: the number of labels is not the model's, a parameter is not a finite number, or a frozen parameter is
        not the base's.
    """
    carried = _carried(model)
    said = carried.problem
    if isinstance(problem, Problem):
        said = problem
    elif labels is not None or problem is not None:
        named = (said.labels or 1) if labels is None else labels
        said = of_labels(named, said.name if problem is None else problem, said)
    if said.outputs != model.num_labels:
        raise ValueError(f"labels is {labels!r}, and the model has {model.num_labels}; accepted: {model.num_labels}")
    given = {"task": task, "max_length": max_length, "scores": None if scores is None else dict(scores)}
    card = dataclasses.replace(
        carried,
        method=model.method,
        problem=said,
        encoder=model.config,
        pooling=model.pooling,
        head=model.head,
        base=absolute(base or carried.base),
        texts=carried.texts if texts is None else _columns(texts),
        **{name: value for name, value in given.items() if value is not None},
    )
    leaves = pretrained.read(locate(card.base), model.config)
    tree, frozen = split_params(params, adapter.is_portable(model.method))
    _check_frozen(frozen, leaves, card.base)
    check_finite(tree)
    adapter.save(Path(folder), tree, dataclasses.replace(card, fingerprint=pretrained.fingerprint(leaves)))


def load_adapter(
    folder: str | Path, base: str = "", *, dtype: Any = "auto", trust: str | Sequence[str] = ()
) -> tuple[SequenceClassifier, Tree]:
    """Returns a saved adapter on its encoder: the result of `from_pretrained`, with the trained values.

    >>> import adakron_jax as ak
    >>> model, params = ak.from_pretrained("bert-base-uncased", ak.AdaKron(), key=jax.random.key(0))
    >>> ak.save_adapter("reviews", model, params)
    >>> model, again = ak.load_adapter("reviews")
    >>> np.array_equal(again["classifier"]["kernel"], params["classifier"]["kernel"])
    True

    Args:
      folder: the folder of an adapter or a run.
      base: the encoder; by default the one that the adapter names.
      dtype: as in `from_pretrained`.
      trust: modules from which an adapter of the hub may import the code of its method.

    Raises:
      ValueError: there is no adapter, it is damaged, or it was trained on another encoder.
    """
    model, params, card = attach(str(folder), base, dtype, trust)
    return model.clone(card=dataclasses.replace(card, base=absolute(base or card.base))), params


def attach(
    run: str, base: str = "", dtype: Any = "auto", trust: str | Sequence[str] = ()
) -> tuple[SequenceClassifier, Tree, Card]:
    """Does the same as `load_adapter`, and returns the adapter's card too."""
    external.trust(*([trust] if isinstance(trust, str) else trust))
    dtype, folder = dtype_of(dtype), locate_adapter(run)
    name = base or adapter.read_card(folder / "adapter.json").base
    encoder = locate(name)
    leaves = pretrained.read(encoder, EncoderConfig.from_folder(encoder))
    model, params, card = adapter.attach(folder, leaves, name, dtype)
    return model, jax.device_put(params), card
