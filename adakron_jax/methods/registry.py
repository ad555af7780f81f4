"""Methods by name: for the command line, saved adapters and tests."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.layers import ALL_LAYERS
from adakron_jax.architectures.paths import layer_of
from adakron_jax.fields import typed_fields
from adakron_jax.splice import Leaves, Method, is_added

METHODS: dict[str, type[Method]] = {}
_M = TypeVar("_M", bound=type[Method])


def register(method: _M) -> _M:
    """Class decorator: makes a method known by its name, to the command line and to the tests."""
    if METHODS.setdefault(method.name, method) is not method:
        raise ValueError(f"two methods claim the name {method.name!r}")
    return method


def make_method(name: str, fields: Mapping[str, Any]) -> Method:
    """A registered method from its name and fields; ValueError names an unknown one and what is accepted."""
    if name not in METHODS:
        raise ValueError(f"method is {name!r}; accepted: {', '.join(sorted(METHODS))}")
    accepted = [field.name for field in fields_of(METHODS[name])]
    if unknown := sorted(fields.keys() - set(accepted)):
        raise ValueError(f"method {name} has no field {unknown[0]}; accepted: {', '.join(accepted)}")
    return METHODS[name](**typed_fields(METHODS[name], fields, "method."))


def fields_of(method: type[Method] | Method) -> list[dataclasses.Field]:
    """A method's fields, those that every method has last."""
    common = {field.name for field in dataclasses.fields(Method)}
    return sorted(dataclasses.fields(method), key=lambda field: field.name in common)


def fusable() -> list[str]:
    """Names of the methods that fuse into the encoder or into a simpler method."""
    return sorted(name for name, method in METHODS.items() if method.fuse is not Method.fuse)


def fuse(method: Method, leaves: Leaves, config: EncoderConfig) -> tuple[Method, Leaves]:
    """`method.fuse`; what has modules left has them in the same layers.

    Raises:
      ValueError: there is no simpler method; those that fuse are named.
    """
    if type(method).fuse is Method.fuse:
        raise ValueError(f"method {method.name} cannot be fused; accepted: {', '.join(fusable())}")
    simpler, fused = method.fuse(leaves, config)
    has_modules = any(layer_of(path) is not None and is_added(path) for path in fused)
    return dataclasses.replace(simpler, layers=method.layers if has_modules else ALL_LAYERS), fused
