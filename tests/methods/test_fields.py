"""A method's fields out of range: each is refused by name, with its value and what is accepted."""

import dataclasses
import re
import typing
from typing import Any

import pytest
from flax import linen as nn

from adakron_jax.io.fields import in_words
from adakron_jax.methods.registry import METHODS, make_method
from adakron_jax.methods.updates.lora import Update
from adakron_jax.splice import Method, Site, Splice, compose
from tests.encoders.test_bert import BERT

DENSES = "query, key, value, attention_dense, ffn_inner, ffn_dense"
WIDTHS = "one or more whole numbers of at least 1"

NUMBERS = ((float("nan"),), "finite numbers")
ACTIVATIONS = "relu, gelu, gelu_tanh, silu, tanh"
UPDATES = sorted(name for name, method in METHODS.items() if issubclass(method, Update))

# Method, field, value, what is accepted instead.
REFUSED: list[tuple[str, str, Any, str]] = [
    ("adakron", "factors", (), WIDTHS),
    ("adakron", "factors", (12, 0), WIDTHS),
    ("adakron", "factors", (-12, -4), WIDTHS),
    ("adakron", "place", "nowhere", "sequential, pfeiffer"),
    ("adamix", "r", 0, "at least 1"),
    ("adamix", "experts", 1, "at least 2"),
    ("adamix", "experts", 0, "at least 2"),
    ("compacter", "reduction", 0, "at least 1"),
    ("compacter", "phm_dim", 0, "at least 1"),
    ("compacter", "phm_rank", 0, "at least 1"),
    ("compacter++", "reduction", 0, "at least 1"),
    ("compacter++", "phm_dim", 0, "at least 1"),
    ("compacter++", "phm_rank", -1, "at least 1"),
    ("compacter", "scales", *NUMBERS),
    ("compacter++", "scales", *NUMBERS),
    ("hadamard", "place", "ffn", "after_dense, context"),
    ("houlsby", "r", 0, "at least 1"),
    ("houlsby", "form", "meta", "google, adapterhub"),
    ("houlsby", "places", (), "one or more of attention, ffn"),
    ("houlsby", "places", ("ffn", "ffn"), "one or more of attention, ffn"),
    ("houlsby", "activation", "mish", f"own, {ACTIVATIONS}"),
    ("houlsby", "scales", *NUMBERS),
    ("ia3", "targets", (), f"one or more of {DENSES}, attention_context, ffn_hidden"),
    ("ia3", "targets", ("ffn",), f"one or more of {DENSES}, attention_context, ffn_hidden"),
    ("krona", "ranks", (1,), "none, two whole numbers of at least 0, or two for each target"),
    ("krona", "ranks", (0, -1), "none, two whole numbers of at least 0, or two for each target"),
    ("krona", "targets", ("query", "ffn"), f"one or more of {DENSES}"),
    ("krona", "a_shape", (4,), "two whole numbers of at least 1, or two for each target"),
    ("krona", "a_shape", (4, 4, 4), "two whole numbers of at least 1, or two for each target"),
    ("krona", "a_shape", (4, 0), "two whole numbers of at least 1, or two for each target"),
    ("krona", "scale", 0.0, "above 0"),
    ("lora", "targets", ("query", "keys_values"), f"one or more of {DENSES}"),
    ("lora", "targets", ("query", "query"), f"one or more of {DENSES}"),
    ("lora", "r", 0, "at least 1"),
    ("lora", "alpha", 0.0, "above 0"),
    ("lora", "alpha", -16.0, "above 0"),
    ("lora", "alpha", float("nan"), "above 0"),
    ("madakron", "experts", 1, "at least 2"),
    ("madakron", "factors", (), "two or more; a single one is adamix"),
    ("madakron", "factors", (48,), "two or more; a single one is adamix"),
    ("madakron", "factors", (12, 0), WIDTHS),
    ("madakron", "mixture", "most", "full, partial"),
    ("pfeiffer", "r", 0, "at least 1"),
    ("pfeiffer", "places", ("output",), "one or more of attention, ffn"),
    ("pfeiffer", "activation", "own", ACTIVATIONS),
    ("pfeiffer", "scales", *NUMBERS),
    ("prefix", "length", 0, "at least 1"),
    ("prefix", "mid", 0, "at least 1"),
    ("unipelt", "parts", (), "one or more of adapter, prefix, lora"),
    ("unipelt", "parts", ("adapter", "bitfit"), "one or more of adapter, prefix, lora"),
    ("unipelt", "r", 0, "at least 1"),
    ("unipelt", "length", 0, "at least 1"),
    ("unipelt", "mid", 0, "at least 1"),
    ("unipelt", "lora_r", 0, "at least 1"),
    ("unipelt", "targets", (), f"one or more of {DENSES}"),
    *((name, "targets", (), f"one or more of {DENSES}") for name in UPDATES),
    *((name, "scales", *NUMBERS) for name in UPDATES),
    *((name, "r", 0, "at least 1") for name in ("dora", "hira", "miss", "pissa", "randlora", "vblora")),
    *((name, "alpha", 0.0, "above 0") for name in ("dora", "pissa", "randlora")),
    ("pissa", "scales", (1.0, 0.0), "above 0"),
    ("miss", "form", "maxi", "plain, mini, bat"),
    ("miss", "mini_r", 2, "1, or more with the form mini"),
    ("vblora", "vectors", 0, "at least 1"),
    ("vblora", "vector_length", 0, "at least 1"),
    ("vblora", "topk", 91, "1 to 90, the vectors"),
    ("vblora", "form", "weights", "logits, topk"),
    ("c3a", "block_size", 0, "at least 1"),
    ("oft", "block_size", 1, "at least 2"),
    ("oft", "cayley", "series", "exact, neumann"),
    ("oft", "neumann_terms", 1, "at least 2"),
    ("fourierft", "n_frequency", 0, "at least 1"),
    ("fourierft", "scaling", 0.0, "above 0"),
    ("fourierft", "seed", -1, "0 to 4294967295"),
    ("loreft", "r", 0, "at least 1"),
    ("loreft", "prefix_positions", -1, "at least 0"),
    ("loreft", "suffix_positions", -1, "at least 0"),
    ("vera", "targets", ("ffn_hidden",), f"one or more of {DENSES}"),
    ("vera", "r", 0, "at least 1"),
]


