"""RandLoRA and VB-LoRA as peft has them: what all modules share, and some numbers of each."""

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.interop.fields import Fields
from adakron_jax.interop.peft.targets import Targets, check_scales, present, target_modules
from adakron_jax.interop.peft.updates import SEEDS, drawing
from adakron_jax.interop.slots import Piece, Slot, pieces
from adakron_jax.methods import RandLoRA, VBLoRA
from adakron_jax.methods.updates.lora import sizes
from adakron_jax.methods.updates.projections import count
from adakron_jax.splice import Site, path_of, path_of_shared

_INDICES, _ORDER = "_topk_indices", "_order"


def read_randlora(fields: Fields, targets: Targets, config: EncoderConfig) -> tuple[RandLoRA, list[Slot]]:
    r, alpha = fields.whole("r"), fields.number("randlora_alpha")
    saved, seed = fields.flag("save_projection", default=True), fields.whole("projection_prng_key", 0, default=0)
    if seed >= SEEDS:
        raise fields.refuse("projection_prng_key", seed, f"0 to {SEEDS - 1}")
    if not saved:  # otherwise it does not matter how the bases were drawn
        fields.must(sparse=False, very_sparse=False)
    fields.must(bias="none", fan_in_fan_out=False)
    fields.ignore("randlora_dropout", "init_weights", "sparse", "very_sparse")
    method = RandLoRA(targets.sites, r, alpha, layers=targets.layers)
    slots = randlora_slots(method, targets.by_site, config, copied=saved)
    ranks = (tensor.shape[:1] for name, tensor in targets.tensors.items() if name.endswith(".randlora_lambda"))
    if not saved and (r,) in ranks:  # before anything is made that no tensor vouches for
        targets.tensors.update(_drawn(method, config, seed))
    return method, slots


def _drawn(method: RandLoRA, config: EncoderConfig, seed: int) -> dict[str, np.ndarray]:
    """The bases as peft draws them, in bfloat16: A, then the bases of B one after another; over their deviations."""
    draw, r, (smaller, larger) = drawing(seed), method.r, method.sides(config)

    def narrow(shape: tuple[int, ...]) -> np.ndarray:
        bound = 1 / math.sqrt(shape[-1])
        drawn, most = draw(shape, bound).astype(np.float32).astype(jnp.bfloat16), np.asarray(bound, jnp.bfloat16)
        return np.where(drawn >= most, -most, drawn)  # torch's range has no upper end

    a = narrow((r, 1, smaller))
    b = np.stack([narrow((larger, r)) for _ in range(count(smaller, r))], axis=1)
    deviations = (x.std(ddof=1, dtype=np.float64).astype(x.dtype) for x in (a, b))
    divided = (x / deviation for x, deviation in zip((a, b), deviations, strict=True))
    return dict(zip(("randlora_A", "randlora_B"), (x.astype(np.float32) for x in divided), strict=True))


def write_randlora(
    method: RandLoRA, leaves: Mapping[str, Any], config: EncoderConfig
) -> tuple[dict[str, Any], list[Slot]]:
    check_scales(method, "RandLoRA")
    by_site = present(method, leaves, config)
    return {
        "peft_type": "RANDLORA",
        "r": method.r,
        "randlora_alpha": method.alpha,
        "target_modules": target_modules(by_site, config),
        "save_projection": True,
        "projection_prng_key": 0,
        "randlora_dropout": 0.0,
        "bias": "none",
    }, randlora_slots(method, by_site, config)


def randlora_slots(
    method: RandLoRA, by_site: Mapping[Site, Mapping[int, str]], config: EncoderConfig, copied: bool = True
) -> list[Slot]:
    """The bases stand once for all modules, and once more in each if they are saved."""
    r, (smaller, larger) = method.r, method.sides(config)
    names = [name for modules in by_site.values() for name in modules.values() if name]
    slots, shared = [], path_of_shared(method.name)
    for at in ("", *(f"{name}." for name in names if copied)):
        slots.append(Slot(f"{shared}randlora_a", Piece(f"{at}randlora_A", (r, smaller), "spread")))
        slots.append(Slot(f"{shared}randlora_b", Piece(f"{at}randlora_B", (larger, count(smaller, r), r))))
    for site, modules in by_site.items():
        side = min(sizes(site, config))
        for leaf, shape in (("lambda", (r, count(side, r))), ("gamma", (count(side, r), side))):
            slots.append(Slot(f"{path_of(site, method.name)}{leaf}", pieces(modules, f".randlora_{leaf}", shape)))
    return slots


