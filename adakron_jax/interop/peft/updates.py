"""peft's forms of LoRA and its kin, and of (IA)³, which have only tensors of single modules."""

import dataclasses
from collections.abc import Mapping

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.interop.fields import Fields, Said, Setting
from adakron_jax.interop.peft.form import Ending, Form, Widths
from adakron_jax.interop.peft.targets import BySite, Targets, matcher, named_modules, patterned, scale_by_module
from adakron_jax.interop.tensor_table import Entry, Leaves, numerator
from adakron_jax.methods import C3A, IA3, OFT, DoRA, FourierFT, HiRA, LoRA, MiSS, PiSSA
from adakron_jax.methods.scaling import SCALED_INPUTS
from adakron_jax.methods.updates.lora import sizes
from adakron_jax.splice import Site


class LoRAForm(Form[LoRA]):
    """LoRA and its kin, where the scale is α/r or α/√r, and α and r may differ by module."""

    peft_type, methods = "LORA", (LoRA, DoRA, PiSSA)
    settings = {"r": Setting("r"), "use_rslora": Setting("rank_stabilised", bool)}
    width = ("r", "rank_pattern")
    fixed = {"bias": "none"}
    inert = {"lora_dropout": 0.0}
    ignored = ("eva_config", "qalora_group_size", "megatron_core", "ensure_weight_tying")
    leaves = {
        "lora_a": Ending(".lora_A.weight", "transposed", 1),
        "lora_b": Ending(".lora_B.weight", "transposed", 0),
        "magnitude": Ending(".lora_magnitude_vector"),
    }

    def made(self, fields: Fields, targets: Targets, settings: Said, widths: Widths, config: EncoderConfig) -> LoRA:
        fields.must(fan_in_fan_out=False, lora_bias=False, use_qalora=False)
        # Other initial values than these are compensated in the base's weights, which are then not the published ones.
        starts = dict.fromkeys((True, False, "gaussian", "orthogonal", "eva"), LoRA) | {"pissa": PiSSA}
        kind = fields.any_of("init_lora_weights", starts, default=True)
        if fields.flag("use_dora"):
            if kind is PiSSA:
                raise fields.refuse("use_dora", True, "false, with init_lora_weights pissa")
            kind = DoRA
        if kind is not LoRA:
            targets.refuse_gaps(kind.__name__)
        if kind is PiSSA and len(set(widths.values())) > 1:
            raise fields.refuse("rank_pattern", sorted(set(widths.values())), "one rank, with init_lora_weights pissa")
        alphas = targets.by_pattern(fields.table("alpha_pattern", 0), fields.number("lora_alpha"))
        power = 0.5 if settings["rank_stabilised"] else 1
        uniform, scales = targets.scales({name: alphas[name] / widths[name] ** power for name in widths})
        alpha = float(numerator(uniform, settings["r"] ** power))
        settings |= {"targets": targets.sites, "layers": targets.layers}
        method = kind(alpha=alpha, scales=scales, **settings)
        if not scales and method.default_scale != uniform:
            everywhere = (uniform,) * (len(method.layer_numbers(config)) * len(targets.sites))
            method = kind(scales=everywhere, **settings)
        return method

    def table(self, method: LoRA, by_site: BySite, widths: Widths, config: EncoderConfig) -> list[Entry]:
        narrow = dataclasses.replace(method, r=1)  # since each module has its own width
        return super().table(narrow, by_site, widths, config)

    def widths(self, method: LoRA, by_site: BySite, leaves: Leaves, full: int, config: EncoderConfig) -> dict[str, int]:
        widths = super().widths(method, by_site, leaves, full, config)
        return dict.fromkeys(widths, full) if isinstance(method, PiSSA) else widths

    def said(self, method: LoRA, by_site: BySite, widths: Widths) -> Said:
        scale, power = scale_by_module(method, by_site), 0.5 if method.rank_stabilised else 1
        return patterned(
            "lora_alpha", "alpha_pattern", {name: numerator(scale[name], r**power) for name, r in widths.items()}
        ) | {
            "use_dora": isinstance(method, DoRA),
            "init_lora_weights": "pissa" if isinstance(method, PiSSA) else True,
        }


class HiRAForm(Form[HiRA]):
    peft_type, methods = "HIRA", (HiRA,)
    settings = {"r": Setting("r")}
    width = ("r", "rank_pattern")
    fixed = {"fan_in_fan_out": False}
    inert = {"hira_dropout": 0.0}
    ignored = ("init_weights",)
    leaves = {"hira_a": Ending(".hira_A", "transposed", 1), "hira_b": Ending(".hira_B", "transposed", 0)}


class MiSSForm(Form[MiSS]):
    peft_type, methods = "MISS", (MiSS,)
    settings = {
        "r": Setting("r"),
        "mini_r": Setting("mini_r", default=1),
        "init_weights": Setting("form", {True: "plain", False: "plain", "mini": "mini", "bat": "bat"}, default=True),
    }
    fixed = {"bias": "none"}
    inert = {"miss_dropout": 0.0}
    leaves = {"shards": Ending(".miss_block")}

    def made(self, fields: Fields, targets: Targets, settings: Said, widths: Widths, config: EncoderConfig) -> MiSS:
        if settings["form"] != "mini":  # only that form reads mini_r
            settings["mini_r"] = 1
        return super().made(fields, targets, settings, widths, config)


