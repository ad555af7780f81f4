"""OFT as peft has it."""

from collections.abc import Mapping
from typing import Any

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.interop.fields import Fields
from adakron_jax.interop.peft.targets import Targets, check_scales, present, target_modules
from adakron_jax.interop.slots import Slot, pieces
from adakron_jax.methods import OFT
from adakron_jax.methods.updates.lora import sizes
from adakron_jax.splice import Site, path_of


def read(fields: Fields, targets: Targets, config: EncoderConfig) -> tuple[OFT, list[Slot]]:
    blocks, size = fields.whole("r", 0), fields.whole("oft_block_size", 0)
    if (blocks > 0) == (size > 0):
        raise fields.refuse("r and oft_block_size", (blocks, size), "one of them above 0")
    series, terms = fields.flag("use_cayley_neumann", True), fields.whole("num_cayley_neumann_terms", default=5)
    fields.must(bias="none", fan_in_fan_out=False, coft=False, block_share=False)
    fields.ignore("eps", "module_dropout", "init_weights")
    inputs = {sizes(site, config)[0] for site in targets.by_site}
    widths = {_divisor(n, size) if size else n // _divisor(n, blocks) for n in inputs}
    if len(widths) > 1:
        raise fields.refuse("r and oft_block_size", (blocks, size), "blocks of one size in all modules")
    method = OFT(targets.sites, widths.pop(), "neumann" if series else "exact", terms, layers=targets.layers)
    return method, oft_slots(method, targets.by_site, config)


def _divisor(size: int, near: int) -> int:
    """What the program takes in place of a number that does not divide a size: the nearest that does."""
    return min((n for n in range(1, size + 1) if size % n == 0), key=lambda n: abs(n - near))


def write(method: OFT, leaves: Mapping[str, Any], config: EncoderConfig) -> tuple[dict[str, Any], list[Slot]]:
    check_scales(method, "OFT")
    by_site = present(method, leaves, config)
    return {
        "peft_type": "OFT",
        "r": 0,
        "oft_block_size": method.block_size,
        "use_cayley_neumann": method.cayley == "neumann",
        "num_cayley_neumann_terms": method.neumann_terms,
        "target_modules": target_modules(by_site, config),
        "bias": "none",
    }, oft_slots(method, by_site, config)


def oft_slots(method: OFT, by_site: Mapping[Site, Mapping[int, str]], config: EncoderConfig) -> list[Slot]:
    slots, b = [], method.block_size
    for site, names in by_site.items():
        shape = (sizes(site, config)[0] // b, b * (b - 1) // 2)
        slots.append(Slot(f"{path_of(site, method.name)}rotation", pieces(names, ".oft_R.weight", shape)))
    return slots
