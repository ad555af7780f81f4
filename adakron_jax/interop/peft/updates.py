"""LoRA and its forms, VeRA and (IA)³ as peft has them: reading a description, writing one, and where the leaves lie."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.interop.fields import Fields
from adakron_jax.interop.peft.targets import Targets, matcher, present, scales_of, target_modules
from adakron_jax.interop.slots import Layout, Piece, Slot, numerator, pieces, used
from adakron_jax.methods import IA3, DoRA, HiRA, LoRA, PiSSA, VeRA
from adakron_jax.methods.scaling import SCALED_INPUTS
from adakron_jax.methods.updates.fourierft import SEEDS
from adakron_jax.methods.updates.lora import largest, sizes
from adakron_jax.splice import Method, Site, path_of, path_of_shared


def read_lora(fields: Fields, targets: Targets, config: EncoderConfig) -> tuple[Method, list[Slot]]:
    """LoRA, DoRA or PiSSA."""
    r, alpha, rslora = fields.whole("r"), fields.number("lora_alpha"), fields.flag("use_rslora")
    ranks, alphas = fields.table("rank_pattern", 1), fields.table("alpha_pattern", 0)
    fields.must(bias="none", fan_in_fan_out=False, lora_bias=False, use_qalora=False)
    # What others than these start from is kept in the base's weights, which then are not the published ones.
    starts = dict.fromkeys((True, False, "gaussian", "orthogonal", "eva"), LoRA) | {"pissa": PiSSA}
    kind = fields.any_of("init_lora_weights", starts, default=True)
    if fields.flag("use_dora"):
        if kind is PiSSA:
            raise fields.refuse("use_dora", True, "false, with init_lora_weights pissa")
        kind = DoRA
    fields.ignore("lora_dropout", "eva_config", "qalora_group_size", "megatron_core", "ensure_weight_tying")
    if kind is not LoRA:
        targets.refuse_gaps(kind.__name__)
    if kind is PiSSA and ranks:
        raise fields.refuse("rank_pattern", ranks, "one rank, with init_lora_weights pissa")
    rank = {name: int(targets.by_pattern(ranks, name, r)) for name in targets.names}
    scale = {name: targets.by_pattern(alphas, name, alpha) / _divisor(rank[name], rslora) for name in targets.names}
    width = max(rank.values())
    uniform, scales = scales_of(targets, scale)
    alpha = float(numerator(uniform, _divisor(width, rslora)))
    settings = {"r": width, "rank_stabilised": rslora, "layers": targets.layers}
    method = kind(targets.sites, alpha=alpha, scales=scales, **settings)
    if not scales and method.default_scale != uniform:
        everywhere = (uniform,) * (len(method.layer_numbers(config)) * len(targets.sites))
        method = kind(targets.sites, scales=everywhere, **settings)
    return method, lora_slots(method, targets.by_site, rank, config)


def _divisor(rank: int, rslora: bool) -> int | float:
    """What divides α."""
    return rank**0.5 if rslora else rank


def write_lora(method: LoRA, leaves: Mapping[str, Any], config: EncoderConfig) -> tuple[dict[str, Any], list[Slot]]:
    by_site, scale = present(method, leaves, config), {}
    for site, names in by_site.items():
        scales = np.broadcast_to(method.scale_of(site), (len(names),))
        scale |= {name: float(s) for name, s in zip(names.values(), scales, strict=True) if name}
    rank = ranks_in_use(method, by_site, leaves, ("lora_a", "lora_b"))
    if isinstance(method, PiSSA):
        rank = dict.fromkeys(rank, method.r)
    alpha = {name: numerator(scale[name], _divisor(rank[name], method.rank_stabilised)) for name in rank}
    common = max(alpha.values(), key=list(alpha.values()).count)
    return {
        "peft_type": "LORA",
        "r": method.r,
        "lora_alpha": common,
        "target_modules": target_modules(by_site, config),
        "rank_pattern": {name: value for name, value in rank.items() if value != method.r},
        "alpha_pattern": {name: value for name, value in alpha.items() if value != common},
        "use_rslora": method.rank_stabilised,
        "use_dora": isinstance(method, DoRA),
        "init_lora_weights": "pissa" if isinstance(method, PiSSA) else True,
        "lora_dropout": 0.0,
        "bias": "none",
    }, lora_slots(method, by_site, rank, config)


def lora_slots(
    method: LoRA, by_site: Mapping[Site, Mapping[int, str]], rank: Mapping[str, int], config: EncoderConfig
) -> list[Slot]:
    """A and B of every target, and DoRA's magnitudes; `by_site` has "" for a module that is not there."""
    stored = {"lora_a": "lora_A.weight", "lora_b": "lora_B.weight"}
    slots = factor_slots(method, by_site, rank, config, stored)
    if isinstance(method, DoRA):
        for site, names in by_site.items():
            magnitudes = pieces(names, ".lora_magnitude_vector", sizes(site, config)[1:])
            slots.append(Slot(f"{path_of(site, method.name)}magnitude", magnitudes))
    return slots