def own_fields(method: type[Method]) -> list[str]:
    """All but `layers`, which every method has and which only an encoder can refuse."""
    return [field.name for field in dataclasses.fields(method) if field.name != "layers"]


def saying(message: str) -> str:
    """A pattern that is the message, and nothing after it."""
    return f"^{re.escape(message)}$"


@pytest.mark.parametrize(("name", "field", "value", "accepted"), REFUSED, ids=str)
def test_a_field_out_of_range_is_refused(name: str, field: str, value: Any, accepted: str) -> None:
    with pytest.raises(ValueError, match=saying(f"method.{field} is {value!r}; accepted: {accepted}")):
        make_method(name, {field: value})


def test_the_table_names_every_field_that_has_a_range() -> None:
    of_all = {
        (name, field)
        for name, method in METHODS.items()
        for field, hint in typing.get_type_hints(method).items()
        if field in own_fields(method) and hint is not bool
    }
    assert {(name, field) for name, field, _, _ in REFUSED} == of_all


@pytest.mark.parametrize("name", METHODS)
def test_a_value_of_another_type_is_refused_for_every_field(name: str) -> None:
    hints = typing.get_type_hints(METHODS[name])
    for field in own_fields(METHODS[name]):
        with pytest.raises(ValueError, match=saying(f"method.{field} is 'x'; accepted: {in_words(hints[field])}")):
            make_method(name, {field: "x"})


