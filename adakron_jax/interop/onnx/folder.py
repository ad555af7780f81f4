"""A classifier's folder for ONNX Runtime, in the layout of Hugging Face's tools: model, configuration, tokenizer."""

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from jaxtyping import Float
from onnx.external_data_helper import set_external_data

from adakron_jax.adapter import Card
from adakron_jax.data.examples import Examples
from adakron_jax.interop.huggingface import described
from adakron_jax.interop.onnx.proto import INPUTS, OUTPUT, model_of

MODEL, DATA, QUANTIZED = "model.onnx", "model.onnx_data", "model_quantized.onnx"
MOST = 2**31 - 2**20  # bytes of one file; a larger model's weights are in a separate file
SMALL = 1024  # smaller tensors, in bytes, stay in the model, where shapes are read from
ROWS = 32  # examples of a batch


def write(card: Card, leaves: Mapping[str, Any], folder: Path, quantize: str = "") -> dict[str, bytes]:
    """Returns the files of the classifier that an adapter makes of its encoder.

    Args:
      card: the adapter's.
      leaves: all parameters, path -> array.
      folder: the encoder's, for its configuration and tokenizer.
      quantize: `int8` for a second model with 8-bit matrices; empty for none.

    Raises:
      ValueError: the model computes something that has no equivalent in ONNX, or there is no such quantisation.
    """
    if quantize not in ("", "int8"):
        raise ValueError(f"--quantize is {quantize!r}; accepted: int8")
    files = _files(model_of(card.classifier(), leaves, card.problem))
    if quantize:
        files[QUANTIZED] = _quantized(files)
    return files | described(card, folder)


def _files(model: onnx.ModelProto) -> dict[str, bytes]:
    weights = model.graph.initializer
    if sum(len(weight.raw_data) for weight in weights) < MOST:
        return {MODEL: model.SerializeToString()}
    data = []
    for weight in (weight for weight in weights if len(weight.raw_data) >= SMALL):
        set_external_data(weight, DATA, sum(map(len, data)), len(weight.raw_data))
        data.append(weight.raw_data)
        weight.ClearField("raw_data")
    return {DATA: b"".join(data), MODEL: model.SerializeToString()}


def _quantized(files: Mapping[str, bytes]) -> bytes:
    """Quantises matrices and tables to int8 with a scale for each column, and their inputs at run time."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as scratch:
        before, after = Path(scratch) / MODEL, Path(scratch) / QUANTIZED
        for name, contents in files.items():
            (before.parent / name).write_bytes(contents)
        logging.disable(logging.WARNING)  # it advises to simplify the graph first, which is done
        try:
            quantize_dynamic(before, after, per_channel=True, weight_type=QuantType.QInt8)
        finally:
            logging.disable(logging.NOTSET)
        return after.read_bytes()


def logits_of(model: Path, examples: Examples) -> Float[np.ndarray, "vectors outputs"]:
    """Computes logits of tokenised examples, or of their labelled tokens, in ONNX Runtime."""
    from onnxruntime import InferenceSession

    session = InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [put.name for put in session.get_inputs()]
    number = np.cumsum(examples.labels >= 0) - 1 if examples.of_tokens else np.zeros(0, np.int64)
    order, parts, places = np.argsort(-examples.lengths, kind="stable"), [], []
    for begin in range(0, len(order), ROWS):
        chosen = order[begin : begin + ROWS]
        lengths = examples.lengths[chosen]
        mask = np.arange(lengths.max()) < lengths[:, None]
        token = (examples.offsets[chosen][:, None] + np.arange(mask.shape[1]))[mask]
        arrays = {name: np.zeros(mask.shape, np.int64) for name in INPUTS}
        for array, values in zip(
            arrays.values(), (examples.tokens[token], 1, examples.token_types[token]), strict=True
        ):
            array[mask] = values
        run: Any = session.run
        (logits,) = run([OUTPUT], {name: arrays[name] for name in names})
        if examples.of_tokens:
            labelled = examples.labels[token] >= 0
            logits, chosen = logits[mask][labelled], number[token[labelled]]
        parts.append(logits)
        places.append(chosen)
    return np.concatenate(parts)[np.argsort(np.concatenate(places))]
