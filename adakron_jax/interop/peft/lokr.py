"""peft's LoKr: KronA whose factors' shapes and ranks follow from one rank and one divisor."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.interop.fields import Fields
from adakron_jax.interop.peft.targets import Targets, present, scales_of, target_modules
from adakron_jax.interop.slots import Slot, numerator, pieces, used
from adakron_jax.methods import KronA
from adakron_jax.methods.updates.lora import Sizes, sizes
from adakron_jax.splice import Site, path_of


def divided(size: int, factor: int) -> Sizes:
    """Two numbers whose product is the size: the factor and its quotient, or the nearest to a square within it."""
    if factor > 0 and size % factor == 0:
        return factor, size // factor
    limit = size if factor == -1 else factor
    small = max(n for n in range(1, int(size**0.5) + 1) if size % n == 0 and (n <= limit or n == 1))
    return small, size // small


def shapes(target: str, config: EncoderConfig, factor: int) -> tuple[Sizes, Sizes]:
    """A's and B's shapes [in, out]."""
    (in_1, in_2), (out_1, out_2) = (divided(size, factor) for size in sizes(target, config))
    return (in_1, out_1), (in_2, out_2)


def ranks(target: str, config: EncoderConfig, r: int, factor: int, both: bool) -> Sizes:
    """The ranks of A and B, 0 for a full one."""
    a, b = shapes(target, config, factor)
    return (r if both and r < max(a) / 2 else 0), (r if r < max(b) / 2 else 0)


def read(fields: Fields, targets: Targets, config: EncoderConfig) -> tuple[KronA, list[Slot]]:
    """The method and where its leaves lie."""
    r, alpha = fields.whole("r"), fields.number("alpha")
    pattern, alphas = fields.table("rank_pattern", 1), fields.table("alpha_pattern", 0)
    both, factor = fields.flag("decompose_both"), fields.whole("decompose_factor", -1, default=-1)
    fields.ignore("rank_dropout", "module_dropout", "rank_dropout_scale", "init_weights", "use_effective_conv2d")
    rank = {name: int(targets.by_pattern(pattern, name, r)) for name in targets.names}
    scale = {name: targets.by_pattern(alphas, name, alpha) / rank[name] for name in targets.names}
    shape, widest = [], []
    for site, names in targets.by_site.items():
        kinds = [ranks(site, config, rank[name], factor, both) for name in names.values() if name]
        if len({(a > 0, b > 0) for a, b in kinds}) > 1:
            raise fields.refuse(
                "rank_pattern", pattern, f"ranks with which all layers of {site} have factors of one kind"
            )
        shape += shapes(site, config, factor)[0]
        widest += map(max, zip(*kinds, strict=True))
    uniform, scales = scales_of(targets, scale)
    method = KronA(
        targets.sites,
        tuple(shape),
        float(uniform),
        tuple(widest) if any(widest) else (),
        scales=scales,
        layers=targets.layers,
    )
    return method, slots(method, targets.by_site, rank, config)


def slots(
    method: KronA, by_site: Mapping[Site, Mapping[int, str]], rank: Mapping[str, int], config: EncoderConfig
) -> list[Slot]:
    """Both factors of every target. The file has their transposes, so that a product's parts change places."""
    slots_ = []
    for site, names in by_site.items():
        a, full = method.shape_of(site), sizes(site, config)
        factors = (("kron_a", "lokr_w1", a), ("kron_b", "lokr_w2", (full[0] // a[0], full[1] // a[1])))
        for (leaf, stored, (inputs, outputs)), width in zip(factors, method.ranks_of(site), strict=True):
            at = f"{path_of(site, method.name)}{leaf}"
            if width:
                left = pieces(names, f".{stored}_b", (inputs, rank), "transposed")
                right = pieces(names, f".{stored}_a", (rank, outputs), "transposed")
                slots_.append(Slot(f"{at}_1", left, shape=(inputs, width)))
                slots_.append(Slot(f"{at}_2", right, shape=(width, outputs)))
            else:
                slots_.append(Slot(at, pieces(names, f".{stored}", (inputs, outputs), "transposed")))
    return slots_


def write(method: KronA, leaves: Mapping[str, Any], config: EncoderConfig) -> tuple[dict[str, Any], list[Slot]]:
    """The description, and where the leaves lie.

    Raises:
      ValueError: no ranks and divisor give these factors.
    """
    rank, factor, both = _rule(method, config)
    by_site, by_module, scale = present(method, leaves, config), {}, {}
    for site, names in by_site.items():
        scales = np.broadcast_to(method.scale_of(site), (len(names),))
        widths = [_used_rank(method, site, layer, leaves) or rank[site] for layer in names]
        widths = widths if max(widths) == rank[site] else [rank[site]] * len(names)
        for name, s, width in zip(names.values(), scales, widths, strict=True):
            if name:
                by_module[name], scale[name] = width, float(s)
    alpha = {name: numerator(scale[name], r) for name, r in by_module.items()}
    r, common = (max(value, key=value.count) for value in (list(by_module.values()), list(alpha.values())))
    return {
        "peft_type": "LOKR",
        "r": r,
        "alpha": common,
        "rank_pattern": {name: value for name, value in by_module.items() if value != r},
        "alpha_pattern": {name: value for name, value in alpha.items() if value != common},
        "decompose_factor": factor,
        "decompose_both": both,
        "target_modules": target_modules(by_site, config),
    }, slots(method, by_site, by_module, config)


def _used_rank(method: KronA, site: Site, layer: int, leaves: Mapping[str, Any]) -> int:
    """The rank that a layer uses, 0 if its factors are full: what is all zero at the end is padding."""
    at, ranks = path_of(site, method.name).format(i=layer), [0]
    for name, rank in zip(("kron_a", "kron_b"), method.ranks_of(site), strict=True):
        if rank:
            left, right = (np.asarray(leaves[f"{at}{name}_{number}"]) for number in (1, 2))
            ranks.append(used(left.T, right) or rank)
    return max(ranks)


def _rule(method: KronA, config: EncoderConfig) -> tuple[dict[Site, int], int, bool]:
    """The rank of each target, the divisor and `decompose_both` that give a method's factors."""
    largest = max(config.hidden_size, config.intermediate_size)
    targets = list(map(Site, method.targets))
    rank = {target: max(method.ranks_of(target)) or largest for target in targets}
    for factor in (-1, *range(1, largest + 1)):
        if any(shapes(target, config, factor)[0] != method.shape_of(target) for target in targets):
            continue
        for both in (False, True):
            if all(ranks(target, config, rank[target], factor, both) == method.ranks_of(target) for target in targets):
                return rank, factor, both
    raise ValueError(
        f"method.a_shape is {method.a_shape} and method.ranks {method.ranks}; accepted for peft's LoKr: what one of "
        "its ranks and divisors (decompose_factor) gives"
    )
