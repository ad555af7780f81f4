"""peft's form of LN tuning: whole LayerNorms, which replace the base's."""

from collections.abc import Iterable, Mapping

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.paths import ENCODER
from adakron_jax.architectures.stored import Stored
from adakron_jax.encoders import pretrained
from adakron_jax.interop.fields import Fields, Said
from adakron_jax.interop.heads import Base
from adakron_jax.interop.peft.form import Form
from adakron_jax.interop.peft.targets import chosen
from adakron_jax.interop.tensor_table import Entry, Leaves, write_tensors
from adakron_jax.methods import LNTuning


class LNTuningForm(Form[LNTuning]):
    peft_type, methods = "LN_TUNING", (LNTuning,)

    def read(self, fields: Fields, base: Base, tensors: Leaves) -> tuple[LNTuning, list[Entry]]:
        is_chosen, norms = chosen(fields, tensors), norms_of(base.leaves, base.config)
        given = [path for path, (module, _) in norms.items() if is_chosen(module)]
        if not given:
            known = sorted({module.rpartition(".")[2] for module, _ in norms.values()})
            raise ValueError(f"{fields.where}: target_modules names no LayerNorm; accepted: {', '.join(known)}")
        return LNTuning(), table(base.leaves, given, base.config)

    def write(self, method: LNTuning, leaves: Leaves, config: EncoderConfig) -> tuple[Said, Leaves]:
        norms = norms_of(leaves, config)
        said = {"peft_type": self.peft_type, "target_modules": sorted({module for module, _ in norms.values()})}
        return said, write_tensors(table(leaves, norms, config), leaves)


def norms_of(paths: Iterable[str], config: EncoderConfig) -> dict[str, tuple[str, str]]:
    """Maps the path of a LayerNorm's leaf to the published names of module and leaf."""
    paths = [path for path in paths if path.startswith(ENCODER) and LNTuning().trains(path)]
    names = {path: pretrained.published_name(path, config).rpartition(".") for path in paths}
    return {path: (module, leaf) for path, (module, _, leaf) in names.items()}


def table(leaves: Leaves | Mapping, paths: Iterable[str], config: EncoderConfig) -> list[Entry]:
    names = norms_of(paths, config).items()
    return [
        Entry(path, Stored(f"{module}.ln_tuning_layers.{leaf}", leaves[path].shape)) for path, (module, leaf) in names
    ]
