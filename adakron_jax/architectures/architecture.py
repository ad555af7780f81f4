"""What there is to tell of a `model_type`: where its leaves lie in a checkpoint, what its head is, what it computes."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from adakron_jax.architectures import paths
from adakron_jax.architectures.stored import Stored


class Form(NamedTuple):
    """A classification head: one projection (`linear`), or a dense with an activation before it.

    Attributes:
      activation: `linear`, `tanh`, `relu` or `gelu`.
      biases: whether the dense has one; the projection has.
      normed: whether a LayerNorm follows the activation.
      drops_input: whether dropout comes before the dense, besides that before the projection.
    """

    activation: str
    biases: bool = True
    normed: bool = False
    drops_input: bool = True


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A model type.

    Attributes:
      encoder: the file in `encoders/` that computes it.
      prefix: before the names of the encoder's tensors; a checkpoint of the encoder alone may lack it.
      keys: field of EncoderConfig -> key of `config.json`.
      fixed: field of EncoderConfig -> its value, where no `config.json` says it.
      unsaid: key -> what a `config.json` that lacks it means. What is not here must be said: a silent default would be
        a silent error, where published values are not those of the configuration class.
      accepted: key -> the values that are computed here, the first of which is meant where the key is missing.
      stored: our leaf, with `{i}` for its layer -> its place in a checkpoint; leaves that a configuration does not have
        may be among them.
      foreign: tensors, without prefix, that are no part of the encoder: heads of other tasks, buffers.
      form, head: its own classification head, and where the head's leaves lie in the checkpoint of a classifier.
      token_form, token_head: the same of its head on tokens.
      pretrained_head: those leaves of the head that a checkpoint without a classifier has already, if it does.
      pooler: whether a pretrained dense and tanh stand between first token and head.
      positions: where an example's first token reads the position table, or what attention has in its place.
      biases: whether dense layers and LayerNorms have them.
      drops_attention_output: whether `hidden_dropout` is applied to the attention's output too.
      respell: brings the contents of a `config.json` in another version's spelling to these keys.
    """

    encoder: Literal["bert", "modernbert", "deberta"]
    prefix: str
    keys: Mapping[str, str]
    unsaid: Mapping[str, Any]
    accepted: Mapping[str, tuple[Any, ...]]
    stored: Mapping[str, Stored]
    foreign: re.Pattern
    form: Form
    head: Mapping[str, Stored]
    token_form: Form = Form("linear")
    token_head: Mapping[str, Stored] = dataclasses.field(default_factory=lambda: linear("classifier"))
    pretrained_head: tuple[str, ...] = ()
    pooler: bool = False
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    positions: Literal["from 0", "after padding", "rotary", "offsets"] = "from 0"
    biases: bool = True
    drops_attention_output: bool = True
    respell: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda values: values


def stored_as(denses: dict[str, str], norms: dict[str, str], tables: dict[str, str]) -> dict[str, Stored]:
    """Of dense layers and LayerNorms with biases, and of embedding tables, by our path."""
    return (
        {f"{path}/kernel": Stored(f"{name}.weight", layout="reversed") for path, name in denses.items()}
        | {f"{path}/bias": Stored(f"{name}.bias") for path, name in (denses | norms).items()}
        | {f"{path}/scale": Stored(f"{name}.weight") for path, name in norms.items()}
        | {f"{path}/embedding": Stored(f"{name}.weight") for path, name in tables.items()}
    )


def linear(projection: str) -> dict[str, Stored]:
    """A projection alone, by its name."""
    return stored_as({paths.CLASSIFIER: projection}, {}, {})


def head_of(dense: str, projection: str) -> dict[str, Stored]:
    """A dense and a projection, by their names."""
    return stored_as({f"{paths.CLASSIFIER}/dense": dense, f"{paths.CLASSIFIER}/out_proj": projection}, {}, {})
