"""A PyTorch loop that predicts texts in the order of their file, each batch padded to its longest."""

# pyright: reportMissingImports=false

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from benchmarks.peers.torch_bert import with_adakron
from benchmarks.throughput.protocol import answer_rounds


def predict(model: Any, tokenizer: Any, texts: list[str], batch_size: int, max_length: int) -> list[int]:
    codes = []
    with torch.inference_mode():
        for start in range(0, len(texts), batch_size):
            batch = texts[start : start + batch_size]
            inputs = tokenizer(batch, padding=True, truncation=True, max_length=max_length, return_tensors="pt")
            codes += model(**inputs.to(model.device)).logits.argmax(-1).tolist()
    return codes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True, help="a JSON list")
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--max-length", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = with_adakron(AutoModelForSequenceClassification.from_pretrained(args.model, num_labels=2)).eval()
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer, texts = AutoTokenizer.from_pretrained(args.model), json.loads(args.texts.read_text())
    answer_rounds(lambda: predict(model, tokenizer, texts, args.batch_size, args.max_length))


if __name__ == "__main__":
    main()
