"""AdapterHub's bottlenecks: `seq_bn` (Pfeiffer), `double_seq_bn` (Houlsby), Compacter, Compacter++, and their kin."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.layers import layers_without
from adakron_jax.interop.adapterhub.updates import gate_slots
from adakron_jax.interop.fields import Fields
from adakron_jax.interop.heads import modules
from adakron_jax.interop.slots import Piece, Slot, of_each, used
from adakron_jax.methods import Compacter, CompacterPlusPlus, Houlsby, Pfeiffer
from adakron_jax.methods.bottleneck import PLACES
from adakron_jax.splice import Method, Site, path_of, path_of_shared

# AdapterHub's names of activations -> ours; the first of several is written.
ACTIVATIONS = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "swish": "silu",
    "silu": "silu",
    "tanh": "tanh",
}
_DENSES = {"attention": Site.ATTENTION_DENSE, "ffn": Site.FFN_DENSE}
AnyBottleneck = Pfeiffer | Houlsby | Compacter


@dataclasses.dataclass(frozen=True)
class Measured:
    """A bottleneck with its true width in every layer, 0 where there is none; the method's is the largest."""

    method: AnyBottleneck
    widths: tuple[int, ...]


def read(fields: Fields, config: EncoderConfig) -> Measured:
    """What a description says; the caller refuses what is left of it."""
    places = tuple(place for place, key in (("attention", "mh_adapter"), ("ffn", "output_adapter")) if fields.flag(key))
    normed, phm = fields.flag("original_ln_before"), fields.flag("phm_layer")
    fields.must(
        original_ln_after=True,
        ln_before=False,
        ln_after=False,
        adapter_residual_before_ln=False,
        cross_adapter=False,
        is_parallel=False,
        inv_adapter=None,
        use_gating=False,
        **({"residual_before_ln": True} if normed else {}),
    )
    if not normed:  # what the residual is taken from is then one and the same
        fields.any_of("residual_before_ln", (True, False), default=True)
    fields.ignore("inv_adapter_reduction_factor", "dropout", "stochastic_depth", "init_weights", "init_weights_seed")
    activation = fields.any_of("non_linearity", ACTIVATIONS)
    scaling = fields.number("scaling", default=1.0)
    missing = {layer for layer in fields.wholes("leave_out") if layer < config.num_layers}
    layers = layers_without(missing, config.num_layers)
    scales = () if scaling == 1 else (float(scaling),) * (config.num_layers - len(missing))
    widths = tuple(0 if layer in missing else width for layer, width in enumerate(_widths(fields, config)))
    if not places or not any(widths):
        raise fields.refuse(
            "mh_adapter, output_adapter and leave_out", (places, sorted(missing)), "an adapter somewhere"
        )
    if phm:
        others = {"scales": scales, "layers": layers}
        return _read_compacter(fields, (places, normed, activation), widths, others, config)
    fields.ignore(*(key for key in fields.left if "phm" in key), "hypercomplex_nonlinearity")
    r = max(widths)
    if normed:
        return Measured(Pfeiffer(r, places, activation, scales, layers=layers), widths)
    activation = "own" if activation == "silu" else activation
    return Measured(Houlsby(r, "adapterhub", places, activation, scales, layers=layers), widths)


