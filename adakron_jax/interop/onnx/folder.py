"""A classifier's folder for ONNX Runtime, as Hugging Face's tools lay it: model, configuration, tokenizer's files."""

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
MOST = 2**31 - 2**20  # bytes of one file; of a larger model, the weights stand beside it
SMALL = 1024  # bytes of a tensor that stays in the model, where shapes are read from
ROWS = 32  # examples of a batch


def write(card: Card, leaves: Mapping[str, Any], folder: Path, quantize: str = "") -> dict[str, bytes]:
    """The files of the classifier that an adapter makes of its encoder.

    Args:
      card: of the adapter.
      leaves: all parameters, path -> array.
      folder: the encoder's, for its configuration and tokenizer.
      quantize: `int8`: a second model, whose matrices are of 8 bits; empty: none.

    Raises:
      ValueError: it computes something that has no equal in ONNX, or there is no such quantisation.
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
    """Matrices and tables as int8 with a scale for each column; what meets them is quantised as it comes."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as scratch:
        before, after = Path(scratch) / MODEL, Path(scratch) / QUANTIZED
        for name, contents in files.items():
            (before.parent / name).write_bytes(contents)
        logging.disable(logging.WARNING)  # that the graph could be simplified first, which it is
        try:
            quantize_dynamic(before, after, per_channel=True, weight_type=QuantType.QInt8)
        finally:
            logging.disable(logging.NOTSET)
        return after.read_bytes()


def logits_of(model: Path, examples: Examples) -> Float[np.ndarray, "examples outputs"]:
    """Logits of tokenised examples, in ONNX Runtime."""
    from onnxruntime import InferenceSession

    session = InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [put.name for put in session.get_inputs()]
    order, parts = np.argsort(-examples.lengths, kind="stable"), []
    for begin in range(0, len(order), ROWS):
        chosen = examples.take(order[begin : begin + ROWS])
        mask = np.arange(chosen.lengths.max()) < chosen.lengths[:, None]
        arrays = {name: np.zeros(mask.shape, np.int64) for name in INPUTS}
        for array, values in zip(arrays.values(), (chosen.tokens, 1, chosen.token_types), strict=True):
            array[mask] = values
        parts.append(session.run([OUTPUT], {name: arrays[name] for name in names})[0])
    return np.concatenate(parts)[np.argsort(order)]
