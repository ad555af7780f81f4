"""Merged adapters that peft and AdapterHub have an equal of; `merged.npz` has the logits that they compute."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adakron_jax import adapter, methods
from adakron_jax.encoders import pretrained
from adakron_jax.encoders.inputs import padded
from adakron_jax.params import unflatten
from adakron_jax.splice import Method
from tests.methods.test_fuse import random_leaves
from tests.support.adapters import card_of

STORED = Path(__file__).parent / "merged.npz"
LORA = methods.LoRA(r=3, alpha=5.0)
THREE = (LORA, dataclasses.replace(LORA, r=2), LORA)


@dataclasses.dataclass(frozen=True)
class Case:
    """Adapters, how we merge them, and how the peer does.

    Attributes:
      to: the peer's format.
      ours: arguments of `merge_adapters`.
      theirs: the peer's name for it, and its arguments.
    """

    to: str
    adapters: tuple[Method, ...]
    ours: dict[str, Any]
    theirs: dict[str, Any]
    base: str = "bert"


WEIGHTS = (0.5, 0.3, 0.2)
TRIPLE = tuple(3 * w for w in WEIGHTS)  # peft divides by the number of adapters once more
CASES = {
    "peft-lora-linear": Case("peft", THREE, {"weights": (1.0, -0.5, 0.7), "head": 0}, {"combination_type": "cat"}),
    "peft-lora-svd": Case("peft", THREE, {"weights": WEIGHTS, "how": "svd"}, {"combination_type": "svd"}),
    "peft-lora-ties": Case(
        "peft",
        THREE,
        {"weights": WEIGHTS, "how": "ties", "density": 0.4},
        {"combination_type": "ties_svd", "density": 0.4, "weights": TRIPLE},
    ),
    "peft-lora-dare": Case(
        "peft",
        THREE,
        {"weights": WEIGHTS, "how": "dare", "density": 0.6, "seed": 5},
        {"combination_type": "dare_linear_svd", "density": 0.6},
        "roberta",
    ),
    "adapterhub-pfeiffer": Case(
        "adapterhub", (methods.Pfeiffer(r=5),) * 3, {"weights": WEIGHTS}, {"combine_strategy": "linear"}
    ),
    "adapterhub-prefix": Case(
        "adapterhub",
        (methods.Prefix(length=2, mid=3),) * 2,
        {"weights": (3.0, 1.0)},
        {"combine_strategy": "linear"},
        "roberta",
    ),
    "adapterhub-ia3": Case("adapterhub", (methods.IA3(("key", "value")),) * 2, {}, {"combine_strategy": "linear"}),
    "adapterhub-lora-svd": Case(
        "adapterhub",
        (LORA,) * 3,
        {"weights": WEIGHTS, "how": "svd"},
        {"combine_strategy": "lora_delta_w_svd", "svd_rank": 3},
    ),
}


def written(case: Case, folder: Path) -> list[Path]:
    """The adapters of a case, of random numbers, each in a folder."""
    fields = {"pooling": "first", "head": "linear"} if case.to == "adapterhub" else {}
    return [saved(folder / str(seed), method, seed, case.base, **fields) for seed, method in enumerate(case.adapters)]


def saved(folder: Path, method: Method, seed: int = 0, base: str = "bert", **fields: Any) -> Path:
    """An adapter of random numbers."""
    card = card_of(base, method, fields)
    adapter.save(folder, unflatten(random_leaves(adapter.portable_shapes(card), seed)), card)
    return folder


def inputs() -> dict[str, np.ndarray]:
    ids = np.random.default_rng(0).integers(5, 97, (2, 9))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def logits_of(folder: Path) -> np.ndarray:
    card = adapter.read_card(folder / "adapter.json")
    model, params, _ = adapter.attach(folder, pretrained.read(Path(card.base), card.encoder))
    packed = padded(*(jnp.asarray(x, jnp.int32) for x in inputs().values()))
    return np.asarray(jax.jit(model.apply)({"params": params}, packed)[:, 0])
