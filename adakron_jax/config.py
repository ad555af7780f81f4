"""The shape of an encoder, read from a Hugging Face `config.json`."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adakron_jax.files import read_object

# Field of EncoderConfig -> key of config.json.
_KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "max_position_embeddings": "max_position_embeddings",
    "type_vocab_size": "type_vocab_size",
    "pad_id": "pad_token_id",
    "layer_norm_eps": "layer_norm_eps",
    "hidden_dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "initializer_range": "initializer_range",
}
# What Google's first BERT configurations left unsaid. RoBERTa gets no such help: its published epsilon (1e-5) is not
# the default of its configuration class, so a silent default would be a silent error.
_UNSAID = {
    "bert": {"pad_token_id": 0, "layer_norm_eps": 1e-12, "initializer_range": 0.02},
    "roberta": {"initializer_range": 0.02},
}


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """A BERT or RoBERTa encoder.

    Attributes:
      model_type: `bert` or `roberta`. They differ in where positions start and in the classification head.
      vocab_size, hidden_size, num_layers, num_heads, intermediate_size: sizes; `num_heads` divides `hidden_size`.
      max_position_embeddings: rows of the position table, those RoBERTa never uses included.
      type_vocab_size: rows of the token type table (2 for BERT, 1 for RoBERTa).
      pad_id: the padding token.
      layer_norm_eps: epsilon of every LayerNorm.
      hidden_dropout, attention_dropout, classifier_dropout: rates in [0, 1).
      initializer_range: standard deviation of a fresh classification head.

    Raises:
      ValueError: a field is out of range, or a `model_type` other than the two is asked for.
    """

    model_type: str
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int
    pad_id: int
    layer_norm_eps: float
    hidden_dropout: float
    attention_dropout: float
    classifier_dropout: float
    initializer_range: float

    def __post_init__(self):
        if self.model_type not in _UNSAID:
            raise ValueError(f"model_type is {self.model_type!r}; accepted: {', '.join(_UNSAID)}")
        for name in (
            *("vocab_size", "hidden_size", "num_layers", "num_heads"),
            *("intermediate_size", "max_position_embeddings", "type_vocab_size"),
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; accepted: at least 1")
        if self.pad_id < 0:
            raise ValueError(f"pad_id is {self.pad_id}; accepted: at least 0")
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}")
        for name in ("hidden_dropout", "attention_dropout", "classifier_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; accepted: 0 <= rate < 1")

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def position_offset(self) -> int:
        """Row of the position table that an example's first token reads."""
        return self.pad_id + 1 if self.model_type == "roberta" else 0

    @property
    def max_length(self) -> int:
        """Tokens of the longest example that the position table can hold."""
        return self.max_position_embeddings - self.position_offset

    @classmethod
    def from_hugging_face(cls, values: Mapping[str, Any]) -> "EncoderConfig":
        """Builds the configuration from the contents of a `config.json`.

        Raises:
          ValueError: the model type, activation or kind of positions is unsupported, or a key is missing.
        """
        accepted = {
            "model_type": tuple(_UNSAID),
            "hidden_act": ("gelu",),
            "position_embedding_type": ("absolute",),
            "is_decoder": (False,),
            "add_cross_attention": (False,),
        }
        for key, choices in accepted.items():
            if values.get(key, choices[0] if key != "model_type" else None) not in choices:
                raise ValueError(f"{key} is {values.get(key)!r}; accepted: {', '.join(map(str, choices))}")
        values = _UNSAID[values["model_type"]] | dict(values)
        if missing := sorted(key for key in _KEYS.values() if values.get(key) is None):
            raise ValueError(f"missing from the encoder's configuration: {', '.join(missing)}")
        rate = values.get("classifier_dropout")
        return cls(
            model_type=values["model_type"],
            classifier_dropout=values["hidden_dropout_prob"] if rate is None else rate,
            **{field: values[key] for field, key in _KEYS.items()},
        )

    def to_hugging_face(self) -> dict[str, Any]:
        """The contents of a `config.json`, of which `from_hugging_face` builds the same."""
        fields = _KEYS | {"model_type": "model_type", "classifier_dropout": "classifier_dropout"}
        return {key: getattr(self, field) for field, key in fields.items()} | {"hidden_act": "gelu"}

    @classmethod
    def from_folder(cls, folder: Path) -> "EncoderConfig":
        """Reads `config.json` of a model folder; ValueError names the file."""
        path = folder / "config.json"
        try:
            return cls.from_hugging_face(read_object(path))
        except FileNotFoundError:
            raise ValueError(f"{folder} has no config.json; accepted: a Hugging Face model folder") from None
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: {error}") from None


# The two encoders of the paper, for counting parameters without downloading anything.
BERT_BASE = EncoderConfig(
    model_type="bert",
    vocab_size=30522,
    hidden_size=768,
    num_layers=12,
    num_heads=12,
    intermediate_size=3072,
    max_position_embeddings=512,
    type_vocab_size=2,
    pad_id=0,
    layer_norm_eps=1e-12,
    hidden_dropout=0.1,
    attention_dropout=0.1,
    classifier_dropout=0.1,
    initializer_range=0.02,
)
ROBERTA_LARGE = dataclasses.replace(
    BERT_BASE,
    model_type="roberta",
    vocab_size=50265,
    hidden_size=1024,
    num_layers=24,
    num_heads=16,
    intermediate_size=4096,
    max_position_embeddings=514,
    type_vocab_size=1,
    pad_id=1,
    layer_norm_eps=1e-5,
)
NAMED = {"bert-base": BERT_BASE, "roberta-large": ROBERTA_LARGE}
