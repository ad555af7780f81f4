"""Which modules a description of peft's speaks of, and how it names ours."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.layers import layers_named
from adakron_jax.interop.fields import Fields, matches
from adakron_jax.interop.heads import modules
from adakron_jax.methods import IA3
from adakron_jax.methods.scaling import SCALED_INPUTS
from adakron_jax.methods.updates.lora import Update
from adakron_jax.splice import Site, path_of


class Targets:
    """The modules that `target_modules`, `layers_to_transform` and the like name.

    Attributes:
      by_site: site -> number of a layer in which a module is named -> the name, "" where it is another site's.
      layers, sites: of `by_site`, as a method's `layers` and `targets` say them.
      names: all of them.
      tensors: the file's; a reader adds those that the file leaves to be drawn again.
    """

    def __init__(self, fields: Fields, known: Mapping[Site, Sequence[str]], tensors: dict[str, Any]):
        self.where, self.tensors, named = fields.where, tensors, chosen(fields, tensors)
        by_site = {site: [name if named(name) else "" for name in names] for site, names in known.items()}
        numbers = [i for i, names in enumerate(zip(*by_site.values(), strict=True)) if any(names)]
        self.by_site = {site: {i: names[i] for i in numbers} for site, names in by_site.items() if any(names)}
        self.layers = layers_named(numbers, len(known[Site.QUERY]))
        self.sites = tuple(site.value for site in self.by_site)
        self.names = [name for names in self.by_site.values() for name in names.values() if name]
        if not self.names:
            raise ValueError(f"{fields.where}: target_modules names none of {known[Site.QUERY][0]} and its like")

    def refuse_gaps(self, kind: str) -> None:
        """ValueError if a module is named in some layers only, of a method that has no leaves which change nothing."""
        missing = [(site, i) for site, names in self.by_site.items() for i, name in names.items() if not name]
        if missing:
            site, layer = missing[0]
            accepted = f"accepted for {kind}: the same modules in all of its layers"
            raise ValueError(f"{self.where}: target_modules names no {site} in layer {layer}; {accepted}")

    def by_pattern(self, patterns: Mapping[str, int | float], name: str, default: int | float) -> int | float:
        """What the first pattern that is an end of the name at a dot has for it."""
        ends = (key for key in patterns if matches(rf"(.*\.)?({key})", name, self.where))
        return patterns.get(next(ends, ""), default)


def chosen(fields: Fields, tensors: Mapping[str, Any]) -> Callable[[str], bool]:
    """Whether a description names a module; where it says nothing, whether there are tensors of it."""
    by_default = lambda name: any(tensor.startswith(f"{name}.") for tensor in tensors)  # noqa: E731
    wanted, unwanted = matcher(fields, "target_modules", by_default), matcher(fields, "exclude_modules")
    layers, patterns = fields.wholes("layers_to_transform"), fields.texts("layers_pattern") or [r"[^.]*"]

    def named(name: str) -> bool:
        if not wanted(name) or unwanted(name):
            return False
        number = next((m for p in patterns if (m := re.match(rf".*\.{p}\.(\d+)\.", name))), None)
        return not layers or (number is not None and int(number[1]) in layers)

    return named


def matcher(fields: Fields, key: str, by_default: Callable[[str], bool] = lambda name: False) -> Callable[[str], bool]:
    """Whether a field names a module: ends of names at a dot, or one regular expression of whole names."""
    said = fields.left.get(key)
    ends = fields.texts(key)
    if said is None:
        return by_default
    if not isinstance(said, str):
        return lambda name: any(f".{name}".endswith(f".{end}") for end in ends)
    return lambda name: said == "all-linear" or matches(said, name, f"{fields.where}: {key}")


def check_scales(method: Update, kind: str) -> None:
    """ValueError if a method has other scales than its default, which peft's has not."""
    if others := set(method.scales) - {method.default_scale}:
        raise ValueError(f"method.scales has {min(others)}; accepted for peft's {kind}: {method.default_scale:g}")


def scales_of(targets: Targets, scale: Mapping[str, float]) -> tuple[float, tuple[float, ...]]:
    """The scale that all modules have, and `scales` as a method has them: none, if it is the same everywhere."""
    first = scale[targets.names[0]]
    if set(scale.values()) == {first}:
        return first, ()
    by_layer = zip(*(names.values() for names in targets.by_site.values()), strict=True)
    return first, tuple(float(scale.get(name, first)) for names in by_layer for name in names)


def present(
    method: Update | IA3, leaves: Mapping[str, Any], config: EncoderConfig, unused: float = 0.0
) -> dict[Site, dict[int, str]]:
    """Site -> layer -> name of its module, "" where all its leaves are `unused` throughout, as if there were none."""
    names, chosen = modules(config), method.layer_numbers(config)

    def is_used(site: Site, layer: int) -> bool:
        at = path_of(site, method.name).format(i=layer)
        return any(np.any(np.asarray(leaf) != unused) for path, leaf in leaves.items() if path.startswith(at))

    sites = list(map(Site, method.targets))
    used = {(site, layer) for site in sites for layer in chosen if is_used(site, layer)}
    return {
        site: {i: names[SCALED_INPUTS.get(site, site)][i] if (site, i) in used or not used else "" for i in chosen}
        for site in sites
    }


def target_modules(by_site: Mapping[Site, Mapping[int, str]], config: EncoderConfig) -> list[str]:
    """Short names where they suffice, else the modules one by one."""
    last = {site: names[0].rpartition(".")[2] for site, names in modules(config).items()}
    named = [name for names in by_site.values() for name in names.values() if name]
    short = len(named) == len(by_site) * config.num_layers
    short = short and all(list(last.values()).count(last[site]) == 1 for site in by_site)
    return [last[site] for site in by_site] if short else named