def factor_slots(
    method: LoRA | HiRA,
    by_site: Mapping[Site, Mapping[int, str]],
    rank: Mapping[str, int],
    config: EncoderConfig,
    stored: Mapping[str, str],
) -> list[Slot]:
    """A [in, r] and B [r, out] of every target; `stored` are their names and those of the tensors."""
    slots, r, (a, b) = [], max(rank.values()), stored
    for site, names in by_site.items():
        inputs, outputs = sizes(site, config)
        of_a = pieces(names, f".{stored[a]}", (inputs, rank), "transposed")
        of_b = pieces(names, f".{stored[b]}", (rank, outputs), "transposed")
        at = path_of(site, method.name)
        slots += [Slot(f"{at}{a}", of_a, shape=(inputs, r)), Slot(f"{at}{b}", of_b, shape=(r, outputs))]
    return slots


def ranks_in_use(
    method: LoRA | HiRA,
    by_site: Mapping[Site, Mapping[int, str]],
    leaves: Mapping[str, Any],
    factors: tuple[str, str],
) -> dict[str, int]:
    """Name of a module -> how much of its factors' rank is in use: what is all zero at the end is not."""
    rank = {}
    for site, names in by_site.items():
        for layer, name in names.items():
            at = path_of(site, method.name).format(i=layer)
            a, b = (np.asarray(leaves[f"{at}{factor}"]) for factor in factors)
            rank |= {name: used(a.T, b) or method.r} if name else {}
    if max(rank.values()) < method.r:  # as no file would say how wide ours is
        return dict.fromkeys(rank, method.r)
    return rank


def read_vera(fields: Fields, targets: Targets, config: EncoderConfig) -> tuple[Method, list[Slot]]:
    r = fields.whole("r")
    saved, seed = fields.flag("save_projection", default=True), fields.whole("projection_prng_key", 0, default=0)
    if seed >= SEEDS:
        raise fields.refuse("projection_prng_key", seed, f"0 to {SEEDS - 1}")
    fields.must(bias="none", fan_in_fan_out=False)
    fields.ignore("vera_dropout", "d_initial", "init_weights")
    method = VeRA(targets.sites, r, layers=targets.layers)
    slots = vera_slots(method, targets.by_site, config)
    sizes_said = (tensor.shape for name, tensor in targets.tensors.items() if name.endswith(".vera_lambda_d"))
    if not saved and (r,) in sizes_said:  # before anything is made that no tensor vouches for
        _draw_projections(slots[:2], seed, targets.tensors)
    return method, slots


def _draw_projections(slots: Sequence[Slot], seed: int, tensors: dict[str, Any]) -> None:
    """Adds A and then B as peft draws them on a CPU."""
    draw = drawing(seed)
    for piece in (piece for slot in slots for piece in slot.all):
        drawn = draw(piece.stored_shape, math.sqrt(6 / piece.stored_shape[1]))
        tensors.setdefault(piece.name, drawn.astype(np.float32))


