"""peft's forms of VeRA, RandLoRA and VB-LoRA: what all modules share, and a few numbers for each."""

import math
from collections.abc import Callable
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.stored import Stored
from adakron_jax.interop.fields import Fields, Said, Setting
from adakron_jax.interop.peft.form import Ending, Form, M, Widths
from adakron_jax.interop.peft.targets import BySite, Targets, named_modules
from adakron_jax.interop.tensor_table import Entry, Leaves, names_in
from adakron_jax.methods import RandLoRA, VBLoRA, VeRA
from adakron_jax.methods.updates.fourierft import SEEDS
from adakron_jax.methods.updates.lora import largest
from adakron_jax.methods.updates.projections import count
from adakron_jax.splice import path_of_shared

Draw = Callable[[tuple[int, ...], float], Float[np.ndarray, "..."]]  # takes a shape and a bound
_INDICES, _ORDER = "_topk_indices", "_order"


class ProjectingForm(Form[M]):
    """The base class for VeRA and RandLoRA, whose shared projections may be left out of the file and drawn again.

    Attributes:
      vouching: the end of the names of tensors whose first side is r.
    """

    vouching: ClassVar[str]
    inert = {"save_projection": True, "projection_prng_key": 0}

    def drawn(self, method: M, config: EncoderConfig, draw: Draw) -> Leaves:
        """Draws the projections as peft does on a CPU."""
        raise NotImplementedError

    def made(self, fields: Fields, targets: Targets, settings: Said, widths: Widths, config: EncoderConfig) -> M:
        saved, seed = fields.flag("save_projection", default=True), fields.whole("projection_prng_key", 0, default=0)
        if seed >= SEEDS:
            raise fields.refuse("projection_prng_key", seed, f"0 to {SEEDS - 1}")
        if not saved:  # else it does not matter how they were drawn
            fields.must(sparse=False, very_sparse=False)
        method = super().made(fields, targets, settings, widths, config)
        ranks = (tensor.shape[:1] for name, tensor in targets.tensors.items() if name.endswith(self.vouching))
        if not saved and (settings["r"],) in ranks:  # nothing is allocated unless a tensor confirms its size
            drawn = self.drawn(method, config, drawing(seed))
            for name in names_in(self.shared(method, targets.by_site, config)):
                targets.tensors.setdefault(name, drawn[name.rpartition(".")[2]])
        return method


def drawing(seed: int) -> Draw:
    """Returns a function that draws uniformly from -bound to bound, as torch on a CPU: 24 of 32 bits of MT19937."""
    generator = np.random.RandomState(seed)  # noqa: NPY002  # torch's generator

    def draw(shape: tuple[int, ...], bound: float) -> Float[np.ndarray, "..."]:
        bits, bound = generator.randint(0, SEEDS, shape, dtype=np.uint32) % (1 << 24), float(np.float32(bound))
        return 2 * bound * (bits / (1 << 24)) - bound

    return draw


class VeRAForm(ProjectingForm[VeRA]):
    peft_type, methods, vouching = "VERA", (VeRA,), ".vera_lambda_d"
    settings = {"r": Setting("r")}
    fixed = {"bias": "none", "fan_in_fan_out": False}
    inert = {"vera_dropout": 0.0, **ProjectingForm.inert}
    ignored = ("d_initial", "init_weights")
    leaves = {"lambda_d": Ending(".vera_lambda_d"), "lambda_b": Ending(".vera_lambda_b")}

    def shared(self, method: VeRA, by_site: BySite, config: EncoderConfig) -> list[Entry]:
        at, (inputs, outputs) = path_of_shared(method.name), largest(method.targets, config)
        return [
            Entry(f"{at}vera_a", Stored("vera_A", (inputs, method.r), "transposed")),
            Entry(f"{at}vera_b", Stored("vera_B", (method.r, outputs), "transposed")),
        ]

    def drawn(self, method: VeRA, config: EncoderConfig, draw: Draw) -> Leaves:
        inputs, outputs = largest(method.targets, config)
        shapes = {"vera_A": (method.r, inputs), "vera_B": (outputs, method.r)}
        return {name: draw(shape, math.sqrt(6 / shape[1])).astype(np.float32) for name, shape in shapes.items()}