# Method, its fields, and the refusal when it meets an encoder of hidden size 16 and 32 hidden units.
UNFIT: list[tuple[str, dict[str, Any], str]] = [
    ("lora", {"r": 17}, "method.r is 17; accepted: at most the hidden size, 16"),
    ("unipelt", {"lora_r": 17}, "method.lora_r is 17; accepted: at most 16"),
    ("krona", {"a_shape": (3, 4)}, "method.a_shape is (3, 4); accepted: divisors of 16 and 16"),
    ("krona", {"a_shape": (4, 3)}, "method.a_shape is (4, 3); accepted: divisors of 16 and 16"),
    ("krona", {"a_shape": (32, 4)}, "method.a_shape is (32, 4); accepted: divisors of 16 and 16"),
    ("c3a", {"block_size": 32, "targets": ("ffn_inner",)}, "method.block_size is 32; accepted: a divisor of 16 and 32"),
    ("fourierft", {"n_frequency": 257}, "method.n_frequency is 257; accepted: at most inputs times outputs, 256"),
    ("oft", {"block_size": 32}, "method.block_size is 32; accepted: a divisor of 16"),
    ("loreft", {"r": 17}, "method.r is 17; accepted: at most the hidden size, 16"),
    (
        "krona",
        {"a_shape": (4, 32), "targets": ("ffn_dense",)},
        "method.a_shape is (4, 32); accepted: divisors of 32 and 16",
    ),
    *(
        (
            name,
            {"reduction": reduction},
            f"method.reduction is {reduction}; accepted: what reduces the hidden size 16 to a multiple of phm_dim 4",
        )
        for name in ("compacter", "compacter++")
        for reduction in (3, 8, 32)
    ),
    ("unipelt", {"parts": ("adapter", "adapter")}, "two parts of the method claim the site ffn_output"),
    ("unipelt", {"parts": ("lora", "prefix", "lora")}, "two parts of the method claim the site query"),
    ("unipelt", {"parts": ("prefix", "prefix")}, "two parts of the method claim the site keys_values"),
]


@pytest.mark.parametrize(("name", "fields", "message"), UNFIT, ids=str)
def test_a_field_that_does_not_fit_the_encoder_is_refused(name: str, fields: dict[str, Any], message: str) -> None:
    method = make_method(name, fields)
    expected = f"{message}; accepted: one per site" if "claim" in message else message
    with pytest.raises(ValueError, match=saying(expected)):
        method.splices(BERT)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("adakron", {"factors": [1]}),
        ("adamix", {"r": 1, "experts": 2}),
        ("c3a", {"block_size": 16}),
        ("compacter", {"reduction": 4}),
        ("compacter++", {"reduction": 1, "phm_dim": 16}),
        ("fourierft", {"n_frequency": 256, "scaling": 1, "seed": 4294967295}),
        ("krona", {"a_shape": [32, 16], "targets": ["ffn_dense"]}),
        ("lora", {"r": 16, "alpha": 1}),
        ("loreft", {"r": 16, "prefix_positions": 0, "suffix_positions": 1}),
        ("oft", {"block_size": 32, "targets": ["ffn_dense"]}),
        ("madakron", {"factors": [1, 1], "experts": 2}),
        ("prefix", {"length": 1, "mid": 1}),
        ("unipelt", {"parts": ["lora", "prefix", "adapter"], "lora_r": 16}),
        ("vera", {"r": 1024}),
    ],
    ids=str,
)
def test_the_utmost_that_fits_is_accepted(name: str, fields: dict[str, Any]) -> None:
    assert make_method(name, fields).splices(BERT)


def a_part(*sites: Site) -> dict[Site, Splice]:
    return {site: Splice(nn.Module, label=site.value) for site in sites}


def test_parts_are_joined_and_two_at_one_site_are_refused() -> None:
    one, other = a_part(Site.QUERY, Site.FFN_OUTPUT), a_part(Site.VALUE)
    assert compose([one, other]) == one | other
    assert compose([]) == {}
    assert list(one) == [Site.QUERY, Site.FFN_OUTPUT]
    with pytest.raises(
        ValueError, match=saying("two parts of the method claim the site value; accepted: one per site")
    ):
        compose([one, other, a_part(Site.KEY, Site.VALUE)])
