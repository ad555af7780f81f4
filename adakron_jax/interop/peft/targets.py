"""Which modules a description of peft's speaks of, and how it names ours."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.interop.fields import Fields, matches
from adakron_jax.interop.heads import modules
from adakron_jax.methods.lora import Update
from adakron_jax.splice import Site


class Targets:
    """The modules that `target_modules`, `layers_to_transform` and the like name.

    Attributes:
      by_site: site -> names, one a layer, "" where the layer is not named.
      sites: of `by_site`, as a method's `targets` say them.
      names: all of them.
    """

    def __init__(self, fields: Fields, known: Mapping[Site, Sequence[str]], tensors: Mapping[str, Any]):
        self.where = fields.where
        by_default = lambda name: any(tensor.startswith(f"{name}.") for tensor in tensors)  # noqa: E731
        wanted = self.matcher(fields, "target_modules", by_default)
        unwanted = self.matcher(fields, "exclude_modules")
        layers, patterns = fields.wholes("layers_to_transform"), fields.texts("layers_pattern") or [r"[^.]*"]

        def named(name: str) -> bool:
            if not wanted(name) or unwanted(name):
                return False
            number = next((m for p in patterns if (m := re.match(rf".*\.{p}\.(\d+)\.", name))), None)
            return not layers or (number is not None and int(number[1]) in layers)

        by_site = {site: [name if named(name) else "" for name in names] for site, names in known.items()}
        self.by_site = {site: names for site, names in by_site.items() if any(names)}
        self.sites = tuple(site.value for site in self.by_site)
        self.names = [name for names in self.by_site.values() for name in names if name]
        if not self.names:
            raise ValueError(f"{fields.where}: target_modules names none of {known[Site.QUERY][0]} and its like")

    def matcher(
        self, fields: Fields, key: str, by_default: Callable[[str], bool] = lambda name: False
    ) -> Callable[[str], bool]:
        """Whether a field names a module: ends of names at a dot, or one regular expression of whole names."""
        said = fields.left.get(key)
        ends = fields.texts(key)
        if said is None:
            return by_default
        if not isinstance(said, str):
            return lambda name: any(f".{name}".endswith(f".{end}") for end in ends)
        return lambda name: said == "all-linear" or matches(said, name, f"{self.where}: {key}")

    def by_pattern(self, patterns: Mapping[str, int | float], name: str, default: int | float) -> int | float:
        """What the first pattern that is an end of the name at a dot has for it."""
        ends = (key for key in patterns if matches(rf"(.*\.)?({key})", name, self.where))
        return patterns.get(next(ends, ""), default)


def scales_of(targets: Targets, scale: Mapping[str, float], config: EncoderConfig) -> tuple[float, tuple[float, ...]]:
    """The scale that all modules have, and `scales` as a method has them: none, if it is the same everywhere."""
    names = [names[layer] for layer in range(config.num_layers) for names in targets.by_site.values()]
    first = scale[targets.names[0]]
    if all(names) and set(scale.values()) == {first}:
        return first, ()
    return first, tuple(float(scale[name]) if name else 0.0 for name in names)


def present(method: Update, config: EncoderConfig) -> dict[Site, list[str]]:
    """Site -> names of its modules, "" for a layer where the scale is 0."""
    names = modules(config)

    def of_site(target: str) -> list[str]:
        scales = np.broadcast_to(method.scale_of(target), (config.num_layers,))
        return [name if scale else "" for name, scale in zip(names[Site(target)], scales, strict=True)]

    return {Site(target): of_site(target) for target in method.targets}


def target_modules(by_site: Mapping[Site, list[str]], config: EncoderConfig) -> list[str]:
    """Short names where they suffice, else the modules one by one."""
    last = {site: names[0].rpartition(".")[2] for site, names in modules(config).items()}
    short = all(list(last.values()).count(last[site]) == 1 and all(names) for site, names in by_site.items())
    return [last[site] for site in by_site] if short else [name for names in by_site.values() for name in names if name]