def read_vblora(fields: Fields, targets: Targets, config: EncoderConfig) -> tuple[VBLoRA, list[Slot]]:
    targets.refuse_gaps("VB-LoRA")
    method = VBLoRA(
        targets.sites,
        r=fields.whole("r"),
        vectors=fields.whole("num_vectors"),
        vector_length=fields.whole("vector_length"),
        topk=fields.whole("topk"),
        form="topk" if fields.flag("save_only_topk_weights") else "logits",
        layers=targets.layers,
    )
    fields.must(bias="none", fan_in_fan_out=False)
    fields.ignore("vblora_dropout", "init_logits_std", "init_vector_bank_bound")
    return method, vblora_slots(method, targets.by_site, config)


def write_vblora(method: VBLoRA, leaves: Mapping[str, Any], config: EncoderConfig) -> tuple[dict[str, Any], list[Slot]]:
    check_scales(method, "VB-LoRA")
    weights = [np.asarray(leaf) for path, leaf in leaves.items() if "/weights_" in path]
    if any((leaf <= 0).any() or (leaf.sum(axis=-1) >= 1).any() for leaf in weights):
        raise ValueError(
            "weights of the form topk are not all between 0 and 1; accepted for peft's VB-LoRA: a softmax's"
        )
    by_site = present(method, leaves, config)
    return {
        "peft_type": "VBLORA",
        "r": method.r,
        "num_vectors": method.vectors,
        "vector_length": method.vector_length,
        "topk": method.topk,
        "save_only_topk_weights": method.form == "topk",
        "target_modules": target_modules(by_site, config),
        "vblora_dropout": 0.0,
        "bias": "none",
    }, vblora_slots(method, by_site, config)


def vblora_slots(method: VBLoRA, by_site: Mapping[Site, Mapping[int, str]], config: EncoderConfig) -> list[Slot]:
    r, v, vectors = method.r, method.vector_length, method.vectors
    kinds = {"logits": ("", vectors)}
    if method.form == "topk":
        kinds = {"order": (_ORDER, vectors), "weights": ("_topk_weights", method.topk - 1)}
    slots = [Slot(f"{path_of_shared(method.name)}vector_bank", Piece("vblora_vector_bank", (vectors, v)))]
    for site, modules in by_site.items():
        method.module(site, (of_site := sizes(site, config)), None)  # refuses a length that does not divide them
        for name, shape in (("a", (r, of_site[0] // v)), ("b", (of_site[1] // v, r))):
            for kind, (stored, last) in kinds.items():
                logits = pieces(modules, f".vblora_logits_{name.upper()}{stored}", (*shape, last))
                slots.append(Slot(f"{path_of(site, method.name)}{kind}_{name}", logits))
    return slots


def with_orders(tensors: Mapping[str, np.ndarray], method: VBLoRA) -> dict[str, np.ndarray]:
    """A file's tensors, the places of the mixed vectors as our order of all: k at the first place, 0 at the others.

    Raises:
      ValueError: they are no places of as many different vectors.
    """
    ordered = {}
    for name, at in tensors.items():
        if not name.endswith(_INDICES):
            ordered[name] = at
            continue
        places, accepted = np.sort(at, axis=-1), f"{method.topk} different ones from 0 to {method.vectors - 1}"
        valid = at.ndim > 0 and at.dtype.kind in "iu" and at.shape[-1] == method.topk
        if not valid or (places < 0).any() or (places >= method.vectors).any() or (np.diff(places) == 0).any():
            raise ValueError(f"{name} holds other indices; accepted: {accepted}")
        order = np.zeros((*at.shape[:-1], method.vectors), np.float32)
        np.put_along_axis(order, at.astype(np.int64), np.arange(method.topk, 0, -1).astype(np.float32), axis=-1)
        ordered[name.removesuffix(_INDICES) + _ORDER] = order
    return ordered


def with_indices(tensors: Mapping[str, np.ndarray], method: VBLoRA) -> dict[str, np.ndarray]:
    """The inverse, in the type that peft writes."""
    kind = np.uint8 if method.vectors < 1 << 8 else np.int16 if method.vectors < 1 << 15 else np.int32
    placed = {}
    for name, tensor in tensors.items():
        if name.endswith(_ORDER):
            at = np.argsort(-tensor, axis=-1, kind="stable")[..., : method.topk]
            name, tensor = name.removesuffix(_ORDER) + _INDICES, np.ascontiguousarray(at.astype(kind))
        placed[name] = tensor
    return placed
