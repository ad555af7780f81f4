"""The shape of an encoder, read from a Hugging Face `config.json`."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from adakron_jax.architectures.model_types import ARCHITECTURES, Architecture
from adakron_jax.io.fields import hold_to_types
from adakron_jax.io.files import read_object


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """An encoder's sizes, and everything else that decides how it computes.

    Attributes:
      model_type: a name in ARCHITECTURES, which describes what all encoders of the type share.
      vocab_size, hidden_size, num_layers, num_heads, intermediate_size: sizes; `num_heads` divides `hidden_size`.
      max_position_embeddings: rows of the position table, including those RoBERTa never uses; or the longest example.
      type_vocab_size: rows of the token type table (2 for BERT, 1 for RoBERTa, 0 if there is none).
      pad_id: the padding token.
      layer_norm_eps: epsilon of every LayerNorm.
      hidden_dropout, attention_dropout, classifier_dropout: rates in [0, 1).
      initializer_range: standard deviation of a fresh classification head.
      embedding_size: width of the embeddings; None means `hidden_size`. Only ELECTRA's may differ from it.

    Read by ModernBERT alone:
      embedding_dropout: a rate.
      pooling: what its own head reads: the first token (`cls`), or the mean of all (`mean`).
      global_every: in every layer whose number is a multiple of this, a token sees its whole example; in the others it
        sees `window // 2` tokens to each side.
      global_theta, local_theta: bases of the rotary angles in the two kinds of layer.

    Read by DeBERTa alone:
      position_buckets: half the rows of the table of offsets.
      max_relative_positions: the offset from which on all are alike; below 1, `max_position_embeddings`.
      conv_kernel: taps of the convolution after the first layer, 0 without one.

    Raises:
      ValueError: a field is out of range, or of an unknown type.
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
    embedding_size: int | None = None
    embedding_dropout: float = 0.0
    pooling: Literal["cls", "mean"] = "cls"
    global_every: int = 1
    window: int = 0
    global_theta: float = 0.0
    local_theta: float = 0.0
    position_buckets: int = 0
    max_relative_positions: int = -1
    conv_kernel: int = 0

    def __post_init__(self):
        if self.model_type not in ARCHITECTURES:
            raise ValueError(f"model_type is {self.model_type!r}; accepted: {', '.join(ARCHITECTURES)}")
        hold_to_types(self)
        for name in (*self.architecture.keys, *self.architecture.fixed):
            if isinstance(value := getattr(self, name), int | float):
                _check_range(name, value)
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}")
        if self.architecture.positions == "rotary" and self.head_dim % 2:
            raise ValueError(f"hidden_size {self.hidden_size} gives heads of {self.head_dim}; accepted: even numbers")
        if self.architecture.positions == "offsets":
            self._check_offsets()

    def _check_offsets(self) -> None:
        reach = self.relative_reach
        if self.position_buckets // 2 > reach - 2:
            accepted = f"2 to {2 * reach - 3}, of offsets below {reach}"
            raise ValueError(f"position_buckets is {self.position_buckets}; accepted: {accepted}")
        if self.conv_kernel and not self.conv_kernel % 2:
            raise ValueError(f"conv_kernel is {self.conv_kernel}; accepted: 0 or an odd number")

    @property
    def architecture(self) -> Architecture:
        return ARCHITECTURES[self.model_type]

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def embedding_width(self) -> int:
        return self.hidden_size if self.embedding_size is None else self.embedding_size

    @property
    def position_offset(self) -> int:
        """The row of the position table that an example's first token reads."""
        return self.pad_id + 1 if self.architecture.positions == "after padding" else 0

    @property
    def relative_reach(self) -> int:
        """The offset from which on all are alike."""
        return self.max_relative_positions if self.max_relative_positions > 0 else self.max_position_embeddings

    @property
    def max_length(self) -> int:
        """Number of tokens of the longest example that the encoder can take."""
        return self.max_position_embeddings - self.position_offset

    @classmethod
    def from_hugging_face(cls, values: Mapping[str, Any]) -> "EncoderConfig":
        """Builds the configuration from the contents of a `config.json`.

        Raises:
          ValueError: the model type, activation or kind of positions is unsupported, or a key is missing.
        """
        model_type = values.get("model_type")
        if model_type not in ARCHITECTURES:
            raise ValueError(f"model_type is {model_type!r}; accepted: {', '.join(ARCHITECTURES)}")
        architecture = ARCHITECTURES[model_type]
        values = {**architecture.unsaid, **architecture.respell(values)}
        for key, choices in architecture.accepted.items():
            if values.get(key, choices[0]) not in choices:
                raise ValueError(f"{key} is {values.get(key)!r}; accepted: {', '.join(map(str, choices))}")
        keys = architecture.keys
        if values.get(keys["classifier_dropout"]) is None and keys["hidden_dropout"] in values:
            values[keys["classifier_dropout"]] = values[keys["hidden_dropout"]]
        if missing := sorted(key for key in keys.values() if values.get(key) is None):
            raise ValueError(f"missing from the encoder's configuration: {', '.join(missing)}")
        fields = {field: values[key] for field, key in keys.items()}
        return cls(model_type=model_type, **architecture.fixed, **fields)

    def to_hugging_face(self) -> dict[str, Any]:
        """Returns the contents of a `config.json` from which `from_hugging_face` builds the same configuration."""
        values = {key: getattr(self, field) for field, key in self.architecture.keys.items()}
        return {"model_type": self.model_type, **values} | {
            key: choices[0] for key, choices in self.architecture.accepted.items() if key not in values
        }

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


# The least values of fields that are whole numbers.
_LEAST = {
    **dict.fromkeys(("vocab_size", "hidden_size", "num_layers", "num_heads", "intermediate_size"), 1),
    **dict.fromkeys(("max_position_embeddings", "embedding_size", "global_every"), 1),
    **dict.fromkeys(("type_vocab_size", "pad_id", "window", "conv_kernel"), 0),
    "position_buckets": 2,
    "max_relative_positions": -1,
}
_MOST, _MOST_LAYERS = 2**31 - 1, 1000  # whatever a file claims, since names and shapes are listed layer by layer


def _check_range(field: str, value: int | float) -> None:
    if value < _LEAST.get(field, value):
        raise ValueError(f"{field} is {value}; accepted: at least {_LEAST[field]}")
    if not abs(value) <= (most := _MOST_LAYERS if field == "num_layers" else _MOST):
        raise ValueError(f"{field} is {value}; accepted: at most {most}")
    if field.endswith("_dropout") and not 0 <= value < 1:
        raise ValueError(f"{field} is {value}; accepted: 0 <= rate < 1")
    if field.endswith("_theta") and value <= 1:
        raise ValueError(f"{field} is {value}; accepted: above 1")


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