def drawing(seed: int) -> Callable[[tuple[int, ...], float], Float[np.ndarray, "..."]]:
    """What draws arrays uniformly from -bound to bound, as torch does on a CPU: from 24 bits of each 32 of MT19937."""
    generator = np.random.RandomState(seed)  # noqa: NPY002  # torch's generator

    def draw(shape: tuple[int, ...], bound: float) -> Float[np.ndarray, "..."]:
        bits, bound = generator.randint(0, SEEDS, shape, dtype=np.uint32) % (1 << 24), float(np.float32(bound))
        return 2 * bound * (bits / (1 << 24)) - bound

    return draw


def write_vera(method: VeRA, leaves: Mapping[str, Any], config: EncoderConfig) -> tuple[dict[str, Any], list[Slot]]:
    if others := set(method.scales) - {1.0}:
        raise ValueError(f"method.scales has {min(others)}; accepted for peft's VeRA: 1")
    by_site = present(method, leaves, config)
    return {
        "peft_type": "VERA",
        "r": method.r,
        "target_modules": target_modules(by_site, config),
        "save_projection": True,
        "projection_prng_key": 0,
        "vera_dropout": 0.0,
        "bias": "none",
    }, vera_slots(method, by_site, config)


def vera_slots(method: VeRA, by_site: Mapping[Site, Mapping[int, str]], config: EncoderConfig) -> list[Slot]:
    r, shared = method.r, path_of_shared(method.name)
    inputs, outputs = largest(by_site, config)
    slots = [
        Slot(f"{shared}vera_a", Piece("vera_A", (inputs, r), "transposed")),
        Slot(f"{shared}vera_b", Piece("vera_B", (r, outputs), "transposed")),
    ]
    for site, names in by_site.items():
        for kind, size in (("d", r), ("b", sizes(site, config)[1])):
            slots.append(
                Slot(f"{path_of(site, method.name)}lambda_{kind}", pieces(names, f".vera_lambda_{kind}", (size,)))
            )
    return slots


def read_ia3(fields: Fields, targets: Targets, config: EncoderConfig) -> tuple[Method, list[Slot]]:
    fields.must(fan_in_fan_out=False)
    fields.ignore("init_ia3_weights")
    is_input = matcher(fields, "feedforward_modules")
    reading = {dense: site for site, dense in SCALED_INPUTS.items()}
    by_site = {}
    for site, names in targets.by_site.items():
        sites = {reading.get(site) if is_input(name) else site for name in names.values() if name}
        if len(sites) > 1 or None in sites:
            first = next(filter(None, names.values()))
            accepted = f"all layers of {first} alike; of those before the last dense of a block, outputs"
            raise fields.refuse("feedforward_modules", "what scales inputs", accepted)
        by_site[sites.pop()] = names
    method = IA3(tuple(site.value for site in Site if site in by_site), layers=targets.layers)
    return method, ia3_slots(method, {Site(target): by_site[Site(target)] for target in method.targets}, config)


def write_ia3(method: IA3, leaves: Mapping[str, Any], config: EncoderConfig) -> tuple[dict[str, Any], list[Slot]]:
    by_site = present(method, leaves, config, unused=1.0)
    named = {site: set(filter(None, names.values())) for site, names in by_site.items()}
    of_outputs = {name for site in named.keys() - SCALED_INPUTS.keys() for name in named[site]}
    of_inputs = {name for site in named.keys() & SCALED_INPUTS.keys() for name in named[site]}
    if both := of_outputs & of_inputs:
        raise ValueError(
            f"method.targets scales inputs and outputs of {min(both)}; accepted for peft's IA3: one of them"
        )
    return {
        "peft_type": "IA3",
        "target_modules": sorted(of_outputs | of_inputs),
        "feedforward_modules": sorted(of_inputs),
    }, ia3_slots(method, by_site, config)


def ia3_slots(method: IA3, by_site: Mapping[Site, Mapping[int, str]], config: EncoderConfig) -> list[Slot]:
    slots = []
    for site, names in by_site.items():
        size = sizes(SCALED_INPUTS.get(site, site), config)[0 if site in SCALED_INPUTS else 1]
        layout: Layout = "row" if site in SCALED_INPUTS else "column"
        scales = pieces(names, ".ia3_l", (size,), layout)
        slots.append(Slot(f"{path_of(site, method.name)}{method.leaf(site)}", scales, fill=1.0))
    return slots
