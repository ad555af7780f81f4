"""AdaKron and AdaMix in the form of their authors' code: the state of the whole classifier, here as safetensors.

    {prefix}encoder.layer.{i}.output.ExpertSoup.MoA_A1.deepspeed_experts.0.{weight, bias}    the factor of width r/a
    ...                                         MoA_A2                                        the factor of width a
    ...                                         MoA_B                                         the up-projection

AdaMix has one down-projection, MoA_A, with a tensor per expert; every projection also has `expert_score_weight`, zero.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from adakron_jax.adapter import Card
from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.layers import ALL_LAYERS
from adakron_jax.encoders import pretrained
from adakron_jax.interop.heads import Base, Imported, check_native_head, modules, native_head, outputs_of, unwrapped
from adakron_jax.interop.tensor_table import Entry, Leaves, dense, names_in, read_leaves, write_tensors
from adakron_jax.methods import AdaKron, AdaMix
from adakron_jax.splice import Site, path_of, require

WEIGHTS, PICKLED = "model.safetensors", "pytorch_model.bin"
MARK = ".output.ExpertSoup.MoA_"
METHODS = {AdaKron, AdaMix}
_EXPERT = "deepspeed_experts"


def read(folder: Path, base: Base) -> Imported:
    """Reads a folder with `model.safetensors`, which may hold the encoder too; that must then be the base's.

    Raises:
      ValueError: the file is missing or damaged, or it does not fit the base.
    """
    path, config = folder / WEIGHTS, base.config
    tensors = unwrapped(folder, WEIGHTS, PICKLED)
    experts = {name: tensor for name, tensor in tensors.items() if MARK in name and not name.endswith("score_weight")}
    method = _method(experts, config, str(path))
    head = names_in(native_head(config, 1))
    rest = {name: tensor for name, tensor in tensors.items() if name not in head and MARK not in name}
    outputs = outputs_of(tensors, config, str(path))
    table = [*expert_table(method, config), *native_head(config, outputs)]
    try:
        if rest and pretrained.fingerprint(pretrained.from_checkpoint(rest, config)) != base.fingerprint:
            raise ValueError("its encoder differs from the base; accepted: the same values, or no encoder")
        leaves = read_leaves(table, experts | {name: tensors[name] for name in head if name in tensors})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if isinstance(method, AdaMix):
        for path, experts_of in _mixed(method, config).items():
            leaves[path] = np.stack([leaves.pop(expert) for expert in experts_of])
    return Imported(method, leaves, base.problem(outputs))


def _method(tensors: Leaves, config: EncoderConfig, where: str) -> AdaKron | AdaMix:
    """Infers the method from the tensors of the first layer."""
    root = f"{_roots(config)[0]}.MoA_"
    widths = {
        name.removeprefix(root).removesuffix(".weight"): len(tensor)
        for name, tensor in tensors.items()
        if name.startswith(root) and name.endswith(".weight") and tensor.ndim == 2
    }
    if {f"A1.{_EXPERT}.0", f"A2.{_EXPERT}.0"} <= widths.keys():
        return AdaKron((widths[f"A1.{_EXPERT}.0"], widths[f"A2.{_EXPERT}.0"]))
    experts = sum(name.startswith(f"A.{_EXPERT}.") for name in widths)
    if experts > 1 and f"A.{_EXPERT}.0" in widths:
        return AdaMix(experts, r=widths[f"A.{_EXPERT}.0"])
    raise ValueError(f"{where}: no {root}A1 and A2 (AdaKron), and no experts of {root}A (AdaMix)")


def _roots(config: EncoderConfig) -> dict[int, str]:
    names = modules(config)[Site.FFN_DENSE]
    return {layer: dense.removesuffix("dense") + "ExpertSoup" for layer, dense in enumerate(names)}


def _mixed(method: AdaMix, config: EncoderConfig) -> dict[str, list[str]]:
    """Maps the path of each leaf that holds experts to its experts' leaves in the table."""
    at = f"{path_of(Site.FFN_DENSE, method.name)}down"
    return {
        f"{at}/{leaf}".format(i=i): [f"{at}#{n}/{leaf}".format(i=i) for n in range(method.experts)]
        for i in range(config.num_layers)
        for leaf in ("kernel", "bias")
    }


def expert_table(method: AdaKron | AdaMix, config: EncoderConfig) -> list[Entry]:
    """Returns the places of the projections; an expert of AdaMix is called `down#` and its number."""
    d, at = config.hidden_size, path_of(Site.FFN_DENSE, method.name)
    if isinstance(method, AdaKron):
        first, second = method.factors
        places, inner = [("down_1", "A1", 0, first), ("down_2", "A2", 0, second)], first * second
    else:
        places, inner = [(f"down#{n}", "A", n, method.r) for n in range(method.experts)], method.r
    denses = [(leaf, f"{part}.{_EXPERT}.{n}", (d, width)) for leaf, part, n, width in places]
    return [
        entry
        for leaf, stored, sizes in [*denses, ("up", f"B.{_EXPERT}.0", (inner, d))]
        for i, root in _roots(config).items()
        for entry in dense(f"{at}{leaf}".format(i=i), f"{root}.MoA_{stored}", sizes)
    ]


def write(card: Card, leaves: Leaves) -> dict[str, bytes]:
    """Returns the file, without the encoder.

    Raises:
      ValueError: the authors' code has no such method, or not in this form.
    """
    check_native_head(card, "a classifier of the authors' code")
    require(card.problem.reads == "example", "problem", card.problem.name, "one with logits per example")
    method, config, leaves = card.method, card.encoder, dict(leaves)
    require(method.layers == ALL_LAYERS, "layers", method.layers, f"{ALL_LAYERS}, for the authors' code")
    valid = isinstance(method, AdaMix) or (
        isinstance(method, AdaKron) and len(method.factors) == 2 and method.place == "sequential"
    )
    if not valid:
        raise ValueError(
            f"method is {method}; accepted for the authors' code: adakron of two factors in its place, adamix"
        )
    assert isinstance(method, AdaKron | AdaMix)
    if isinstance(method, AdaMix):
        for path, experts in _mixed(method, config).items():
            leaves |= dict(zip(experts, np.asarray(leaves[path]), strict=True))
    tensors = write_tensors([*expert_table(method, config), *native_head(config, card.problem.outputs)], leaves)
    for name in [name for name in tensors if name.endswith(f".{_EXPERT}.0.weight")]:
        part = name.removesuffix(f"{_EXPERT}.0.weight")
        count = sum(other.startswith(f"{part}{_EXPERT}.") and other.endswith(".weight") for other in tensors)
        tensors[f"{part}expert_score_weight"] = np.zeros(count, np.float32)
    return {WEIGHTS: save(tensors, metadata={"format": "pt"})}


def is_authors(names: Iterable[str]) -> bool:
    """Returns whether these tensors' names are of the authors' code."""
    return any(MARK in name for name in names)