def _widths(fields: Fields, config: EncoderConfig) -> list[int]:
    """The width in every layer: the hidden size over a factor, or over the layer's own of a table."""
    said = fields.left.get("reduction_factor")
    if isinstance(said, dict):
        table = fields.table("reduction_factor", 1e-6)
        if lacking := [i for i in range(config.num_layers) if str(i) not in table and "default" not in table]:
            raise fields.refuse("reduction_factor", said, f"a factor for layer {lacking[0]}, or a default")
        factors = [table.get(str(i), table.get("default", 1)) for i in range(config.num_layers)]
    else:
        factors = [fields.number("reduction_factor")] * config.num_layers
        if factors[0] <= 0:
            raise fields.refuse("reduction_factor", said, "a number above 0")
    widths = [max(1, int(config.hidden_size // factor)) for factor in factors]
    if max(widths) > (most := 64 * config.hidden_size):
        raise fields.refuse("reduction_factor", said, f"one that leaves a width of at most {most}")
    return widths


def _read_compacter(
    fields: Fields, form: tuple[Any, ...], widths: tuple[int, ...], others: Mapping[str, Any], config: EncoderConfig
) -> Measured:
    fields.must(
        factorized_phm_W=True, factorized_phm_rule=False, shared_W_phm=False, shared_phm_rule=True, phm_bias=True
    )
    fields.ignore("learn_phm", "hypercomplex_nonlinearity", "phm_c_init", "phm_init_range")
    forms = {(("attention", "ffn"), False, "gelu"): Compacter, (("ffn",), True, "gelu"): CompacterPlusPlus}
    if form not in forms:
        raise fields.refuse("a phm_layer with the places, original_ln_before and non_linearity", form, str(list(forms)))
    width = max(widths)
    reduction = config.hidden_size // width
    if set(widths) - {0, width} or config.hidden_size // reduction != width:
        raise fields.refuse("reduction_factor", widths, "one width of all layers, the hidden size over a whole number")
    method = forms[form](reduction, fields.whole("phm_dim"), fields.whole("phm_rank"), **others)
    method.splices(method.seen_of(config))  # whether the width divides
    return Measured(method, widths)


def slots(measured: Measured, name: str, config: EncoderConfig, owner: Method | None = None) -> list[Slot]:
    """Where the leaves lie; those of `owner`, if the bottleneck is a part of it, with its gate."""
    method, slots_ = measured.method, []
    phm, names, d = isinstance(method, Compacter), modules(config), config.hidden_size
    method_name = owner.name if owner else method.name
    for place in _places(method):
        parents = [dense.removesuffix(".dense") for dense in names[_DENSES[place]]]
        at = path_of(PLACES[place], method_name)
        chosen = (owner or method).layer_numbers(config)
        bases = {i: f"{parents[i]}.adapters.{name}." if measured.widths[i] else "" for i in chosen}
        width = {base: measured.widths[i] for i, base in bases.items()}
        for layer_name, stored_name, is_down in (("down", "adapter_down.0", True), ("up", "adapter_up", False)):

            def piece(
                base: str, kind: str, stored_name: str = stored_name, is_down: bool = is_down, width: Any = width
            ) -> Piece:
                shape = (d, width[base]) if is_down else (width[base], d)
                if isinstance(method, Compacter):
                    n, rank = method.phm_dim, method.phm_rank
                    shapes = {"W_left": (n, shape[0] // n, rank), "W_right": (n, rank, shape[1] // n), "b": shape[1:]}
                    return Piece(f"{base}{stored_name}.{kind}", shapes[kind])
                if kind == "weight":
                    return Piece(f"{base}{stored_name}.weight", shape, "transposed")
                return Piece(f"{base}{stored_name}.bias", shape[1:])

            kinds = {"left": "W_left", "right": "W_right", "bias": "b"} if phm else {"kernel": "weight", "bias": "bias"}
            for leaf, kind in kinds.items():
                pieces = of_each(bases, lambda base, kind=kind, piece=piece: piece(base, kind))
                slots_.append(Slot(f"{at}{layer_name}/{leaf}", pieces))
        if owner:
            slots_ += gate_slots(at, {i: base and f"{base}gate" for i, base in bases.items()}, d)
    if isinstance(method, Compacter):
        rule = Piece(f"{config.architecture.prefix}shared_parameters.{name}.phm_rule", (method.phm_dim,) * 3)
        slots_.append(Slot(f"{path_of_shared(method_name)}phm_rule", rule))
    return slots_


def _places(method: AnyBottleneck) -> tuple[str, ...]:
    if isinstance(method, Compacter):
        return ("ffn",) if isinstance(method, CompacterPlusPlus) else ("attention", "ffn")
    return method.places


def measure(
    method: AnyBottleneck, leaves: Mapping[str, Any], config: EncoderConfig, owner: Method | None = None
) -> Measured:
    """The width that each layer uses: units that are all zero at a layer's end are padding.

    Raises:
      ValueError: AdapterHub has no such form.
    """
    if isinstance(method, Houlsby) and method.form == "google":
        raise ValueError(
            "method.form is 'google', which trains LayerNorms; accepted for AdapterHub, whose adapters cannot hold "
            "them: adapterhub"
        )
    chosen = (owner or method).layer_numbers(config)
    present = [layer in chosen for layer in range(config.num_layers)]
    if isinstance(method, Compacter):
        return Measured(
            method, tuple(config.hidden_size // method.reduction if is_present else 0 for is_present in present)
        )
    widths = []
    for layer, is_present in enumerate(present):
        ends = [0]
        for place in method.places if is_present else ():
            at = path_of(PLACES[place], (owner or method).name).format(i=layer)
            down, bias, up = (np.asarray(leaves[f"{at}{leaf}"]) for leaf in ("down/kernel", "down/bias", "up/kernel"))
            ends.append(used(down.T, bias, up))
        widths.append(max(ends) or method.r if is_present else 0)
    if max(widths) < method.r:  # as no file would say how wide ours is
        widths = [method.r if is_present else 0 for is_present in present]
    return Measured(method, tuple(widths))


def describe(measured: Measured, config: EncoderConfig) -> dict[str, Any]:
    """The description, of which `read` makes the same."""
    method, phm = measured.method, isinstance(measured.method, Compacter)
    scales = set(method.scales) or {1.0}
    if len(scales) > 1:
        raise ValueError(f"method.scales is {method.scales}; accepted for AdapterHub: one scale")
    places = _places(method)
    if isinstance(method, Compacter):
        activation = "gelu"
    elif isinstance(method, Houlsby) and method.activation == "own":
        activation = "silu"
    else:
        activation = method.activation
    widths = set(measured.widths) - {0}
    factors = {width: _factor(width, config.hidden_size) for width in widths}
    table = {str(i): factors[width] for i, width in enumerate(measured.widths) if width}
    said = {
        "mh_adapter": "attention" in places,
        "output_adapter": "ffn" in places,
        "original_ln_before": isinstance(method, Pfeiffer | CompacterPlusPlus),
        "original_ln_after": True,
        "residual_before_ln": True,
        "adapter_residual_before_ln": False,
        "ln_before": False,
        "ln_after": False,
        "reduction_factor": factors[max(widths)] if len(widths) == 1 else table | {"default": factors[max(widths)]},
        "non_linearity": next(stored for stored, activation_ in ACTIVATIONS.items() if activation_ == activation),
        "scaling": scales.pop(),
        "leave_out": [layer for layer, width in enumerate(measured.widths) if not width],
        "is_parallel": False,
        "use_gating": False,
        "cross_adapter": False,
        "inv_adapter": None,
        "init_weights": "bert",
        "dropout": 0.0,
        "phm_layer": phm,
    }
    if isinstance(method, Compacter):
        said |= {"phm_dim": method.phm_dim, "phm_rank": method.phm_rank, "phm_bias": True, "learn_phm": True}
        said |= {"factorized_phm_W": True, "factorized_phm_rule": False, "shared_W_phm": False, "shared_phm_rule": True}
    return said


def _factor(width: int, hidden: int) -> int | float:
    """What the hidden size is divided by, rounding down, to give the width."""
    whole = max(1, hidden // width)
    if max(1, hidden // whole) == width:
        return whole
    return next(x for x in (hidden / width, hidden / (width + 0.5)) if int(hidden // x) == width)
