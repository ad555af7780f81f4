"""A loop that predicts texts by another program, in batches padded to their longest text.

`torch`, `onnx` and `openvino` predict all texts by one model; `peft`, `adapterhub` and `loop` predict each text by the
adapter that it names, in peft's mixed batches, AdapterHub's, and one batch per adapter. All weights are fresh: they
cost as much as trained ones.
"""

# pyright: reportMissingImports=false

import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from benchmarks.peers.protocol import over_stdio, serve_rounds, settings
from benchmarks.peers.train import with_adakron

NAMES = ("input_ids", "attention_mask", "token_type_ids")
# From a tokenizer's tensors, and the adapter that each text of the batch names, to the logits of the labels; the texts
# of an adapter are next to each other.
Forward = Callable[[Any, list[int]], Any]


def of_torch(args: Any, adapters: int) -> Forward:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = classifier(args.model).to(device)

    def forward(inputs: Any, of: list[int]) -> Any:
        with torch.autocast(device, torch.bfloat16, enabled=args.precision == "bf16"):
            return model(**inputs.to(device)).logits

    return forward


def of_onnx(args: Any, adapters: int) -> Forward:
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        axes = {name: {0: "rows", 1: "seq"} for name in NAMES}
        example = tuple(torch.ones(2, 8, dtype=torch.long) for _ in NAMES)
        names: dict[str, Any] = {"input_names": list(NAMES), "output_names": ["logits"], "dynamic_axes": axes}
        torch.onnx.export(classifier(args.model), example, file, **names, dynamo=False)
        if args.precision == "int8":
            from onnxruntime.quantization import quantize_dynamic  # which needs onnx

            quantize_dynamic(file, file.with_name("int8.onnx"))
            file = file.with_name("int8.onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = args.threads
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda inputs, of: session.run(None, {name: inputs[name].numpy() for name in NAMES})[0]


def of_openvino(args: Any, adapters: int) -> Forward:
    import openvino

    example = {name: torch.ones(2, 8, dtype=torch.long) for name in NAMES}
    converted = openvino.convert_model(classifier(args.model), example_input=example)
    hint = {"INFERENCE_PRECISION_HINT": args.precision, "INFERENCE_NUM_THREADS": args.threads}
    compiled = openvino.compile_model(converted, "CPU", hint)
    return lambda inputs, of: compiled({name: inputs[name].numpy() for name in NAMES})[0]


def classifier(folder: str) -> Any:
    return with_adakron(AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)).eval()


def of_peft(args: Any, adapters: int) -> Forward:
    """Returns the forward pass with LoRA of rank 8 on queries and values, like our method's."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(task_type="SEQ_CLS", r=8, lora_alpha=16, target_modules=["query", "value"])
    base = AutoModelForSequenceClassification.from_pretrained(args.model, num_labels=2)
    model = get_peft_model(base, config, adapter_name="0")
    for number in range(1, adapters):
        model.add_adapter(str(number), config)
    model.eval()
    return lambda inputs, of: model(**inputs, adapter_names=[str(number) for number in of]).logits


def of_adapterhub(args: Any, adapters: int) -> Forward:
    """Returns the forward pass with sequential bottlenecks: a batch split among them or, for `loop`, one for each."""
    from adapters import AutoAdapterModel
    from adapters.composition import BatchSplit

    model = AutoAdapterModel.from_pretrained(args.model)
    for number in range(adapters):
        model.add_adapter(f"a{number}", config="seq_bn")
        model.add_classification_head(f"a{number}", num_labels=2)
    model.eval()

    def forward(inputs: Any, of: list[int]) -> Any:
        names = sorted(set(of))
        sizes = [of.count(name) for name in names]
        if args.engine == "adapterhub" and len(names) > 1:
            model.set_active_adapters(BatchSplit(*(f"a{name}" for name in names), batch_sizes=sizes))
            return torch.cat([output.logits for output in model(**inputs)])
        logits, start = [], 0
        for name, size in zip(names, sizes, strict=True):
            model.set_active_adapters(f"a{name}")
            logits.append(model(**{key: value[start : start + size] for key, value in inputs.items()}).logits)
            start += size
        return torch.cat(logits)

    return forward


ENGINES: dict[str, Callable[[Any, int], Forward]] = {
    "torch": of_torch,
    "onnx": of_onnx,
    "openvino": of_openvino,
    "peft": of_peft,
    "adapterhub": of_adapterhub,
    "loop": of_adapterhub,
}


def predict(forward: Forward, tokenizer: Any, requests: list[tuple[int, str]], size: int, grouped: bool) -> list[int]:
    """Returns the codes of all texts in order; tokenizes all at once, sorted, if `grouped`, else batch by batch."""
    cut = functools.partial(tokenizer, truncation=True, return_token_type_ids=True)
    codes, order, encoded = [0] * len(requests), list(range(len(requests))), None
    if grouped:
        encoded = cut([text for _, text in requests])
        order.sort(key=lambda i: len(encoded["input_ids"][i]))
    for start in range(0, len(requests), size):
        ids = sorted(order[start : start + size], key=lambda i: requests[i][0])
        if encoded is None:
            inputs = cut([requests[i][1] for i in ids], padding=True, return_tensors="pt")
        else:
            inputs = tokenizer.pad({name: [encoded[name][i] for i in ids] for name in NAMES}, return_tensors="pt")
        with torch.inference_mode():
            logits = forward(inputs, [requests[i][0] for i in ids])
        for i, code in zip(ids, logits.argmax(-1).tolist(), strict=True):
            codes[i] = code
    return codes


def serve(asked: Any, replies: Any) -> None:
    """Serves by the settings `engine`, `precision`, `model`, `threads`, `batch_size`, `grouped`, and `requests`, a JSON
    list of adapter and text.
    """
    args = settings()
    torch.set_num_threads(args.threads)
    requests = json.loads(Path(args.requests).read_text())
    forward = ENGINES[args.engine](args, 1 + max(number for number, _ in requests))
    longest = min(128, AutoConfig.from_pretrained(args.model).max_position_embeddings)
    tokenizer = AutoTokenizer.from_pretrained(args.model, model_max_length=longest)
    serve_rounds(lambda: predict(forward, tokenizer, requests, args.batch_size, args.grouped), asked, replies)


if __name__ == "__main__":
    over_stdio(serve)
