"""Adapters of every method that a format supports, for the tests that write and read them."""

from pathlib import Path
from typing import Any

from adakron_jax import methods
from adakron_jax.adapter import Card
from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.encoders import pretrained
from adakron_jax.problems import make
from adakron_jax.splice import Method

HERE = Path(__file__).parents[1] / "interop"
BASES = {"bert": HERE / "_bert-base", "roberta": HERE / "_roberta-base"}
BASES["deberta-v2"] = HERE.parent / "oracles" / "base-deberta-v2-conv"
DENSES = ("query", "key", "value", "attention_dense", "ffn_inner", "ffn_dense")
TOKENS = {"problem": make("tokens", ("O", "B-place", "I-place", "B-name", "I-name"))}
# Format, base, method, fields of the card.
CASES: list[tuple[str, str, Method, dict[str, Any]]] = [
    ("huggingface", "bert", methods.LoRA(DENSES, r=3), {}),
    ("huggingface", "roberta", methods.VeRA(r=5), {}),
    ("huggingface", "bert", methods.KronA(a_shape=(4, 8)), {}),
    ("huggingface", "roberta", methods.IA3(), {}),
    ("huggingface", "bert", methods.Hadamard(), {"problem": make("regression", mean=2.0, scale=3.0)}),
    ("huggingface", "bert", methods.BitFit(), {"problem": make("multilabel", ("a", "b", "c"))}),
    ("huggingface", "roberta", methods.Full(), {"pooling": "first", "head": "tanh"}),
    ("huggingface", "bert", methods.Head(), {"head": "linear"}),
    ("peft", "bert", methods.LoRA(DENSES, r=3, scales=(0.5,) * 6 + (0.25,) * 5 + (2.0,) + (1.5,) * 6), {}),
    ("peft", "roberta", methods.LoRA(r=2, alpha=5.0), {}),
    ("peft", "bert", methods.IA3(("key", "value", "attention_context", "ffn_hidden")), {}),
    ("peft", "roberta", methods.IA3(("query", "ffn_inner", "ffn_dense")), {}),
    ("peft", "roberta", methods.VeRA(("key", "ffn_dense"), r=5), {}),
    ("peft", "bert", methods.KronA(a_shape=(4, 4), scale=1.5, ranks=(0, 2)), {}),
    ("peft", "bert", methods.KronA(a_shape=(8, 8)), {}),
    ("peft", "bert", methods.Prefix(length=4, mid=6, shift_positions=True), {}),
    ("huggingface", "bert", methods.LoRA(r=3, layers="1-2"), {}),
    ("peft", "bert", methods.LoRA(r=3, layers="1-2"), {}),
    ("peft", "roberta", methods.IA3(("query", "key"), layers="0"), {}),
    ("peft", "bert", methods.VeRA(r=4, layers="0,2"), {}),
    ("peft", "roberta", methods.KronA(a_shape=(4, 4), ranks=(0, 2), layers="1"), {}),
    ("peft", "bert", methods.LoRA(r=3, alpha=5.0, rank_stabilised=True), {}),
    ("peft", "roberta", methods.DoRA(("query", "ffn_inner", "ffn_dense"), r=3, rank_stabilised=True, layers="0,2"), {}),
    ("peft", "bert", methods.HiRA(("value", "ffn_dense"), r=3), {}),
    ("peft", "bert", methods.RandLoRA(("query", "ffn_inner", "ffn_dense"), r=7, alpha=9.0), {}),
    ("peft", "roberta", methods.VBLoRA(("key", "ffn_inner"), r=2, vectors=300, vector_length=16, layers="1"), {}),
    ("peft", "bert", methods.MiSS(("query", "ffn_dense"), r=5), {}),
    ("peft", "roberta", methods.MiSS(r=3, form="mini", mini_r=8), {}),
    ("peft", "bert", methods.MiSS(("key", "ffn_inner"), r=8, form="bat", layers="1-2"), {}),
    ("huggingface", "roberta", methods.FourierFT(DENSES, n_frequency=20), {}),
    ("huggingface", "bert", methods.C3A(block_size=8), {}),
    ("huggingface", "bert", methods.LNTuning(), {}),
    ("peft", "roberta", methods.FourierFT(("query", "ffn_dense"), n_frequency=60, seed=5, layers="0,2"), {}),
    ("peft", "bert", methods.C3A(("value", "ffn_inner"), block_size=16, layers="1"), {}),
    ("peft", "roberta", methods.LNTuning(), {}),
    ("huggingface", "roberta", methods.OFT(DENSES, block_size=4), {}),
    ("peft", "bert", methods.OFT(("key", "ffn_dense"), block_size=16, layers="0,2"), {}),
    ("peft", "roberta", methods.OFT(block_size=4, cayley="neumann", neumann_terms=3), {}),
    ("adapterhub", "bert", methods.Compacter(4, 4, layers="1"), {}),
    ("adapterhub", "roberta", methods.Prefix(length=2, mid=3, layers="0-1"), {}),
    ("adapterhub", "bert", methods.LoReFT(2, 2, 3), {}),
    ("adapterhub", "roberta", methods.LoReFT(1, 0, 2, layers="0,2"), {}),
    ("adapterhub", "bert", methods.Pfeiffer(r=5), {}),
    ("adapterhub", "roberta", methods.Pfeiffer(6, ("attention",), "gelu_tanh", (2.0, 2.0), layers="0,2"), {}),
    ("adapterhub", "bert", methods.Houlsby(4, "adapterhub"), {"pooling": "first", "head": "relu"}),
    (
        "adapterhub",
        "roberta",
        methods.Houlsby(4, "adapterhub", activation="tanh"),
        {"pooling": "first", "head": "linear"},
    ),
    ("adapterhub", "bert", methods.Compacter(4, 2, 3), {"pooling": "pooler", "head": "tanh"}),
    ("adapterhub", "roberta", methods.CompacterPlusPlus(4, layers="0-1"), {}),
    ("adapterhub", "bert", methods.LoRA(("query", "key", "ffn_inner", "ffn_dense"), r=3), {}),
    ("adapterhub", "roberta", methods.LoRA(r=3, alpha=4.5, layers="1-2"), {}),
    ("adapterhub", "bert", methods.IA3(("query", "value", "ffn_inner", "ffn_dense")), {}),
    ("adapterhub", "bert", methods.Prefix(length=4, mid=6), {}),
    ("adapterhub", "roberta", methods.Prefix(length=4, mlp=False, layers="0,2"), {}),
    ("adapterhub", "bert", methods.UniPELT(r=4, length=3, mid=6, lora_r=2), {}),
    ("adapterhub", "roberta", methods.UniPELT(("adapter", "lora"), r=4, lora_r=2, targets=("key", "ffn_dense")), {}),
    ("huggingface", "deberta-v2", methods.LoRA(("query", "key"), r=3), {}),
    ("peft", "deberta-v2", methods.LoRA(("query", "key"), r=3), {}),
    ("huggingface", "deberta-v2", methods.IA3(), TOKENS),
    ("adapterhub", "deberta-v2", methods.LoRA(("query", "key"), r=3), {}),
    ("adapterhub", "deberta-v2", methods.UniPELT(r=4, length=3, mid=6, lora_r=2), {"pooling": "first", "head": "relu"}),
    ("adapterhub", "deberta-v2", methods.LoReFT(2, 2, 3), TOKENS),
    ("huggingface", "bert", methods.LoRA(r=3), TOKENS | {"pooling": "mean"}),
    ("huggingface", "roberta", methods.IA3(), TOKENS),
    ("peft", "roberta", methods.LoRA(r=3), TOKENS),
    ("peft", "bert", methods.Prefix(length=2, mlp=False, shift_positions=True), TOKENS),
    ("adapterhub", "roberta", methods.Pfeiffer(r=5), TOKENS),
    ("adapterhub", "bert", methods.Houlsby(4, "adapterhub"), TOKENS | {"head": "tanh"}),
]


def card_of(base: str, method: Method, fields: dict[str, Any]) -> Card:
    config = EncoderConfig.from_folder(BASES[base])
    return Card(
        **{
            "method": method,
            "task": "made up",
            "problem": make("classification", ("no", "yes", "perhaps")),
            "base": str(BASES[base]),
            "fingerprint": pretrained.fingerprint(pretrained.read(BASES[base], config)),
            "encoder": config,
            "scores": {"accuracy": 0.5},
            "max_length": config.max_length - method.first_position,
        }
        | fields
    )
