"""AdapterHub's forms of LoRA and (IA)³, which it both calls LoRA, of prefixes and of LoReFT.

Prefixes are trained directly (`flat`), or through an MLP that all layers share. LoReFT has two units in every layer, 0
for the first tokens and 1 for the last. AdapterHub's files also hold a unit for no tokens, which is never used; it is
neither read nor written here.
"""

import numpy as np

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.layers import layers_named, layers_without
from adakron_jax.architectures.stored import Stored
from adakron_jax.interop.fields import Fields, Said, Setting, written
from adakron_jax.interop.heads import modules
from adakron_jax.interop.peft.prefixes import prompts
from adakron_jax.interop.tensor_table import Entry, Leaves, dense, in_layers, numerator
from adakron_jax.methods import IA3, LoRA, LoReFT, Prefix
from adakron_jax.methods.updates.lora import sizes
from adakron_jax.splice import Method, Site, path_of, path_of_shared

_MATRICES = {"q": Site.QUERY, "k": Site.KEY, "v": Site.VALUE}
_DENSES = {"intermediate_lora": Site.FFN_INNER, "output_lora": Site.FFN_DENSE}
_LORA_FIXED: Said = {"use_gating": False, "use_dora": False}
_PREFIX = {
    "prefix_length": Setting("length"),
    "flat": Setting("mlp", {False: True, True: False}, default=False),
    "bottleneck_size": Setting("mid", default=512),
}
_UNITS = ("prefix", "suffix")  # in order of their numbers
_REFT = {"r": Setting("r")} | {f"{unit}_positions": Setting(f"{unit}_positions", least=0) for unit in _UNITS}
_REFT_FIXED: Said = {"output_reft": True, "orthogonality": True, "tied_weights": False, "non_linearity": None}


def read_lora(fields: Fields, name: str, config: EncoderConfig) -> tuple[LoRA | IA3, list[Entry]]:
    scaling = fields.any_of("composition_mode", {"add": False, "scale": True})
    fields.must(**_LORA_FIXED, vera_d=None, vera_b=None)
    fields.ignore("dropout", "init_weights", "init_weights_seed", "dtype")
    matrices = fields.texts("attn_matrices")
    if unknown := set(matrices) - _MATRICES.keys():
        raise fields.refuse("attn_matrices", sorted(unknown), ", ".join(_MATRICES))
    in_attention = fields.flag("selfattn_lora", default=True)
    sites = [site for key, site in _MATRICES.items() if key in matrices and in_attention]
    targets = tuple(site.value for site in (*sites, *(site for key, site in _DENSES.items() if fields.flag(key))))
    r, alpha, layers = fields.whole("r"), fields.number("alpha"), read_layers(fields, config)
    if scaling and (r, alpha) != (1, 1):
        raise fields.refuse("r and alpha", (r, alpha), "1 and 1, with the composition mode scale")
    method = IA3(targets, layers=layers) if scaling else LoRA(targets, r=r, alpha=alpha, layers=layers)
    return method, lora_table(method, name, config)


def write_lora(method: LoRA | IA3, leaves: Leaves, name: str, config: EncoderConfig) -> tuple[Said, list[Entry]]:
    accepted = (*_MATRICES.values(), *_DENSES.values())
    if others := [target for target in method.targets if target not in accepted]:
        raise ValueError(f"method.targets has {others[0]!r}; accepted for AdapterHub: {', '.join(accepted)}")
    r, alpha, mode, init = 1, 1, "scale", "ia3"
    if isinstance(method, LoRA):
        if len(scales := set(method.scales or (method.default_scale,))) > 1:
            raise ValueError(
                f"method.scales is {method.scales}; accepted for AdapterHub's LoRA: one scale; or export --to peft"
            )
        r, alpha, mode, init = method.r, numerator(scales.pop(), method.r), "add", "lora"
    return {
        "architecture": "lora",
        "attn_matrices": [key for key, site in _MATRICES.items() if site in method.targets],
        "selfattn_lora": True,
        **{key: site in method.targets for key, site in _DENSES.items()},
        "leave_out": left_out(method, config),
        "r": r,
        "alpha": alpha,
        "composition_mode": mode,
        "init_weights": init,
        **_LORA_FIXED,
        "dropout": 0.0,
    }, lora_table(method, name, config)


def read_layers(fields: Fields, config: EncoderConfig) -> str:
    """Returns a method's `layers`: all but those that are left out; ValueError if all are."""
    missing = sorted(layer for layer in set(fields.wholes("leave_out")) if layer < config.num_layers)
    if len(missing) == config.num_layers:
        raise fields.refuse("leave_out", missing, "an adapter somewhere")
    return layers_without(missing, config.num_layers)


def left_out(method: Method, config: EncoderConfig) -> list[int]:
    """Returns the layers that a method is not in."""
    return sorted(set(range(config.num_layers)) - set(method.layer_numbers(config)))


def lora_table(method: LoRA | IA3, name: str, config: EncoderConfig) -> list[Entry]:
    entries, published = [], modules(config)
    for site in map(Site, method.targets):
        (inputs, outputs), at = sizes(site, config), path_of(site, method.name)
        names = {i: f"{published[site][i]}.loras.{name}" for i in method.layer_numbers(config)}
        if isinstance(method, IA3):
            entries += in_layers(at + method.leaf(site), names, ".lora_B", (outputs,), "column")
        else:
            entries += in_layers(f"{at}lora_a", names, ".lora_A", (inputs, method.r), "transposed")
            entries += in_layers(f"{at}lora_b", names, ".lora_B", (method.r, outputs), "transposed")
    return entries