class RandLoRAForm(ProjectingForm[RandLoRA]):
    peft_type, methods, vouching = "RANDLORA", (RandLoRA,), ".randlora_lambda"
    settings = {"r": Setting("r"), "randlora_alpha": Setting("alpha", float)}
    fixed = {"bias": "none", "fan_in_fan_out": False}
    inert = {"randlora_dropout": 0.0, **ProjectingForm.inert}
    ignored = ("init_weights", "sparse", "very_sparse")
    leaves = {"lambda": Ending(".randlora_lambda"), "gamma": Ending(".randlora_gamma")}

    def shared(self, method: RandLoRA, by_site: BySite, config: EncoderConfig) -> list[Entry]:
        """Places the bases once for all modules, and once more in each."""
        r, (smaller, larger), entries = method.r, method.sides(config), []
        for at in ("", *(f"{name}." for _, _, name in named_modules(by_site))):
            a = Stored(f"{at}randlora_A", (r, smaller), "spread")
            b = Stored(f"{at}randlora_B", (larger, count(smaller, r), r))
            entries += [Entry(f"{path_of_shared(method.name)}randlora_{leaf}", x) for leaf, x in (("a", a), ("b", b))]
        return entries

    def drawn(self, method: RandLoRA, config: EncoderConfig, draw: Draw) -> Leaves:
        """Draws in bfloat16: A, then the bases of B one after another; each is divided by its deviation."""
        r, (smaller, larger) = method.r, method.sides(config)

        def narrow(shape: tuple[int, ...]) -> np.ndarray:
            bound = 1 / math.sqrt(shape[-1])
            drawn, most = draw(shape, bound).astype(np.float32).astype(jnp.bfloat16), np.asarray(bound, jnp.bfloat16)
            return np.where(drawn >= most, -most, drawn)  # torch's range has no upper end

        a = narrow((r, 1, smaller))
        b = np.stack([narrow((larger, r)) for _ in range(count(smaller, r))], axis=1)
        deviations = (x.std(ddof=1, dtype=np.float64).astype(x.dtype) for x in (a, b))
        divided = (x / deviation for x, deviation in zip((a, b), deviations, strict=True))
        return dict(zip(("randlora_A", "randlora_B"), (x.astype(np.float32) for x in divided), strict=True))


class VBLoRAForm(Form[VBLoRA]):
    """In the form `topk`, peft stores the indices of the mixed vectors, and we an order of all: see `order_of`."""

    peft_type, methods = "VBLORA", (VBLoRA,)
    settings = {
        "r": Setting("r"),
        "num_vectors": Setting("vectors"),
        "vector_length": Setting("vector_length"),
        "topk": Setting("topk"),
        "save_only_topk_weights": Setting("form", {False: "logits", True: "topk"}, default=False),
    }
    fixed = {"bias": "none", "fan_in_fan_out": False}
    inert = {"vblora_dropout": 0.0}
    ignored = ("init_logits_std", "init_vector_bank_bound")
    leaves = {
        f"{kind}_{side.lower()}": Ending(f".vblora_logits_{side}{ending}")
        for side in "AB"
        for kind, ending in (("logits", ""), ("order", _ORDER), ("weights", "_topk_weights"))
    }

    def shared(self, method: VBLoRA, by_site: BySite, config: EncoderConfig) -> list[Entry]:
        bank = Stored("vblora_vector_bank", (method.vectors, method.vector_length))
        return [Entry(f"{path_of_shared(method.name)}vector_bank", bank)]

    def made(self, fields: Fields, targets: Targets, settings: Said, widths: Widths, config: EncoderConfig) -> VBLoRA:
        targets.refuse_gaps("VB-LoRA")
        method = super().made(fields, targets, settings, widths, config)
        for name in [name for name in targets.tensors if name.endswith(_INDICES)]:
            order = order_of(name, targets.tensors.pop(name), settings["topk"], settings["vectors"])
            targets.tensors[name.removesuffix(_INDICES) + _ORDER] = order
        return method

    def write(self, method: VBLoRA, leaves: Leaves, config: EncoderConfig) -> tuple[Said, Leaves]:
        weights = [np.asarray(leaf) for path, leaf in leaves.items() if "/weights_" in path]
        if any((leaf <= 0).any() or (leaf.sum(axis=-1) >= 1).any() for leaf in weights):
            raise ValueError(
                "weights of the form topk are not all between 0 and 1; accepted for peft's VB-LoRA: a softmax's"
            )
        said, tensors = super().write(method, leaves, config)
        kind = np.uint8 if method.vectors < 1 << 8 else np.int16 if method.vectors < 1 << 15 else np.int32
        for name in [name for name in tensors if name.endswith(_ORDER)]:
            places = np.argsort(-tensors.pop(name), axis=-1, kind="stable")[..., : method.topk]
            tensors[name.removesuffix(_ORDER) + _INDICES] = np.ascontiguousarray(places.astype(kind))
        return said, tensors


def order_of(name: str, at: np.ndarray, topk: int, vectors: int) -> np.ndarray:
    """Converts the indices of the mixed vectors to our order of all: k at the first one's index, 0 at unmixed ones.

    Raises:
      ValueError: they are not indices of `topk` different vectors.
    """
    places = np.sort(at, axis=-1) if at.ndim else at
    valid = at.ndim > 0 and at.dtype.kind in "iu" and at.shape[-1] == topk
    if not valid or (places < 0).any() or (places >= vectors).any() or (np.diff(places) == 0).any():
        raise ValueError(f"{name} holds other indices; accepted: {topk} different ones from 0 to {vectors - 1}")
    order = np.zeros((*at.shape[:-1], vectors), np.float32)
    np.put_along_axis(order, at.astype(np.int64), np.arange(topk, 0, -1).astype(np.float32), axis=-1)
    return order
