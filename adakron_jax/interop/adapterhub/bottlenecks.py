"""AdapterHub's bottlenecks: `seq_bn` (Pfeiffer), `double_seq_bn` (Houlsby), Compacter, Compacter++, and their kin."""

from collections.abc import Sequence

import numpy as np

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.layers import layers_without
from adakron_jax.architectures.stored import Stored
from adakron_jax.interop.fields import Fields, Said, Setting, written
from adakron_jax.interop.heads import modules
from adakron_jax.interop.tensor_table import Entry, Leaves, in_layers, used
from adakron_jax.methods import Compacter, CompacterPlusPlus, Houlsby, Pfeiffer
from adakron_jax.methods.bottleneck import PLACES
from adakron_jax.splice import Site, path_of, path_of_shared

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
# Fields that every description holds, and those that Compacter's holds too.
_ALWAYS = {
    "original_ln_after": True,
    **dict.fromkeys(("ln_before", "ln_after", "adapter_residual_before_ln"), False),
    **dict.fromkeys(("is_parallel", "use_gating", "cross_adapter"), False),
    "inv_adapter": None,
}
_PHM = {
    **dict.fromkeys(("factorized_phm_W", "shared_phm_rule", "phm_bias"), True),
    **dict.fromkeys(("factorized_phm_rule", "shared_W_phm"), False),
}
_PHM_SETTINGS = {"phm_dim": Setting("phm_dim"), "phm_rank": Setting("phm_rank")}
_DOWN, _UP = "adapter_down.0", "adapter_up"
_PLACES = {"mh_adapter": ("attention", Site.ATTENTION_DENSE), "output_adapter": ("ffn", Site.FFN_DENSE)}
Bottleneck = Pfeiffer | Houlsby | Compacter
# The kinds by `original_ln_before` and `phm_layer`.
_KINDS: dict[tuple[bool, bool], type[Bottleneck]] = {
    (True, False): Pfeiffer,
    (False, False): Houlsby,
    (False, True): Compacter,
    (True, True): CompacterPlusPlus,
}
Widths = Sequence[int]  # one per layer, 0 without a bottleneck; the method's width is the largest


