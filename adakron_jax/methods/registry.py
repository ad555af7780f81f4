"""Methods by name, for the command line, saved adapters and tests."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.layers import ALL_LAYERS
from adakron_jax.architectures.paths import layer_of
from adakron_jax.io.fields import typed_fields
from adakron_jax.methods import external
from adakron_jax.splice import Leaves, Method, is_added

METHODS: dict[str, type[Method]] = {}
_M = TypeVar("_M", bound=type[Method])


def register(method: _M) -> _M:
    """Registers a method by its name, as a class decorator; ValueError if another method has the name."""
    known = METHODS.setdefault(method.name, method)
    # Running a notebook's cell again defines its class again.
    if known is not method and (known.__module__, known.__qualname__) != (method.__module__, method.__qualname__):
        raise ValueError(f"two methods claim the name {method.name!r}")
    METHODS[method.name] = method
    return method


def find_method(name: str, path: str = "", where: Path | None = None) -> type[Method]:
    """Returns a method's class by its name; a method that is not registered yet is imported.

    Args:
      name: the name of a registered method or of an entry point, or `package.module:Class`.
      path: `package.module:Class`, if an adapter or a run names it.
      where: the folder of that adapter or run; None where the user names the method.

    Raises:
      ValueError: there is no such method, or it may not be imported for this folder.
    """
    if name in METHODS:
        return METHODS[name]
    path = path or (name if ":" in name else external.entry_points().get(name, ""))
    if not path:
        raise ValueError(f"method is {name!r}; accepted: {', '.join(known_names())}, or package.module:Class")
    method = external.load(path, where)
    if not (isinstance(method, type) and issubclass(method, Method) and isinstance(getattr(method, "name", 0), str)):
        raise ValueError(f"method is {path!r}, which is {method!r:.60}; accepted: a subclass of Method with a name")
    return register(method)


def known_names() -> list[str]:
    """Returns the names of the registered methods, and of those that installed packages offer."""
    return sorted({*METHODS, *external.entry_points()})


def make_method(name: str, fields: Mapping[str, Any]) -> Method:
    """Makes a method from a name as `find_method` takes it, and its fields; ValueError names what is wrong."""
    return _made(find_method(name), fields)


def as_table(method: Method) -> dict[str, Any]:
    """Returns a method as plain values: `name`, `import` if it is another package's, and its fields."""
    path = external.import_path(type(method))
    return {"name": method.name} | ({"import": path} if path else {}) | dataclasses.asdict(method)


def from_table(table: Mapping[str, Any], where: Path | None = None) -> Method:
    """Makes a method from the values that `as_table` returned.

    Args:
      where: the folder that holds the values.

    Raises:
      ValueError: there is no such method or field, or it may not be imported for this folder.
      KeyError: there is no name.
    """
    fields = dict(table)
    name, path = fields.pop("name"), fields.pop("import", "")
    if not isinstance(name, str) or not isinstance(path, str):
        raise ValueError(f"method is {name!r:.60}, imported from {path!r:.60}; accepted: texts")
    return _made(find_method(name, path, where), fields)


def check_names(method: type[Method], names: Iterable[str]) -> None:
    """Raises ValueError if one of the names is not a field of the method."""
    accepted = [field.name for field in fields_of(method)]
    if unknown := sorted(set(names) - set(accepted)):
        raise ValueError(f"method {method.name} has no field {unknown[0]:.60}; accepted: {', '.join(accepted)}")


def _made(method: type[Method], fields: Mapping[str, Any]) -> Method:
    check_names(method, fields)
    return method(**typed_fields(method, fields, "method."))


def fields_of(method: type[Method] | Method) -> list[dataclasses.Field]:
    """Returns a method's fields, with those that every method has last."""
    common = {field.name for field in dataclasses.fields(Method)}
    return sorted(dataclasses.fields(method), key=lambda field: field.name in common)


def fusable() -> list[str]:
    """Returns the names of the methods that fuse into the encoder or into a simpler method."""
    return sorted(name for name, method in METHODS.items() if method.fuse is not Method.fuse)


def fuse(method: Method, leaves: Leaves, config: EncoderConfig) -> tuple[Method, Leaves]:
    """Calls `method.fuse`; a simpler method that still has modules has them in the same layers.

    Raises:
      ValueError: there is no simpler method; the message lists the methods that fuse.
    """
    if type(method).fuse is Method.fuse:
        raise ValueError(f"method {method.name} cannot be fused; accepted: {', '.join(fusable())}")
    simpler, fused = method.fuse(leaves, config)
    has_modules = any(layer_of(path) is not None and is_added(path) for path in fused)
    return dataclasses.replace(simpler, layers=method.layers if has_modules else ALL_LAYERS), fused
