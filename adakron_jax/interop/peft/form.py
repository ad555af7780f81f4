"""What one of peft's kinds of adapter is: the fields of its description, and where its leaves lie.

A kind is read and written by the same tables. That of LoRA has, for every module,

    lora_a [in, r]        {module}.lora_A.weight [r, in]
    lora_b [r, out]       {module}.lora_B.weight [out, r]

with r the `r` of the description, or what its `rank_pattern` says of the module. A leaf of ours is as large as the
largest r; the rest of it is zero. What else there is of shapes the methods say.
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
    """What ends the name of a module's tensor, how the leaf lies there, and which of its axes is the width."""

    name: str
    layout: Layout = "same"
    width: int | None = None


Widths = Mapping[str, int]  # of every module
M = TypeVar("M", bound=Method)


class Form(Generic[M]):
    """One of peft's kinds of adapter.

    Attributes:
      peft_type: peft's name of it.
      methods: ours; the first is what its description means where it says no other.
      settings: what it says of the method.
      width: the field of `settings` that may differ by module, and the field that says so.
      leaves: of a module, by our name; a form of the method may lack some.
      fixed: fields with one value that is supported.
      inert: fields that say nothing of what a trained adapter computes, with what is written.
      ignored: such fields that are not written.
      unused: the value of leaves that change nothing.
      wrapper: what stands before a module's name in a tensor's.
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
        """As `leaves`, of the modules of a site."""
        del method, site
        return self.leaves

    def shared(self, method: M, by_site: BySite, config: EncoderConfig) -> list[Entry]:
        """The leaves that all modules share."""
        del method, by_site, config
        return []

    def made(self, fields: Fields, targets: Targets, settings: Said, widths: Widths, config: EncoderConfig) -> M:
        """The method of what the description says; ValueError if that is another than the methods can be."""
        del fields, widths
        method = self.methods[0](targets=targets.sites, layers=targets.layers, **settings)  # pyright: ignore
        method.splices(method.seen_of(config))  # refuses what does not divide a module
        return cast(M, method)

    def read(self, fields: Fields, base: Base, tensors: Leaves) -> tuple[M, list[Entry]]:
        """The method, and where its leaves lie."""
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
        """Where the leaves lie."""
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
        """What the description says besides its tables."""
        del by_site, widths
        assert isinstance(method, Update)
        if others := set(method.scales) - {method.default_scale}:
            kind = f"accepted for peft's {type(method).__name__}: {method.default_scale:g}"
            raise ValueError(f"method.scales has {min(others)}; {kind}")
        return {}

    def write(self, method: M, leaves: Leaves, config: EncoderConfig) -> tuple[Said, Leaves]:
        """The description, and the file's tensors.

        Raises:
          ValueError: peft's form of the method cannot say what ours does.
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
        """How much of its leaves' width each module uses: what is all zero at the end is not."""
        widths = {}
        for site, layer, name in named_modules(by_site):
            axes = []
            for leaf, stored in self.stored(method, site).items():
                path = f"{path_of(site, method.name)}{leaf}".format(i=layer)
                if stored.width is not None and path in leaves:
                    axes.append(np.moveaxis(np.asarray(leaves[path]), stored.width, 0))
            widths[name] = used(*axes) or full
        if max(widths.values(), default=full) < full:  # as no file would say how wide ours is
            return dict.fromkeys(widths, full)
        return widths


@functools.cache
def _shapes(config: EncoderConfig, method: Method) -> dict[str, Any]:
    return flatten(SequenceClassifier(config, method).shapes())
