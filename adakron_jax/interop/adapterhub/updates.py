"""LoRA and (IA)³ as AdapterHub has them, which calls both LoRA."""

from collections.abc import Collection, Mapping
from typing import Any

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.layers import layers_without
from adakron_jax.interop.fields import Fields
from adakron_jax.interop.heads import modules
from adakron_jax.interop.slots import Piece, Slot, numerator, of_each
from adakron_jax.methods import IA3, LoRA, UniPELT
from adakron_jax.methods.lora import sizes
from adakron_jax.splice import Method, Site, path_of

_MATRICES = {"q": Site.QUERY, "k": Site.KEY, "v": Site.VALUE}


def read_lora(fields: Fields, config: EncoderConfig) -> LoRA | IA3:
    scaling = fields.any_of("composition_mode", {"add": False, "scale": True})
    targets, missing = read_targets(fields, config)
    r, alpha = fields.whole("r"), fields.number("alpha")
    layers = layers_without(missing, config.num_layers)
    if scaling:
        if (r, alpha) != (1, 1):
            raise fields.refuse("r and alpha", (r, alpha), "1 and 1, with the composition mode scale")
        return IA3(targets, layers=layers)
    return LoRA(targets, r=r, alpha=alpha, layers=layers)


def read_targets(fields: Fields, config: EncoderConfig) -> tuple[tuple[str, ...], list[int]]:
    """The targets of a LoRA or (IA)³, and the layers without."""
    fields.must(use_dora=False, vera_d=None, vera_b=None)
    fields.ignore("dropout", "init_weights", "init_weights_seed", "dtype")
    matrices = fields.texts("attn_matrices")
    if unknown := set(matrices) - _MATRICES.keys():
        raise fields.refuse("attn_matrices", sorted(unknown), ", ".join(_MATRICES))
    places = [site for key, site in _MATRICES.items() if key in matrices and fields.left.get("selfattn_lora", True)]
    fields.flag("selfattn_lora", default=True)
    places += [Site.FFN_INNER] * fields.flag("intermediate_lora") + [Site.FFN_DENSE] * fields.flag("output_lora")
    return tuple(site.value for site in places), left_out(fields, config)


def left_out(fields: Fields, config: EncoderConfig) -> list[int]:
    """The layers without an adapter; ValueError if that is all of them."""
    missing = sorted(layer for layer in set(fields.wholes("leave_out")) if layer < config.num_layers)
    if len(missing) == config.num_layers:
        raise fields.refuse("leave_out", missing, "an adapter somewhere")
    return missing


def missing_of(method: Method, config: EncoderConfig) -> list[int]:
    """The layers that a method is not in."""
    return sorted(set(range(config.num_layers)) - set(method.layer_numbers(config)))


def present(
    method: LoRA | IA3 | UniPELT, config: EncoderConfig, missing: Collection[int] = ()
) -> dict[Site, dict[int, str]]:
    """Site -> layer of the method -> name of its module, "" in the `missing` ones."""
    names = modules(config)
    return {
        site: {i: "" if i in missing else names[site][i] for i in method.layer_numbers(config)}
        for site in map(writable, method.targets)
    }


def lora_slots(
    method: LoRA | IA3 | UniPELT, name: str, by_site: Mapping[Site, Mapping[int, str]], config: EncoderConfig
) -> list[Slot]:
    """Of LoRA, also UniPELT's with its gates, and of (IA)³."""
    slots = []
    for site, modules_ in by_site.items():
        inputs, outputs = sizes(site, config)
        names = {layer: module and f"{module}.loras.{name}" for layer, module in modules_.items()}
        at = path_of(site, method.name)
        if isinstance(method, IA3):
            vector = of_each(names, lambda n, size=outputs: Piece(f"{n}.lora_B", (size,), "column"))
            slots.append(Slot(f"{at}{method.leaf(site)}", vector, fill=1.0))
            continue
        r = method.lora_r if isinstance(method, UniPELT) else method.r
        a = of_each(names, lambda n, size=inputs, r=r: Piece(f"{n}.lora_A", (size, r), "transposed"))
        b = of_each(names, lambda n, size=outputs, r=r: Piece(f"{n}.lora_B", (r, size), "transposed"))
        slots += [Slot(f"{at}lora_a", a), Slot(f"{at}lora_b", b)]
        if isinstance(method, UniPELT):
            slots += gate_slots(at, {layer: n and f"{n}.gate" for layer, n in names.items()}, inputs)
    return slots


def gate_slots(at: str, names: Mapping[int, str], inputs: int) -> list[Slot]:
    return [
        Slot(f"{at}gate/kernel", of_each(names, lambda n: Piece(f"{n}.weight", (inputs, 1), "transposed"))),
        Slot(f"{at}gate/bias", of_each(names, lambda n: Piece(f"{n}.bias", (1,)))),
    ]


def writable(target: str) -> Site:
    if target not in (accepted := (*_MATRICES.values(), Site.FFN_INNER, Site.FFN_DENSE)):
        raise ValueError(f"method.targets has {target!r}; accepted for AdapterHub: {', '.join(accepted)}")
    return Site(target)


def describe_lora(method: LoRA, config: EncoderConfig) -> dict[str, Any]:
    scales, missing = set(method.scales or (method.default_scale,)), missing_of(method, config)
    if len(scales) > 1:
        raise ValueError(
            f"method.scales is {method.scales}; accepted for AdapterHub's LoRA: one scale; or export --to peft"
        )
    alpha = numerator(scales.pop(), method.r)
    return described([writable(target) for target in method.targets], missing, method.r, alpha, "add", "lora")


def described(
    targets: Any, missing: list[int], r: int, alpha: int | float, mode: str, init: str, gated: bool = False
) -> dict[str, Any]:
    return {
        "architecture": "lora",
        "attn_matrices": [key for key, site in _MATRICES.items() if site in targets],
        "selfattn_lora": True,
        "intermediate_lora": Site.FFN_INNER in targets,
        "output_lora": Site.FFN_DENSE in targets,
        "leave_out": missing,
        "r": r,
        "alpha": alpha,
        "composition_mode": mode,
        "init_weights": init,
        "use_gating": gated,
        "use_dora": False,
        "dropout": 0.0,
    }


def describe_ia3(method: IA3, config: EncoderConfig) -> dict[str, Any]:
    missing = missing_of(method, config)
    return described([writable(target) for target in method.targets], missing, r=1, alpha=1, mode="scale", init="ia3")
