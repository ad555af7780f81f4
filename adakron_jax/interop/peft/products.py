"""HiRA and MiSS as peft has them."""

from collections.abc import Mapping
from typing import Any

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.interop.fields import Fields
from adakron_jax.interop.peft.targets import Targets, check_scales, present, target_modules
from adakron_jax.interop.peft.updates import factor_slots, ranks_in_use
from adakron_jax.interop.slots import Slot, pieces
from adakron_jax.methods import HiRA, MiSS
from adakron_jax.methods.updates.lora import sizes
from adakron_jax.splice import Site, path_of

FACTORS = {"hira_a": "hira_A", "hira_b": "hira_B"}
# What peft says of our forms.
FORMS = {True: "plain", False: "plain", "mini": "mini", "bat": "bat"}


def read_hira(fields: Fields, targets: Targets, config: EncoderConfig) -> tuple[HiRA, list[Slot]]:
    r, pattern = fields.whole("r"), fields.table("rank_pattern", 1)
    fields.must(fan_in_fan_out=False)
    fields.ignore("hira_dropout", "init_weights")
    rank = {name: int(targets.by_pattern(pattern, name, r)) for name in targets.names}
    method = HiRA(targets.sites, max(rank.values()), layers=targets.layers)
    return method, factor_slots(method, targets.by_site, rank, config, FACTORS)


def write_hira(method: HiRA, leaves: Mapping[str, Any], config: EncoderConfig) -> tuple[dict[str, Any], list[Slot]]:
    check_scales(method, "HiRA")
    by_site = present(method, leaves, config)
    rank = ranks_in_use(method, by_site, leaves, ("hira_a", "hira_b"))
    return {
        "peft_type": "HIRA",
        "r": method.r,
        "rank_pattern": {name: value for name, value in rank.items() if value != method.r},
        "target_modules": target_modules(by_site, config),
        "hira_dropout": 0.0,
    }, factor_slots(method, by_site, rank, config, FACTORS)


def read_miss(fields: Fields, targets: Targets, config: EncoderConfig) -> tuple[MiSS, list[Slot]]:
    r, mini_r = fields.whole("r"), fields.whole("mini_r", default=1)
    form = fields.any_of("init_weights", FORMS, default=True)
    fields.must(bias="none")
    fields.ignore("miss_dropout")
    method = MiSS(targets.sites, r, form, mini_r if form == "mini" else 1, layers=targets.layers)
    return method, miss_slots(method, targets.by_site, config)


def write_miss(method: MiSS, leaves: Mapping[str, Any], config: EncoderConfig) -> tuple[dict[str, Any], list[Slot]]:
    check_scales(method, "MiSS")
    by_site = present(method, leaves, config)
    return {
        "peft_type": "MISS",
        "r": method.r,
        "mini_r": method.mini_r,
        "init_weights": next(said for said, form in FORMS.items() if form == method.form),
        "target_modules": target_modules(by_site, config),
        "miss_dropout": 0.0,
        "bias": "none",
    }, miss_slots(method, by_site, config)


def miss_slots(method: MiSS, by_site: Mapping[Site, Mapping[int, str]], config: EncoderConfig) -> list[Slot]:
    slots = []
    for site, names in by_site.items():
        method.module(site, (of_site := sizes(site, config)), None)  # refuses what does not divide them
        slots.append(Slot(f"{path_of(site, method.name)}shards", pieces(names, ".miss_block", method.shape(of_site))))
    return slots
