"""A loop that predicts texts by PyTorch, ONNX Runtime or OpenVINO, in batches padded to their longest text."""

# pyright: reportMissingImports=false

import argparse
import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from benchmarks.peers.protocol import over_stdio, serve_rounds
from benchmarks.peers.train import with_adakron

NAMES = ("input_ids", "attention_mask", "token_type_ids")
Forward = Callable[[Any], Any]  # from a tokenizer's tensors to the codes of the labels


def of_torch(model: Any, args: argparse.Namespace) -> Forward:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model.to(device)

    def forward(inputs: Any) -> Any:
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=args.precision == "bf16"):
            return model(**inputs.to(device)).logits.argmax(-1).tolist()

    return forward


def of_onnx(model: Any, args: argparse.Namespace) -> Forward:
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        axes = {name: {0: "rows", 1: "seq"} for name in NAMES}
        example = tuple(torch.ones(2, 8, dtype=torch.long) for _ in NAMES)
        torch.onnx.export(
            model, example, file, input_names=NAMES, output_names=["logits"], dynamic_axes=axes, dynamo=False
        )
        if args.precision == "int8":
            from onnxruntime.quantization import quantize_dynamic  # which needs onnx

            quantize_dynamic(file, file.with_name("int8.onnx"))
            file = file.with_name("int8.onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = args.threads
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def labels(inputs: Any) -> list[int]:
        logits: Any = session.run(None, {name: inputs[name].numpy() for name in NAMES})[0]
        return logits.argmax(-1).tolist()

    return labels


def of_openvino(model: Any, args: argparse.Namespace) -> Forward:
    import openvino

    example = {name: torch.ones(2, 8, dtype=torch.long) for name in NAMES}
    converted = openvino.convert_model(model, example_input=example)
    hint = {"INFERENCE_PRECISION_HINT": args.precision, "INFERENCE_NUM_THREADS": args.threads}
    compiled = openvino.compile_model(converted, "CPU", hint)
    return lambda inputs: compiled({name: inputs[name].numpy() for name in NAMES})[0].argmax(-1).tolist()


ENGINES = {"torch": of_torch, "onnx": of_onnx, "openvino": of_openvino}


def predict(forward: Forward, tokenizer: Any, texts: list[str], batch_size: int, grouped: bool) -> list[int]:
    """The codes of all texts in their order; tokenized at once and by length if `grouped`, else batch by batch."""
    cut = functools.partial(tokenizer, truncation=True, max_length=128)
    codes = [0] * len(texts)
    order, encoded = list(range(len(texts))), None
    if grouped:
        encoded = cut(texts, return_token_type_ids=True)
        order.sort(key=lambda i: len(encoded["input_ids"][i]))
    for start in range(0, len(texts), batch_size):
        ids = order[start : start + batch_size]
        if encoded is None:
            inputs = cut([texts[i] for i in ids], padding=True, return_tensors="pt", return_token_type_ids=True)
        else:
            inputs = tokenizer.pad({name: [encoded[name][i] for i in ids] for name in NAMES}, return_tensors="pt")
        for i, code in zip(ids, forward(inputs), strict=True):
            codes[i] = code
    return codes


def serve(requests: Any, replies: Any) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=ENGINES, required=True)
    parser.add_argument("--precision", choices=("f32", "bf16", "int8"), required=True)
    parser.add_argument("--grouped", action="store_true", help="in the order of length")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True, help="a JSON list")
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = with_adakron(AutoModelForSequenceClassification.from_pretrained(args.model, num_labels=2)).eval()
    tokenizer, texts = AutoTokenizer.from_pretrained(args.model), json.loads(args.texts.read_text())
    forward = ENGINES[args.engine](model, args)
    serve_rounds(lambda: predict(forward, tokenizer, texts, args.batch_size, args.grouped), requests, replies)


if __name__ == "__main__":
    over_stdio(serve)