def read(fields: Fields, name: str, config: EncoderConfig) -> tuple[Bottleneck, list[Entry]]:
    places = tuple(place for key, (place, _) in _PLACES.items() if fields.flag(key))
    normed, phm = fields.flag("original_ln_before"), fields.flag("phm_layer")
    fields.must(**_ALWAYS)
    # For an adapter not behind a LayerNorm, both values of residual_before_ln mean the same.
    fields.any_of("residual_before_ln", (True,) if normed else (True, False), default=True)
    fields.ignore("inv_adapter_reduction_factor", "dropout", "stochastic_depth", "init_weights", "init_weights_seed")
    fields.ignore("hypercomplex_nonlinearity")
    activation, scaling = fields.any_of("non_linearity", ACTIVATIONS), fields.number("scaling", default=1.0)
    missing = {layer for layer in fields.wholes("leave_out") if layer < config.num_layers}
    widths = [0 if layer in missing else width for layer, width in enumerate(_widths(fields, config))]
    if not places or not any(widths):
        accepted = "an adapter somewhere"
        raise fields.refuse("mh_adapter, output_adapter and leave_out", (places, sorted(missing)), accepted)
    layers, kind = layers_without(missing, config.num_layers), _KINDS[normed, phm]
    scales = () if scaling == 1 else (scaling,) * (config.num_layers - len(missing))
    if issubclass(kind, Compacter):
        reduction = config.hidden_size // max(widths)
        if set(widths) - {0, config.hidden_size // reduction}:
            accepted = "one width of all layers, the hidden size over a whole number"
            raise fields.refuse("reduction_factor", widths, accepted)
        method = kind(reduction, **fields.settings(_PHM_SETTINGS), scales=scales, layers=layers)
        if (places, activation) != (method.places, "gelu"):
            accepted = f"{method.places} and gelu, of {method.name}"
            raise fields.refuse("a phm_layer with the places and non_linearity", (places, activation), accepted)
        fields.must(**_PHM)
        fields.ignore("learn_phm", "phm_c_init", "phm_init_range")
        method.splices(method.seen_of(config))  # whether the width divides
    else:
        fields.ignore(*(key for key in fields.left if "phm" in key))
        if kind is Houlsby:
            activation = "own" if activation == "silu" else activation
            method = Houlsby(max(widths), "adapterhub", places, activation, scales, layers=layers)
        else:
            method = Pfeiffer(max(widths), places, activation, scales, layers=layers)
    return method, table(method, widths, name, config)


def _widths(fields: Fields, config: EncoderConfig) -> list[int]:
    """Returns the width in every layer: the hidden size over a factor, or over the layer's factor in a table."""
    said = fields.left.get("reduction_factor")
    by_layer = isinstance(said, dict)
    table = fields.table("reduction_factor", 0) if by_layer else {"default": fields.number("reduction_factor")}
    if lacking := [i for i in range(config.num_layers) if str(i) not in table and "default" not in table]:
        raise fields.refuse("reduction_factor", said, f"a factor for layer {lacking[0]}, or a default")
    factors = [table.get(str(i), table.get("default", 1)) for i in range(config.num_layers)]
    if min(factors) <= 0:
        raise fields.refuse("reduction_factor", said, "a number above 0")
    widths = [max(1, int(config.hidden_size // factor)) for factor in factors]
    if max(widths) > (most := 64 * config.hidden_size):
        raise fields.refuse("reduction_factor", said, f"one that leaves a width of at most {most}")
    return widths


def table(method: Bottleneck, widths: Widths, name: str, config: EncoderConfig) -> list[Entry]:
    d, entries = config.hidden_size, []
    for place, site in _PLACES.values():
        if place not in method.places:
            continue
        parents = [dense.removesuffix(".dense") for dense in modules(config)[site]]
        at = path_of(PLACES[place], method.name)
        names = {i: f"{parents[i]}.adapters.{name}." if widths[i] else "" for i in method.layer_numbers(config)}
        if isinstance(method, Compacter):
            n, rank, inner = method.phm_dim, method.phm_rank, max(widths)
            for side, stored, (inputs, outputs) in (("down", _DOWN, (d, inner)), ("up", _UP, (inner, d))):
                entries += in_layers(f"{at}{side}/left", names, f"{stored}.W_left", (n, inputs // n, rank))
                entries += in_layers(f"{at}{side}/right", names, f"{stored}.W_right", (n, rank, outputs // n))
                entries += in_layers(f"{at}{side}/bias", names, f"{stored}.b", (outputs,))
            continue
        width = {base: widths[i] for i, base in names.items()}
        for side, stored, shape in (("down", _DOWN, (d, width)), ("up", _UP, (width, d))):
            entries += in_layers(f"{at}{side}/kernel", names, f"{stored}.weight", shape, "transposed")
            entries += in_layers(f"{at}{side}/bias", names, f"{stored}.bias", shape[1:])
    if isinstance(method, Compacter):
        rule = Stored(f"{config.architecture.prefix}shared_parameters.{name}.phm_rule", (method.phm_dim,) * 3)
        entries.append(Entry(f"{path_of_shared(method.name)}phm_rule", rule))
    return entries


def measure(method: Bottleneck, leaves: Leaves, config: EncoderConfig) -> Widths:
    """Returns the width that each layer uses: units that are all zero at a layer's end are padding.

    Raises:
      ValueError: AdapterHub has no such form.
    """
    if isinstance(method, Houlsby) and method.form == "google":
        raise ValueError(
            "method.form is 'google', which trains LayerNorms; accepted for AdapterHub, whose adapters cannot hold "
            "them: adapterhub"
        )
    full = config.hidden_size // method.reduction if isinstance(method, Compacter) else method.r
    widths = dict.fromkeys(method.layer_numbers(config), full)
    if not isinstance(method, Compacter):
        for layer in widths:
            at = [path_of(PLACES[place], method.name).format(i=layer) for place in method.places]
            kernels = [np.asarray(leaves[f"{x}down/kernel"]).T for x in at]
            others = [np.asarray(leaves[f"{x}{leaf}"]) for x in at for leaf in ("down/bias", "up/kernel")]
            widths[layer] = used(*kernels, *others) or full
        if max(widths.values()) < full:  # else no file would say how wide ours is
            widths = dict.fromkeys(widths, full)
    return [widths.get(layer, 0) for layer in range(config.num_layers)]


def write(method: Bottleneck, leaves: Leaves, name: str, config: EncoderConfig) -> tuple[Said, list[Entry]]:
    widths = measure(method, leaves, config)
    scales = set(method.scales) or {1.0}
    if len(scales) > 1:
        raise ValueError(f"method.scales is {method.scales}; accepted for AdapterHub: one scale")
    factors = {width: _factor(width, config.hidden_size) for width in set(widths) - {0}}
    widest = factors[max(factors)]
    by_layer = {str(i): factors[width] for i, width in enumerate(widths) if width} | {"default": widest}
    activation = "gelu" if isinstance(method, Compacter) else method.activation
    activation = "silu" if activation == "own" else activation
    normed, phm = next(said for said, kind in _KINDS.items() if kind is type(method))
    said = {
        **_ALWAYS,
        **{key: place in method.places for key, (place, _) in _PLACES.items()},
        "original_ln_before": normed,
        "residual_before_ln": True,
        "reduction_factor": widest if len(factors) == 1 else by_layer,
        "non_linearity": next(stored for stored, known in ACTIVATIONS.items() if known == activation),
        "scaling": scales.pop(),
        "leave_out": [layer for layer, width in enumerate(widths) if not width],
        "init_weights": "bert",
        "dropout": 0.0,
        "phm_layer": phm,
        **(_PHM | written(_PHM_SETTINGS, method) | {"learn_phm": True} if phm else {}),
    }
    return said, table(method, widths, name, config)


def _factor(width: int, hidden: int) -> int | float:
    """Returns the number by which the hidden size is divided, rounding down, to give the width."""
    whole = max(1, hidden // width)
    if max(1, hidden // whole) == width:
        return whole
    return next(x for x in (hidden / width, hidden / (width + 0.5)) if int(hidden // x) == width)
