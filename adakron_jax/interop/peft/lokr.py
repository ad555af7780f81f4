"""peft's LoKr: KronA whose factors' shapes and ranks follow from one rank and one divisor."""

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.interop.fields import Fields, Said, Setting
from adakron_jax.interop.peft.form import Ending, Form, Widths
from adakron_jax.interop.peft.targets import BySite, Targets, patterned, present, scale_by_module, target_modules
from adakron_jax.interop.tensor_table import Entry, Leaves, numerator, write_tensors
from adakron_jax.methods import KronA
from adakron_jax.methods.updates.lora import Sizes, sizes
from adakron_jax.splice import Site


def divided(size: int, factor: int) -> Sizes:
    """Returns two numbers with this product: the factor and its quotient, or the nearest to a square within it."""
    if factor > 0 and size % factor == 0:
        return factor, size // factor
    limit = size if factor == -1 else factor
    small = max(n for n in range(1, int(size**0.5) + 1) if size % n == 0 and (n <= limit or n == 1))
    return small, size // small


def shapes(target: str, config: EncoderConfig, factor: int) -> tuple[Sizes, Sizes]:
    """Returns the shapes [in, out] of A and B."""
    (in_1, in_2), (out_1, out_2) = (divided(size, factor) for size in sizes(target, config))
    return (in_1, out_1), (in_2, out_2)


def ranks(target: str, config: EncoderConfig, r: int, factor: int, both: bool) -> Sizes:
    """Returns the ranks of A and B, 0 for a full one."""
    a, b = shapes(target, config, factor)
    return (r if both and r < max(a) / 2 else 0), (r if r < max(b) / 2 else 0)


class LoKrForm(Form[KronA]):
    """The file holds both factors' transposes, so the parts of a product are in reverse order."""

    peft_type, methods = "LOKR", (KronA,)
    settings = {"r": Setting("r")}
    width = ("r", "rank_pattern")
    ignored = ("rank_dropout", "module_dropout", "rank_dropout_scale", "init_weights", "use_effective_conv2d")
    leaves = {
        f"{leaf}{part}": Ending(f"{name}{ending}", "transposed", width)
        for leaf, name in (("kron_a", ".lokr_w1"), ("kron_b", ".lokr_w2"))
        for part, ending, width in (("", "", None), ("_1", "_b", 1), ("_2", "_a", 0))
    }

    def table(self, method: KronA, by_site: BySite, widths: Widths, config: EncoderConfig) -> list[Entry]:
        entries = []
        for site, names in by_site.items():  # each site has its own largest rank
            of_site = {name: widths[name] for name in names.values() if name}
            entries += super().table(method, {site: names}, of_site, config)
        return entries

    def made(self, fields: Fields, targets: Targets, settings: Said, widths: Widths, config: EncoderConfig) -> KronA:
        alphas = targets.by_pattern(fields.table("alpha_pattern", 0), fields.number("alpha"))
        both, factor = fields.flag("decompose_both"), fields.whole("decompose_factor", -1, default=-1)
        shape, widest = [], []
        for site, names in targets.by_site.items():
            kinds = [ranks(site, config, widths[name], factor, both) for name in names.values() if name]
            if len({(a > 0, b > 0) for a, b in kinds}) > 1:
                accepted = f"ranks with which all layers of {site} have factors of one kind"
                raise fields.refuse("rank_pattern", sorted(set(widths.values())), accepted)
            shape += shapes(site, config, factor)[0]
            widest += map(max, zip(*kinds, strict=True))
        uniform, scales = targets.scales({name: alphas[name] / r for name, r in widths.items()})
        rank = tuple(widest) if any(widest) else ()
        return KronA(targets.sites, tuple(shape), float(uniform), rank, scales=scales, layers=targets.layers)

    def write(self, method: KronA, leaves: Leaves, config: EncoderConfig) -> tuple[Said, Leaves]:
        """Does the same as `Form.write`; ValueError if no ranks and divisor give these factors."""
        rank, factor, both = _rule(method, config)
        by_site, widths = present(method, leaves, config), {}
        for site, names in by_site.items():
            widths |= self.widths(method, {site: names}, leaves, rank[site], config)
        scale = scale_by_module(method, by_site)
        return {
            "peft_type": self.peft_type,
            **patterned(*self.width, widths),
            **patterned("alpha", "alpha_pattern", {name: numerator(scale[name], r) for name, r in widths.items()}),
            "decompose_factor": factor,
            "decompose_both": both,
            "target_modules": target_modules(by_site, config),
        }, write_tensors(self.table(method, by_site, widths, config), leaves)


def _rule(method: KronA, config: EncoderConfig) -> tuple[dict[Site, int], int, bool]:
    """Returns the rank of each target, the divisor and `decompose_both` that give a method's factors."""
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
