"""The description of a `model_type`: its leaves' places in a checkpoint, its head, and what it computes."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from adakron_jax.architectures import paths
from adakron_jax.architectures.stored import Stored


class Form(NamedTuple):
    """A classification head: one projection (`linear`), or a dense layer with an activation before the projection.

    Attributes:
      activation: `linear`, `tanh`, `relu` or `gelu`.
      biases: whether the dense layer has a bias; the projection always has.
      normed: whether a LayerNorm follows the activation.
      drops_input: whether dropout precedes the dense layer too, besides the projection.
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
      prefix: prefix of the names of the encoder's tensors; a checkpoint of the encoder alone may lack it.
      keys: field of EncoderConfig -> key of `config.json`.
      fixed: field of EncoderConfig -> its value, if no `config.json` holds it.
      unsaid: key -> what a `config.json` that lacks it means. Other keys are required: a silent default would be a
        silent error where published values are not those of the configuration class.
      accepted: key -> the supported values, the first of which is assumed if the key is missing.
      stored: our leaf, with `{i}` for its layer -> its place in a checkpoint; may include leaves that a configuration
        does not have.
      foreign: tensors, without prefix, that are not part of the encoder: heads of other tasks, buffers.
      form, head: the architecture's classification head, and its leaves' places in the checkpoint of a classifier.
      token_form, token_head: the same for its head on tokens.
      pretrained_head: leaves of the head that a checkpoint without a classifier already holds, if any.
      pooler: whether a pretrained dense layer and tanh come between first token and head.
      positions: where an example's first token reads the position table, or what attention uses in its place.
      biases: whether dense layers and LayerNorms have biases.
      drops_attention_output: whether `hidden_dropout` is applied to the attention's output too.
      respell: converts the contents of a `config.json` from another version's spelling to these keys.
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
    """Returns the places of dense layers and LayerNorms with biases, and of embedding tables, by our path."""
    return (
        {f"{path}/kernel": Stored(f"{name}.weight", layout="reversed") for path, name in denses.items()}
        | {f"{path}/bias": Stored(f"{name}.bias") for path, name in (denses | norms).items()}
        | {f"{path}/scale": Stored(f"{name}.weight") for path, name in norms.items()}
        | {f"{path}/embedding": Stored(f"{name}.weight") for path, name in tables.items()}
    )


def linear(projection: str) -> dict[str, Stored]:
    """Returns the place of a projection alone, by its name."""
    return stored_as({paths.CLASSIFIER: projection}, {}, {})


def head_of(dense: str, projection: str) -> dict[str, Stored]:
    """Returns the places of a dense layer and a projection, by their names."""
    return stored_as({f"{paths.CLASSIFIER}/dense": dense, f"{paths.CLASSIFIER}/out_proj": projection}, {}, {})
