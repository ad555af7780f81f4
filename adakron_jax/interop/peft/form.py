"""The base class of peft's kinds of adapter: the fields of a description, and the places of the leaves.

A kind is read and written by the same tables. LoRA's has, for every module,

    lora_a [in, r]        {module}.lora_A.weight [r, in]
    lora_b [r, out]       {module}.lora_B.weight [out, r]

where r is the `r` of the description, or the module's entry in its `rank_pattern`. A leaf of ours is as large as the
largest r; the rest of it is zero. All other shapes come from the methods.
"""

import functools
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar, cast

import numpy as np

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.paths import without_layer
from adakron_jax.architectures.stored import Layout
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.interop.fields import Fields, Said, Settings, written
from adakron_jax.interop.heads import Base, modules
from adakron_jax.interop.peft.targets import BySite, Targets, named_modules, patterned, present, target_modules
from adakron_jax.interop.tensor_table import Entry, Leaves, in_layers, used, write_tensors
from adakron_jax.methods.updates.lora import Update
from adakron_jax.params import flatten
from adakron_jax.splice import Method, Site, path_of


class Ending(NamedTuple):
    """The ending of a module's tensor name, the leaf's layout in the tensor, and the axis that is the width."""

    name: str
    layout: Layout = "same"
    width: int | None = None


Widths = Mapping[str, int]  # by module
M = TypeVar("M", bound=Method)


class Form(Generic[M]):
    """One of peft's kinds of adapter.

    Attributes:
      peft_type: peft's name of it.
      methods: our methods; the first is meant if the description names no other.
      settings: the description's fields of the method.
      width: the field of `settings` that may differ by module, and the field that lists the differences.
      leaves: a module's leaves, by our names; some forms of the method lack some.
      fixed: fields with one supported value.
      inert: fields that do not affect what a trained adapter computes, with the value that is written.
      ignored: such fields that are not written.
      unused: the value of leaves that change nothing.
      wrapper: prefix of a module's name in a tensor's name.
    """

    peft_type: ClassVar[str]
    methods: ClassVar[tuple[type[Method], ...]]
    settings: ClassVar[Settings] = {}
    width: ClassVar[tuple[str, str]] = ("", "")
    leaves: ClassVar[Mapping[str, Ending]] = {}
    fixed: ClassVar[Said] = {}
    inert: ClassVar[Said] = {}
    ignored: ClassVar[tuple[str, ...]] = ()
    unused: ClassVar[float] = 0.0
    wrapper: ClassVar[str] = "base_model.model."

    def stored(self, method: M, site: Site) -> Mapping[str, Ending]:
        """Returns `leaves` for the modules of a site."""
        del method, site
        return self.leaves

    def shared(self, method: M, by_site: BySite, config: EncoderConfig) -> list[Entry]:
        """Returns the entries of leaves that all modules share."""
        del method, by_site, config
        return []

    def made(self, fields: Fields, targets: Targets, settings: Said, widths: Widths, config: EncoderConfig) -> M:
        """Makes the method that the description means; ValueError if the methods cannot express it."""
        del fields, widths
        method = self.methods[0](targets=targets.sites, layers=targets.layers, **settings)  # pyright: ignore
        method.splices(method.seen_of(config))  # refuses sizes that do not divide a module's
        return cast(M, method)

    def read(self, fields: Fields, base: Base, tensors: Leaves) -> tuple[M, list[Entry]]:
        """Reads the method, and the places of its leaves."""
        targets, config = Targets(fields, modules(base.config), tensors), base.config
        settings, widths = fields.settings(self.settings), {}
        if self.width[0]:
            name = self.settings[self.width[0]].name
            patterns = fields.table(self.width[1], 1)
            widths = {module: int(x) for module, x in targets.by_pattern(patterns, settings[name]).items()}
            settings[name] = max(widths.values())
        method = self.made(fields, targets, settings, widths, config)
        fields.must(**self.fixed)
        fields.ignore(*self.inert, *self.ignored)
        return method, self.table(method, targets.by_site, widths, config)

    def table(self, method: M, by_site: BySite, widths: Widths, config: EncoderConfig) -> list[Entry]:
        """Returns the places of the leaves."""
        entries = self.shared(method, by_site, config)
        shapes = {without_layer(path): leaf.shape for path, leaf in _shapes(config, method).items()}
        for site, names in by_site.items():
            at = path_of(site, method.name)
            for leaf, stored in self.stored(method, site).items():
                if shape := shapes.get(f"{at}{leaf}"):
                    sizes = [widths if axis == stored.width else size for axis, size in enumerate(shape)]
                    entries += in_layers(f"{at}{leaf}", names, stored.name, tuple(sizes), stored.layout, self.unused)
        return entries

    def said(self, method: M, by_site: BySite, widths: Widths) -> Said:
        """Returns the description's fields beyond its tables."""
        del by_site, widths
        assert isinstance(method, Update)
        if others := set(method.scales) - {method.default_scale}:
            kind = f"accepted for peft's {type(method).__name__}: {method.default_scale:g}"
            raise ValueError(f"method.scales has {min(others)}; {kind}")
        return {}

    def write(self, method: M, leaves: Leaves, config: EncoderConfig) -> tuple[Said, Leaves]:
        """Returns the description, and the file's tensors.

        Raises:
          ValueError: peft's form of the method cannot express ours.
        """
        by_site, widths = present(method, leaves, config, self.unused), {}
        said = {"peft_type": self.peft_type, **written(self.settings, method)}
        if self.width[0]:
            full = getattr(method, self.settings[self.width[0]].name)
            widths = self.widths(method, by_site, leaves, full, config)
            said |= patterned(*self.width, widths)
        said |= {"target_modules": target_modules(by_site, config), **self.fixed, **self.inert}
        said |= self.said(method, by_site, widths)
        return said, write_tensors(self.table(method, by_site, widths, config), leaves)

    def widths(self, method: M, by_site: BySite, leaves: Leaves, full: int, config: EncoderConfig) -> dict[str, int]:
        """Returns how much of its leaves' width each module uses: zeros at the end do not count."""
        widths = {}
        for site, layer, name in named_modules(by_site):
            axes = []
            for leaf, stored in self.stored(method, site).items():
                path = f"{path_of(site, method.name)}{leaf}".format(i=layer)
                if stored.width is not None and path in leaves:
                    axes.append(np.moveaxis(np.asarray(leaves[path]), stored.width, 0))
            widths[name] = used(*axes) or full
        if max(widths.values(), default=full) < full:  # else no file would say how wide ours is
            return dict.fromkeys(widths, full)
        return widths


@functools.cache
def _shapes(config: EncoderConfig, method: Method) -> dict[str, Any]:
    return flatten(SequenceClassifier(config, method).shapes())
