"""PyTorch on Hugging Face's BERT or RoBERTa: the AdaKron equations, or an adapter of `adapters` or `peft`."""

# pyright: reportMissingImports=false

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

from benchmarks.peers.protocol import Measured, dense_inputs, over_stdio, padded_batches, serve_trainer, settings


class AdaKron(nn.Module):
    """h + GELU((h W2 + b2) ⊗ (h W1 + b1)) W_up + b_up, on the output h of the feed-forward block's last dense."""

    def __init__(self, d: int, factors: tuple[int, int] = (12, 4)):
        super().__init__()
        first, second = factors
        self.down_1, self.down_2 = nn.Linear(d, first), nn.Linear(d, second)
        self.up = nn.Linear(first * second, d)
        for dense in (self.down_1, self.down_2, self.up):
            nn.init.normal_(dense.weight, std=0.02)
            nn.init.zeros_(dense.bias)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        z = self.down_2(h)[..., :, None] * self.down_1(h)[..., None, :]
        return h + self.up(nn.functional.gelu(z.flatten(-2)))


def with_adakron(model: Any) -> Any:
    model.requires_grad_(False)
    model.classifier.requires_grad_(True)
    for layer in model.base_model.encoder.layer:
        layer.output.dense = nn.Sequential(layer.output.dense, AdaKron(model.config.hidden_size))
    return model


def with_adapters(model: Any) -> Any:
    """Adds the library's bottleneck at AdaKron's place and of its width."""
    import adapters

    adapters.init(model)
    bottleneck = adapters.BnConfig(
        mh_adapter=False,
        output_adapter=True,
        reduction_factor=model.config.hidden_size / 48,
        non_linearity="gelu",
    )
    model.add_adapter("bottleneck", config=bottleneck)
    model.train_adapter("bottleneck")
    return model


def with_lora(model: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    kind = "TOKEN_CLS" if type(model).__name__.endswith("ForTokenClassification") else "SEQ_CLS"
    lora = LoraConfig(task_type=kind, r=8, lora_alpha=16, lora_dropout=0.0, target_modules=["query", "value"])
    return get_peft_model(model, lora)


METHODS: dict[str, Callable[[Any], Any]] = {"adakron": with_adakron, "adapters": with_adapters, "lora": with_lora}


class Torch:
    """A model in training mode, its AdamW, and the batches of a file, by the settings of `benchmarks.training`."""

    compilations = 0

    def __init__(self, args: Any):
        torch.set_num_threads(args.threads)
        torch.manual_seed(0)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        auto = AutoModelForTokenClassification if args.of_tokens else AutoModelForSequenceClassification
        model = auto.from_pretrained(args.model, num_labels=args.labels)
        self.model = METHODS[args.method](model).to(self.device).train()
        self.trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.narrow = args.precision == "bf16"
        if self.narrow:  # as in ours: trainable parameters stay f32, frozen ones have the precision of their use
            for parameter in self.model.parameters():
                if not parameter.requires_grad:
                    parameter.data = parameter.data.bfloat16()
        # Batches by length have a dozen lengths, which one dynamic graph serves; a single length has a static graph.
        dynamic = True if args.grouped else None if args.length is None else False
        self.forward = torch.compile(self.model, dynamic=dynamic) if args.compile else self.model
        fused = self.device == "cuda"
        self.optimizer = torch.optim.AdamW(self.trained, lr=args.learning_rate, weight_decay=0.1, fused=fused)
        self.args = args

    def batches(self) -> Iterator[Measured]:
        for inputs, labels, sizes in padded_batches(self.args.tokens, self.args.length, self.args.grouped):
            yield sizes._replace(inputs=self.tensors(inputs, labels))

    def tensors(self, inputs: Any, labels: Any) -> dict[str, torch.Tensor]:
        tensors = {name: torch.from_numpy(array).long() for name, array in inputs.items()}
        tensors["labels"] = torch.from_numpy(labels) if labels.dtype.kind == "f" else torch.from_numpy(labels).long()
        return {name: tensor.to(self.device) for name, tensor in tensors.items()}

    def dense(self, rows: int, seq: int) -> dict[str, torch.Tensor]:
        shape = (rows, seq) if self.args.of_tokens else (rows,)
        inputs = self.tensors(dense_inputs(rows, seq), torch.zeros(shape).numpy())
        return inputs if self.args.labels == 1 else inputs | {"labels": inputs["labels"].long()}

    def step(self, inputs: dict[str, torch.Tensor]) -> None:
        with torch.autocast(self.device, torch.bfloat16, enabled=self.narrow):
            loss = self.forward(**inputs).loss
        loss.backward()
        nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def device_bytes(self) -> int:
        return torch.cuda.max_memory_allocated() if self.device == "cuda" else 0


if __name__ == "__main__":
    over_stdio(functools.partial(serve_trainer, lambda: Torch(settings())))
