"""LoRA and (IA)³ as AdapterHub has them, which calls both LoRA."""

from collections.abc import Sequence
from typing import Any

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.layers import layers_without
from adakron_jax.interop.fields import Fields
from adakron_jax.interop.heads import modules
from adakron_jax.interop.slots import Slot, numerator, pieces
from adakron_jax.methods import IA3, LoRA
from adakron_jax.methods.updates.lora import sizes
from adakron_jax.splice import Method, Site, path_of

_MATRICES = {"q": Site.QUERY, "k": Site.KEY, "v": Site.VALUE}
_DENSES = {"intermediate_lora": Site.FFN_INNER, "output_lora": Site.FFN_DENSE}


def read_lora(fields: Fields, config: EncoderConfig) -> LoRA | IA3:
    scaling = fields.any_of("composition_mode", {"add": False, "scale": True})
    fields.must(use_dora=False, vera_d=None, vera_b=None)
    fields.ignore("dropout", "init_weights", "init_weights_seed", "dtype")
    matrices = fields.texts("attn_matrices")
    if unknown := set(matrices) - _MATRICES.keys():
        raise fields.refuse("attn_matrices", sorted(unknown), ", ".join(_MATRICES))
    in_attention = fields.flag("selfattn_lora", default=True)
    sites = [site for key, site in _MATRICES.items() if key in matrices and in_attention]
    targets = tuple(site.value for site in (*sites, *(site for key, site in _DENSES.items() if fields.flag(key))))
    r, alpha = fields.whole("r"), fields.number("alpha")
    layers = layers_without(left_out(fields, config), config.num_layers)
    if not scaling:
        return LoRA(targets, r=r, alpha=alpha, layers=layers)
    if (r, alpha) != (1, 1):
        raise fields.refuse("r and alpha", (r, alpha), "1 and 1, with the composition mode scale")
    return IA3(targets, layers=layers)


def describe_lora(method: LoRA | IA3, config: EncoderConfig) -> dict[str, Any]:
    """The description, of which `read_lora` makes the same."""
    sites = [_writable(target) for target in method.targets]
    r, alpha, mode, init = 1, 1, "scale", "ia3"
    if isinstance(method, LoRA):
        if len(scales := set(method.scales or (method.default_scale,))) > 1:
            raise ValueError(
                f"method.scales is {method.scales}; accepted for AdapterHub's LoRA: one scale; or export --to peft"
            )
        r, alpha, mode, init = method.r, numerator(scales.pop(), method.r), "add", "lora"
    return {
        "architecture": "lora",
        "attn_matrices": [key for key, site in _MATRICES.items() if site in sites],
        "selfattn_lora": True,
        **{key: site in sites for key, site in _DENSES.items()},
        "leave_out": missing_of(method, config),
        "r": r,
        "alpha": alpha,
        "composition_mode": mode,
        "init_weights": init,
        "use_gating": False,
        "use_dora": False,
        "dropout": 0.0,
    }


def left_out(fields: Fields, config: EncoderConfig) -> list[int]:
    """The layers without an adapter; ValueError if that is all of them."""
    missing = sorted(layer for layer in set(fields.wholes("leave_out")) if layer < config.num_layers)
    if len(missing) == config.num_layers:
        raise fields.refuse("leave_out", missing, "an adapter somewhere")
    return missing


def missing_of(method: Method, config: EncoderConfig) -> list[int]:
    """The layers that a method is not in."""
    return sorted(set(range(config.num_layers)) - set(method.layer_numbers(config)))


def lora_slots(method: LoRA | IA3, name: str, config: EncoderConfig) -> list[Slot]:
    """Of LoRA and of (IA)³."""
    slots, published = [], modules(config)
    for site in map(_writable, method.targets):
        (inputs, outputs), at = sizes(site, config), path_of(site, method.name)
        chosen = {i: f"{published[site][i]}.loras.{name}" for i in method.layer_numbers(config)}
        if isinstance(method, IA3):
            slots.append(Slot(at + method.leaf(site), pieces(chosen, ".lora_B", (outputs,), "column"), fill=1.0))
        else:
            a, b = ((inputs, method.r), (method.r, outputs))
            slots.append(Slot(f"{at}lora_a", pieces(chosen, ".lora_A", a, "transposed")))
            slots.append(Slot(f"{at}lora_b", pieces(chosen, ".lora_B", b, "transposed")))
    return slots


def _writable(target: str) -> Site:
    accepted: Sequence[Site] = (*_MATRICES.values(), *_DENSES.values())
    if target not in accepted:
        raise ValueError(f"method.targets has {target!r}; accepted for AdapterHub: {', '.join(accepted)}")
    return Site(target)