class FourierFTForm(Form[FourierFT]):
    """A module with fewer coefficients has the first ones of a longer list."""

    peft_type, methods = "FOURIERFT", (FourierFT,)
    settings = {
        "n_frequency": Setting("n_frequency"),
        "scaling": Setting("scaling", float),
        "random_loc_seed": Setting("seed", least=0),
    }
    width = ("n_frequency", "n_frequency_pattern")
    fixed = {"bias": "none", "fan_in_fan_out": False}
    ignored = ("init_weights",)
    leaves = {"spectrum": Ending(".fourierft_spectrum", width=0)}


class C3AForm(Form[C3A]):
    peft_type, methods = "C3A", (C3A,)
    settings = {"block_size": Setting("block_size")}
    width = ("block_size", "block_size_pattern")
    fixed = {"bias": "none"}
    ignored = ("init_weights",)
    leaves = {"circulant": Ending(".c3a_kernel", "transposed")}

    def made(self, fields: Fields, targets: Targets, settings: Said, widths: Widths, config: EncoderConfig) -> C3A:
        if len(set(widths.values())) > 1:
            raise fields.refuse("block_size_pattern", sorted(set(widths.values())), "one block size for all modules")
        return super().made(fields, targets, settings, widths, config)


class OFTForm(Form[OFT]):
    """peft states the size of the blocks or, as `r`, their number."""

    peft_type, methods = "OFT", (OFT,)
    settings = {
        "oft_block_size": Setting("block_size", least=0),
        "use_cayley_neumann": Setting("cayley", {True: "neumann", False: "exact"}, default=True),
        "num_cayley_neumann_terms": Setting("neumann_terms", default=5),
    }
    fixed = {"bias": "none", "fan_in_fan_out": False, "coft": False, "block_share": False}
    inert = {"r": 0}
    ignored = ("eps", "module_dropout", "init_weights")
    leaves = {"rotation": Ending(".oft_R.weight")}

    def made(self, fields: Fields, targets: Targets, settings: Said, widths: Widths, config: EncoderConfig) -> OFT:
        blocks, size = fields.whole("r", 0), settings["block_size"]
        if (blocks > 0) == (size > 0):
            raise fields.refuse("r and oft_block_size", (blocks, size), "one of them above 0")
        inputs = {sizes(site, config)[0] for site in targets.by_site}
        of_modules = {_divisor(n, size) if size else n // _divisor(n, blocks) for n in inputs}
        if len(of_modules) > 1:
            raise fields.refuse("r and oft_block_size", (blocks, size), "blocks of one size in all modules")
        settings["block_size"] = of_modules.pop()
        return super().made(fields, targets, settings, widths, config)


def _divisor(size: int, near: int) -> int:
    """Returns what peft uses in place of a number that does not divide a size: the nearest divisor."""
    return min((n for n in range(1, size + 1) if size % n == 0), key=lambda n: abs(n - near))


class IA3Form(Form[IA3]):
    """A dense layer whose input is scaled is named a second time."""

    peft_type, methods = "IA3", (IA3,)
    fixed = {"fan_in_fan_out": False}
    ignored = ("init_ia3_weights",)
    unused = 1.0

    def stored(self, method: IA3, site: Site) -> Mapping[str, Ending]:
        return {method.leaf(site): Ending(".ia3_l", "row" if site in SCALED_INPUTS else "column")}

    def made(self, fields: Fields, targets: Targets, settings: Said, widths: Widths, config: EncoderConfig) -> IA3:
        is_input = matcher(fields, "feedforward_modules")
        reading = {dense: site for site, dense in SCALED_INPUTS.items()}
        by_site = {}
        for site, names in targets.by_site.items():
            scaled = {reading.get(site) if is_input(name) else site for name in names.values() if name}
            if len(scaled) > 1 or None in scaled:
                first = next(filter(None, names.values()))
                accepted = f"all layers of {first} alike; of those before the last dense of a block, outputs"
                raise fields.refuse("feedforward_modules", "what scales inputs", accepted)
            by_site[scaled.pop()] = names
        targets.by_site = {site: by_site[site] for site in Site if site in by_site}
        return IA3(tuple(site.value for site in targets.by_site), layers=targets.layers)

    def said(self, method: IA3, by_site: BySite, widths: Widths) -> Said:
        modules = list(named_modules(by_site))
        of_inputs = {name for site, _, name in modules if site in SCALED_INPUTS}
        of_outputs = {name for site, _, name in modules if site not in SCALED_INPUTS}
        if both := of_outputs & of_inputs:
            raise ValueError(
                f"method.targets scales inputs and outputs of {min(both)}; accepted for peft's IA3: one of them"
            )
        return {"target_modules": sorted(of_outputs | of_inputs), "feedforward_modules": sorted(of_inputs)}
