"""Which modules a description of peft's names, how it names ours, and its settings for single modules."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.layers import layers_named
from adakron_jax.interop.fields import Fields, Said, matches
from adakron_jax.interop.heads import modules
from adakron_jax.interop.tensor_table import Leaves
from adakron_jax.methods import IA3
from adakron_jax.methods.scaling import SCALED_INPUTS
from adakron_jax.methods.updates.lora import Update
from adakron_jax.splice import Method, Site, path_of

# Site -> layer -> name of the module, "" if there is none.
BySite = Mapping[Site, Mapping[int, str]]
Number = TypeVar("Number", int, float)


class Targets:
    """The modules that `target_modules`, `layers_to_transform` and similar fields name.

    Attributes:
      by_site: the modules, in those layers in which any is named.
      layers, sites: those of `by_site`, in the form of a method's `layers` and `targets`.
      names: the names of all modules.
      tensors: the file's tensors; a reader may change those that it reads.
    """

    def __init__(self, fields: Fields, known: Mapping[Site, Sequence[str]], tensors: Leaves):
        self.where, self.tensors, named = fields.where, tensors, chosen(fields, tensors)
        by_site = {site: [name if named(name) else "" for name in names] for site, names in known.items()}
        numbers = [i for i, names in enumerate(zip(*by_site.values(), strict=True)) if any(names)]
        self.by_site = {site: {i: names[i] for i in numbers} for site, names in by_site.items() if any(names)}
        self.layers = layers_named(numbers, len(known[Site.QUERY]))
        self.sites = tuple(site.value for site in self.by_site)
        self.names = [name for _, _, name in named_modules(self.by_site)]
        if not self.names:
            raise ValueError(f"{fields.where}: target_modules names none of {known[Site.QUERY][0]} and its like")

    def refuse_gaps(self, kind: str) -> None:
        """Raises ValueError if a module is named in only some layers, for methods whose leaves cannot be neutral."""
        missing = [(site, i) for site, names in self.by_site.items() for i, name in names.items() if not name]
        if missing:
            site, layer = missing[0]
            accepted = f"accepted for {kind}: the same modules in all of its layers"
            raise ValueError(f"{self.where}: target_modules names no {site} in layer {layer}; {accepted}")

    def by_pattern(self, patterns: Mapping[str, Number], default: Number) -> dict[str, Number]:
        """Maps each module's name to the value of the first pattern that ends the name at a dot."""

        def of(name: str) -> Number:
            ends = (key for key in patterns if matches(rf"(.*\.)?({key})", name, self.where))
            return patterns.get(next(ends, ""), default)

        return {name: of(name) for name in self.names}

    def scales(self, scale: Mapping[str, float]) -> tuple[float, tuple[float, ...]]:
        """Returns the scale that all modules have, and a method's `scales`: empty if it is the same everywhere."""
        first = scale[self.names[0]]
        if set(scale.values()) == {first}:
            return first, ()
        by_layer = zip(*(names.values() for names in self.by_site.values()), strict=True)
        return first, tuple(float(scale.get(name, first)) for names in by_layer for name in names)


def named_modules(by_site: BySite) -> Iterator[tuple[Site, int, str]]:
    """Yields site, layer and name of every module that exists."""
    return ((site, i, name) for site, names in by_site.items() for i, name in names.items() if name)


def chosen(fields: Fields, tensors: Leaves) -> Callable[[str], bool]:
    """Returns whether a description names a module; without such fields, whether the module has tensors."""
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
    """Returns whether a field names a module: by ends of names at a dot, or one regular expression of whole names."""
    said = fields.left.get(key)
    ends = fields.texts(key)
    if said is None:
        return by_default
    if not isinstance(said, str):
        return lambda name: any(f".{name}".endswith(f".{end}") for end in ends)
    return lambda name: said == "all-linear" or matches(said, name, f"{fields.where}: {key}")


def scale_by_module(method: Update, by_site: BySite) -> dict[str, float]:
    scale = {}
    for site, names in by_site.items():
        scales = np.broadcast_to(method.scale_of(site), (len(names),))
        scale |= {name: float(s) for name, s in zip(names.values(), scales, strict=True) if name}
    return scale


def patterned(field: str, pattern: str, values: Mapping[str, int | float]) -> Said:
    """Returns the value that most modules have, and a pattern for each of the others."""
    common = max(values.values(), key=list(values.values()).count)
    return {field: common, pattern: {name: value for name, value in values.items() if value != common}}


def present(method: Method, leaves: Leaves, config: EncoderConfig, unused: float = 0.0) -> BySite:
    """Returns a method's modules, "" where all leaves are `unused` throughout, as if there were none."""
    assert isinstance(method, Update | IA3)
    names, layers = modules(config), method.layer_numbers(config)

    def is_used(site: Site, layer: int) -> bool:
        at = path_of(site, method.name).format(i=layer)
        return any(np.any(np.asarray(leaf) != unused) for path, leaf in leaves.items() if path.startswith(at))

    sites = list(map(Site, method.targets))
    used = {(site, layer) for site in sites for layer in layers if is_used(site, layer)}
    return {
        site: {i: names[SCALED_INPUTS.get(site, site)][i] if (site, i) in used or not used else "" for i in layers}
        for site in sites
    }


def target_modules(by_site: BySite, config: EncoderConfig) -> list[str]:
    """Returns short names if they suffice, else all modules one by one."""
    last = {site: names[0].rpartition(".")[2] for site, names in modules(config).items()}
    by_site = {SCALED_INPUTS.get(site, site): names for site, names in by_site.items()}
    named = [name for _, _, name in named_modules(by_site)]
    short = len(named) == len(by_site) * config.num_layers
    short = short and all(list(last.values()).count(last[site]) == 1 for site in by_site)
    return [last[site] for site in by_site] if short else named
