"""A classifier on a pretrained encoder, from its name to a saved adapter: what one's own training loop needs."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from adakron_jax import adapter, splice
from adakron_jax.adapter import Card
from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.encoders import pretrained
from adakron_jax.encoders.sequence_classifier import HeadForm, Pooling, SequenceClassifier, readable
from adakron_jax.hub.adapters import locate_adapter
from adakron_jax.hub.models import locate
from adakron_jax.params import Tree, flatten, split_params, unflatten
from adakron_jax.problems import of_labels
from adakron_jax.splice import Method


def from_pretrained(
    name: str,
    method: Method,
    labels: int | Sequence[str] = 2,
    *,
    key: Array,
    problem: str = "classification",
    pooling: Pooling = "pooler",
    head: HeadForm = "own",
    dtype: Any = None,
) -> tuple[SequenceClassifier, Tree]:
    """A pretrained encoder with a method's modules and a classification head, and all its parameters.

    >>> import adakron_jax as ak
    >>> model, params = ak.from_pretrained("bert-base-uncased", ak.AdaKron(), labels=3, key=jax.random.key(0))
    >>> inputs = ak.padded(np.array([[2, 7, 3]]), np.array([[1, 1, 1]]))
    >>> model.apply({"params": params}, inputs).shape  # rows, examples of a row, labels
    (1, 1, 3)

    Args:
      name: a hub id, a folder, or `pkg:NAME`, a model inside an installed package.
      labels: how many, or their names; 1 of a regression.
      key: of the initial values of head and method.
      problem: `classification`, `multilabel` or `regression`.
      pooling, head: what the head reads and is, as `SequenceClassifier` has it. Of a checkpoint without the pooler that
        is to be read, a new one trains within the head, of which a warning tells.
      dtype: the precision it computes in; None: float32.

    Raises:
      ValueError: there is no such model, or an argument is not for it.
    """
    folder = locate(name)
    config = EncoderConfig.from_folder(folder)
    outputs = of_labels(labels, problem).outputs
    base = pretrained.read(folder, config)
    if (reads := readable(pooling, head, config, base)) != (pooling, head):
        pooling, head = reads
        warnings.warn(f"{name} has no pooler: a new one trains, as the first dense of the head", stacklevel=2)
    model = SequenceClassifier(config, method, dtype, num_labels=outputs, pooling=pooling, head=head)
    params = model.assemble(base, model.fresh(key, lambda path: path not in base))
    return model, jax.tree.map(jnp.asarray, params)


def fuse(model: SequenceClassifier, params: Mapping[str, Any]) -> tuple[SequenceClassifier, Tree]:
    """A model without the method's modules, or with simpler ones, and the parameters with which it computes the same.

    >>> import adakron_jax as ak
    >>> model, params = ak.from_pretrained("bert-base-uncased", ak.LoRA(r=4), key=jax.random.key(0))
    >>> plain, fused = ak.fuse(model, params)
    >>> plain.method.name
    'head'

    Raises:
      ValueError: nothing simpler computes the same; the methods that fuse are named.
    """
    method, leaves = splice.fuse(model.method, flatten(params), model.config)
    return model.clone(method=method), unflatten(leaves)


def save_adapter(
    folder: str | Path,
    model: SequenceClassifier,
    params: Mapping[str, Any],
    *,
    base: str,
    labels: int | Sequence[str] = 2,
    problem: str = "classification",
    max_length: int = 128,
    texts: Sequence[str] = (),
    task: str = "",
    scores: Mapping[str, float] | None = None,
) -> None:
    """Writes what was trained, and what the method added, as a portable adapter: a folder of two files.

    >>> import adakron_jax as ak
    >>> model, params = ak.from_pretrained("bert-base-uncased", ak.AdaKron(), key=jax.random.key(0))
    >>> ak.save_adapter("reviews", model, params, base="bert-base-uncased", labels=["negative", "positive"])
    >>> ak.TextClassifier.load("reviews").predict("a fine film").label in ("negative", "positive")
    True

    Args:
      base: the encoder's name, as `from_pretrained` took it.
      labels, problem: as `from_pretrained` took them.
      max_length: tokens at which a text is cut.
      texts: names of the one or two columns that hold the texts.
      task: a name for what it was trained on.
      scores: metric -> value on a development set.

    Raises:
      ValueError: the labels are not as many as the model's, or a frozen parameter is not the base's.
    """
    said = of_labels(labels, problem)
    if said.outputs != model.num_labels:
        raise ValueError(f"labels is {labels!r}, and the model has {model.num_labels}; accepted: as many")
    leaves = pretrained.read(locate(base), model.config)
    tree, frozen = split_params(params, adapter.is_portable(model.method))
    for path, leaf in flatten(frozen).items():
        if path not in leaves or not np.array_equal(np.asarray(leaf), leaves[path].astype(leaf.dtype)):
            raise ValueError(f"{path} is frozen, and is not what {base} has; accepted: the base's, or the method Full")
    card = Card(
        method=model.method,
        task=task,
        problem=said,
        base=base,
        fingerprint=pretrained.fingerprint(leaves),
        encoder=model.config,
        scores=dict(scores or {}),
        max_length=max_length,
        pooling=model.pooling,
        head=model.head,
        texts=tuple(texts),
    )
    adapter.save(Path(folder), tree, card)


def load_adapter(folder: str | Path, base: str = "", *, dtype: Any = None) -> tuple[SequenceClassifier, Tree]:
    """A saved adapter on its encoder: what `from_pretrained` gives, with the trained values.

    >>> import adakron_jax as ak
    >>> model, params = ak.from_pretrained("bert-base-uncased", ak.AdaKron(), key=jax.random.key(0))
    >>> ak.save_adapter("reviews", model, params, base="bert-base-uncased")
    >>> model, again = ak.load_adapter("reviews")
    >>> np.array_equal(again["classifier"]["kernel"], params["classifier"]["kernel"])
    True

    Args:
      folder: an adapter's, or a run's.
      base: the encoder; by default the one that the adapter names.
      dtype: the precision it computes in; None: float32.

    Raises:
      ValueError: there is no adapter, it is damaged, or it was trained on another encoder.
    """
    model, params, _ = attach(str(folder), base, dtype)
    return model, params


def attach(run: str, base: str = "", dtype: Any = None) -> tuple[SequenceClassifier, Tree, Card]:
    """As `load_adapter`, with what the adapter says of itself."""
    folder = locate_adapter(run)
    name = base or adapter.read_card(folder / "adapter.json").base
    encoder = locate(name)
    leaves = pretrained.read(encoder, EncoderConfig.from_folder(encoder))
    model, params, card = adapter.attach(folder, leaves, name)
    model = model.clone(dtype=dtype)
    return model, jax.tree.map(jnp.asarray, params), card
