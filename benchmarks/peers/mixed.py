"""PyTorch programs that answer each text by an adapter of its own: peft's mixed batches, AdapterHub's, and a loop.

The adapters are as they are made, since fresh ones cost what trained ones do.
"""

# pyright: reportMissingImports=false

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from benchmarks.peers.protocol import over_stdio, serve_rounds

Forward = Callable[[dict[str, torch.Tensor], list[int]], torch.Tensor]  # of a batch sorted by adapter


def peft(folder: Path, adapters: int) -> Forward:
    """LoRA of rank 8 on queries and values, as our method has it; each text names its adapter."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(task_type="SEQ_CLS", r=8, lora_alpha=16, target_modules=["query", "value"])
    base = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
    model = get_peft_model(base, config, adapter_name="0")
    for number in range(1, adapters):
        model.add_adapter(str(number), config)
    model.eval()
    return lambda inputs, of: model(**inputs, adapter_names=[str(number) for number in of]).logits


def adapterhub(folder: Path, adapters: int, split: bool) -> Forward:
    """A sequential bottleneck; a batch is split among its adapters, or else is one batch an adapter."""
    from adapters import AutoAdapterModel
    from adapters.composition import BatchSplit

    model = AutoAdapterModel.from_pretrained(folder)
    for number in range(adapters):
        model.add_adapter(f"a{number}", config="seq_bn")
        model.add_classification_head(f"a{number}", num_labels=2)
    model.eval()

    def forward(inputs: dict[str, torch.Tensor], of: list[int]) -> torch.Tensor:
        names = sorted(set(of))
        sizes = [of.count(name) for name in names]
        if split and len(names) > 1:
            model.set_active_adapters(BatchSplit(*(f"a{name}" for name in names), batch_sizes=sizes))
            outputs = model(**inputs)
            return torch.cat([output.logits for output in outputs])
        logits, start = [], 0
        for name, size in zip(names, sizes, strict=True):
            model.set_active_adapters(f"a{name}")
            logits.append(model(**{key: value[start : start + size] for key, value in inputs.items()}).logits)
            start += size
        return torch.cat(logits)

    return forward


def predict(forward: Forward, tokenizer: Any, requests: list[tuple[int, str]], batch_size: int) -> list[int]:
    """The codes of all texts in their order, in batches padded to their longest."""
    codes = []
    with torch.inference_mode():
        for start in range(0, len(requests), batch_size):
            batch = requests[start : start + batch_size]
            order = sorted(range(len(batch)), key=lambda i: batch[i][0])
            texts = [batch[i][1] for i in order]
            inputs = tokenizer(texts, padding=True, truncation=True, max_length=128, return_tensors="pt")
            logits = forward(dict(inputs), [batch[i][0] for i in order])
            codes += logits[torch.argsort(torch.tensor(order))].argmax(-1).tolist()
    return codes


def serve(asked: Any, replies: Any) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--system", choices=("peft", "adapterhub", "loop"), required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--requests", type=Path, required=True, help="a JSON list of adapter and text")
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    requests = json.loads(args.requests.read_text())
    adapters = 1 + max(number for number, _ in requests)
    forward = peft(args.model, adapters) if args.system == "peft" else None
    forward = forward or adapterhub(args.model, adapters, split=args.system == "adapterhub")
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    serve_rounds(lambda: predict(forward, tokenizer, requests, args.batch_size), asked, replies)


if __name__ == "__main__":
    over_stdio(serve)
