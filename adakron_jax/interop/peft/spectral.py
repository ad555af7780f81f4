"""FourierFT and C3A as peft has them: of every module one tensor."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.interop.fields import Fields
from adakron_jax.interop.peft.targets import Targets, check_scales, present, target_modules
from adakron_jax.interop.slots import Slot, pieces, used
from adakron_jax.methods import C3A, FourierFT
from adakron_jax.methods.updates.lora import sizes
from adakron_jax.splice import Site, path_of


def read_fourierft(fields: Fields, targets: Targets, config: EncoderConfig) -> tuple[FourierFT, list[Slot]]:
    count, scaling, seed = fields.whole("n_frequency"), fields.number("scaling"), fields.whole("random_loc_seed", 0)
    pattern = fields.table("n_frequency_pattern", 1)
    fields.must(bias="none", fan_in_fan_out=False)
    fields.ignore("init_weights")
    # Fewer coefficients are the first ones of more.
    counts = {name: int(targets.by_pattern(pattern, name, count)) for name in targets.names}
    method = FourierFT(targets.sites, max(counts.values()), scaling, seed, layers=targets.layers)
    return method, fourierft_slots(targets.by_site, counts)


def write_fourierft(
    method: FourierFT, leaves: Mapping[str, Any], config: EncoderConfig
) -> tuple[dict[str, Any], list[Slot]]:
    check_scales(method, "FourierFT")
    by_site, counts = present(method, leaves, config), {}
    for site, names in by_site.items():
        for layer, name in names.items():
            leaf = np.asarray(leaves[f"{path_of(site, method.name)}spectrum".format(i=layer)])
            counts |= {name: used(leaf) or method.n_frequency} if name else {}
    if max(counts.values()) < method.n_frequency:  # as no file would say how many ours has
        counts = dict.fromkeys(counts, method.n_frequency)
    return {
        "peft_type": "FOURIERFT",
        "n_frequency": method.n_frequency,
        "n_frequency_pattern": {name: count for name, count in counts.items() if count != method.n_frequency},
        "scaling": method.scaling,
        "random_loc_seed": method.seed,
        "target_modules": target_modules(by_site, config),
        "bias": "none",
    }, fourierft_slots(by_site, counts)


def fourierft_slots(by_site: Mapping[Site, Mapping[int, str]], counts: Mapping[str, int]) -> list[Slot]:
    widest = (max(counts.values()),)
    return [
        Slot(
            f"{path_of(site, FourierFT.name)}spectrum",
            pieces(names, ".fourierft_spectrum", (counts,)),
            shape=widest,
        )
        for site, names in by_site.items()
    ]


def read_c3a(fields: Fields, targets: Targets, config: EncoderConfig) -> tuple[C3A, list[Slot]]:
    size, pattern = fields.whole("block_size"), fields.table("block_size_pattern", 1)
    fields.must(bias="none")
    fields.ignore("init_weights")
    block_sizes = {int(targets.by_pattern(pattern, name, size)) for name in targets.names}
    if len(block_sizes) > 1:
        raise fields.refuse("block_size_pattern", pattern, "one block size for all modules")
    method = C3A(targets.sites, block_sizes.pop(), layers=targets.layers)
    return method, c3a_slots(method, targets.by_site, config)


def write_c3a(method: C3A, leaves: Mapping[str, Any], config: EncoderConfig) -> tuple[dict[str, Any], list[Slot]]:
    check_scales(method, "C3A")
    by_site = present(method, leaves, config)
    return {
        "peft_type": "C3A",
        "block_size": method.block_size,
        "target_modules": target_modules(by_site, config),
    }, c3a_slots(method, by_site, config)


def c3a_slots(method: C3A, by_site: Mapping[Site, Mapping[int, str]], config: EncoderConfig) -> list[Slot]:
    slots, b = [], method.block_size
    for site, names in by_site.items():
        method.module(site, (of_site := sizes(site, config)), None)  # refuses a size that does not divide them
        shape = (of_site[0] // b, of_site[1] // b, b)
        kernels = pieces(names, ".c3a_kernel", shape, "transposed")
        slots.append(Slot(f"{path_of(site, method.name)}circulant", kernels))
    return slots
