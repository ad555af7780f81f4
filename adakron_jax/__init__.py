"""AdaKron-JAX: encoders in JAX, and methods that train a few parameters in place of all of them.

`import adakron_jax as ak` gives the names below; each is imported on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from adakron_jax.adapter import Card as Card
    from adakron_jax.bank import AdapterBank as AdapterBank
    from adakron_jax.classifier import TextClassifier as TextClassifier
    from adakron_jax.data.plan import pack as pack
    from adakron_jax.encoders.inputs import Packed as Packed
    from adakron_jax.encoders.inputs import padded as padded
    from adakron_jax.encoders.sequence_classifier import SequenceClassifier as SequenceClassifier
    from adakron_jax.evaluation.assessment import Assessment as Assessment
    from adakron_jax.merging import merge_adapters as merge_adapters
    from adakron_jax.methods import *  # noqa: F403
    from adakron_jax.methods.adakron import KronAdapter as KronAdapter
    from adakron_jax.methods.registry import register as register
    from adakron_jax.model import from_pretrained as from_pretrained
    from adakron_jax.model import fuse as fuse
    from adakron_jax.model import load_adapter as load_adapter
    from adakron_jax.model import loss as loss
    from adakron_jax.model import save_adapter as save_adapter
    from adakron_jax.params import merge_params as merge_params
    from adakron_jax.params import param_labels as param_labels
    from adakron_jax.params import split_params as split_params
    from adakron_jax.problems.prediction import Prediction as Prediction
    from adakron_jax.splice import Method as Method
    from adakron_jax.splice import Site as Site
    from adakron_jax.splice import Splice as Splice
    from adakron_jax.token_classifier import TokenClassifier as TokenClassifier
    from adakron_jax.token_classifier import load as load
    from adakron_jax.tokenizer import Tokenizer as Tokenizer

# Module -> the names taken from it. They repeat the imports above, which only type checkers read.
_HOMES = {
    "adapter": ("Card",),
    "bank": ("AdapterBank",),
    "classifier": ("TextClassifier",),
    "data.plan": ("pack",),
    "token_classifier": ("TokenClassifier", "load"),
    "tokenizer": ("Tokenizer",),
    "encoders.inputs": ("Packed", "padded"),
    "encoders.sequence_classifier": ("SequenceClassifier",),
    "evaluation.assessment": ("Assessment",),
    "merging": ("merge_adapters",),
    "methods": (
        *("AdaKron", "AdaMix", "BitFit", "C3A", "Compacter", "CompacterPlusPlus", "DoRA", "FourierFT", "Full"),
        *("Hadamard", "Head", "HiRA", "Houlsby", "IA3", "KronA", "LNTuning", "LoRA", "LoReFT", "MAdaKron", "MiSS"),
        *("OFT", "Pfeiffer", "PiSSA", "Prefix", "RandLoRA", "UniPELT", "VBLoRA", "VeRA"),
    ),
    "methods.adakron": ("KronAdapter",),
    "methods.registry": ("register",),
    "model": ("from_pretrained", "fuse", "load_adapter", "loss", "save_adapter"),
    "problems.prediction": ("Prediction",),
    "params": ("merge_params", "param_labels", "split_params"),
    "splice": ("Method", "Site", "Splice"),
}
_MODULES = {name: f"{__name__}.{home}" for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(globals().keys() | _MODULES.keys())
