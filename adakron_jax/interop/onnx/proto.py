"""A classifier as an ONNX model: any method, any head, batches and texts of any length."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import onnx
from jax import export

from adakron_jax import __version__
from adakron_jax.encoders.inputs import padded
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.interop.onnx.flat import flat
from adakron_jax.interop.onnx.operators import Converter
from adakron_jax.interop.onnx.patterns import patterns
from adakron_jax.methods.registry import fuse
from adakron_jax.params import unflatten
from adakron_jax.problems import Problem

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OUTPUT = "logits"


def model_of(model: SequenceClassifier, leaves: Mapping[str, Any], problem: Problem) -> onnx.ModelProto:
    """Returns a model with the inputs `input_ids`, `attention_mask` and, if there are types, `token_type_ids`, all
    int64 [batch, length], and the output `logits` [batch, labels], for tokens [batch, length, labels].

    A method that fuses is fused.

    Args:
      leaves: all parameters, path -> array.

    Raises:
      ValueError: the model computes something that has no equivalent in ONNX.
    """
    model, leaves = _fused(model, dict(leaves))
    batch, length = export.symbolic_shape("batch, length")
    names = INPUTS if model.config.type_vocab_size > 1 else INPUTS[:2]

    def logits(leaves: Mapping[str, Any], *inputs: Any) -> Any:
        logits: Any = model.apply({"params": unflatten(leaves)}, padded(*inputs))
        return logits if problem.reads == "token" else jnp.squeeze(logits, 1)

    ids = jax.ShapeDtypeStruct((batch, length), jnp.int32)
    try:
        function = flat(logits, dict.fromkeys(names, ids), leaves)
        converter = Converter(function, patterns(model.config.layer_norm_eps))
    except ValueError as error:
        raise ValueError(f"method {model.method.name} of {model.config.model_type} is not for ONNX: {error}") from None
    return converter.graph.model({OUTPUT: converter.outputs[0]}, "adakron-jax", __version__)


def _fused(model: SequenceClassifier, leaves: dict[str, Any]) -> tuple[SequenceClassifier, dict[str, Any]]:
    """Replaces the method by the simplest one that computes the same."""
    while True:
        try:
            method, leaves = fuse(model.method, leaves, model.config)
        except ValueError:  # no simpler one
            return model, leaves
        model = model.clone(method=method)