def read_prefix(fields: Fields, name: str, config: EncoderConfig) -> tuple[Prefix, list[Entry]]:
    fields.must(use_gating=False)
    if fields.left.get("flat"):
        fields.ignore("bottleneck_size", "non_linearity")
    fields.must(non_linearity="tanh")
    fields.ignore("shared_gating", "cross_prefix", "encoder_prefix", "dropout", "init_weights_seed")
    method = Prefix(**fields.settings(_PREFIX), layers=read_layers(fields, config))
    return method, prefix_table(method, name, config)


def write_prefix(method: Prefix, leaves: Leaves, name: str, config: EncoderConfig) -> tuple[Said, list[Entry]]:
    if method.shift_positions:
        raise ValueError(
            "method.shift_positions is True; accepted for AdapterHub, where real tokens begin at position 0: False"
        )
    return {
        "architecture": "prefix_tuning",
        **written(_PREFIX, method),
        "non_linearity": "tanh",
        "leave_out": left_out(method, config),
        "encoder_prefix": True,
        "cross_prefix": True,
        "use_gating": False,
        "shared_gating": True,
        "dropout": 0.0,
    }, prefix_table(method, name, config)


def prefix_table(method: Prefix, name: str, config: EncoderConfig) -> list[Entry]:
    d, width = config.hidden_size, 2 * len(method.layer_numbers(config)) * config.hidden_size
    at, root = path_of_shared(method.name), f"{config.architecture.prefix}prefix_tuning.prefix_tunings.{name}."
    mlp = f"{root}self_prefix.control_trans"
    if not method.mlp:
        return prompts(method, config, mlp, "flat")
    return [
        Entry(f"{at}embedding", Stored(f"{root}self_prefix.wte.weight", (method.length, d))),
        *dense(f"{at}mlp_1", f"{mlp}.0", (d, method.mid)),
        *dense(f"{at}mlp_2", f"{mlp}.2", (method.mid, width)),
    ]


def read_reft(fields: Fields, name: str, config: EncoderConfig) -> tuple[LoReFT, list[Entry]]:
    """Reads LoReFT. The description does not say whether the projection is subtracted; AdapterHub always does so."""
    fields.must(**_REFT_FIXED)
    fields.ignore("dropout", "dtype", "init_weights_seed")
    settings = fields.settings(_REFT)
    if fields.left.get("layers") == "all":
        fields.left["layers"] = list(range(config.num_layers))
    layers = [layer for layer in fields.wholes("layers") if layer < config.num_layers]
    if not layers or not any(settings[f"{unit}_positions"] for unit in _UNITS):
        raise fields.refuse("layers and positions", (layers, settings), "a unit somewhere")
    method = LoReFT(**settings, layers=layers_named(layers, config.num_layers))
    return method, reft_table(method, name, config)


def write_reft(method: LoReFT, leaves: Leaves, name: str, config: EncoderConfig) -> tuple[Said, list[Entry]]:
    layers = list(method.layer_numbers(config))
    said = {"architecture": "reft", "layers": layers, **written(_REFT, method), **_REFT_FIXED, "dropout": 0.0}
    return said, reft_table(method, name, config)


def reft_table(method: LoReFT, name: str, config: EncoderConfig) -> list[Entry]:
    entries, d, r, weight = [], config.hidden_size, method.r, ".projection.parametrizations.weight"
    names = {i: modules(config)[Site.FFN_DENSE][i].removesuffix("output.dense") for i in method.layer_numbers(config)}
    for number, unit in enumerate(_UNITS):
        at = f"{path_of(Site.LAYER_OUTPUT, method.name)}{unit}/"
        units = {i: f"{layer}reft_layer.refts.{name}.units.{number}" for i, layer in names.items()}
        if unit in method.positions:
            entries += in_layers(f"{at}source/kernel", units, ".learned_source.weight", (d, r), "transposed")
            entries += in_layers(f"{at}source/bias", units, ".learned_source.bias", (r,))
            entries += in_layers(f"{at}projection/original", units, f"{weight}.original", (d, r), "transposed")
            entries += in_layers(f"{at}projection/base", units, f"{weight}.0.base", (d, d))
    return entries


def without_unused(tensors: Leaves, method: Method) -> Leaves:
    """Returns the tensors; for LoReFT, only those of the units that change tokens.

    Raises:
      ValueError: weight decay moved numbers that AdapterHub cuts to whole ones and multiplies by.
    """
    if not isinstance(method, LoReFT):
        return tensors
    unused = [f".units.{number}." for number, unit in enumerate(_UNITS) if unit not in method.positions]
    used = {name: x for name, x in tensors.items() if not any(unit in name for unit in unused)}
    for name, tensor in used.items():
        if name.endswith(".original") and tensor.ndim == 2 and (np.diagonal(tensor) != -1).any():
            raise ValueError(f"{name} has other numbers than -1 on its diagonal; accepted: -1")
    return used


def with_signs(leaves: Leaves) -> Leaves:
    """Sets the factors that AdapterHub reads from vectors where ours has none, and which weight decay moves."""
    signed = {path: np.array(leaf) for path, leaf in leaves.items() if path.endswith("/projection/original")}
    for leaf in signed.values():
        np.fill_diagonal(leaf, -1)
    return leaves | signed
