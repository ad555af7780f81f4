"""Merging of several adapters of one method and one encoder into one.

Additive updates, W + ΔW, and trained leaves of the encoder, θ + δ, are combined in any of the ways below. All other
leaves, and the head, are averaged leaf by leaf.

linear   Σ w ΔW
svd      the best approximation of that sum at LoRA's rank
ties     (Yadav et al. 2023) keeps only the largest entries of each ΔW; then, for every entry, takes the mean over the
         adapters whose sign is the sum's
dare     (Yu et al. 2024) keeps random entries of each ΔW, scaled up to make up for the others; then takes the sum
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeGuard

import numpy as np

from adakron_jax import adapter
from adakron_jax.adapter import Card
from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.paths import CLASSIFIER
from adakron_jax.encoders import pretrained
from adakron_jax.hub.adapters import locate_adapter
from adakron_jax.hub.models import locate
from adakron_jax.methods import C3A, FourierFT, LoRA, MiSS
from adakron_jax.methods.updates.lora import Update, below, sizes
from adakron_jax.params import flatten, graft
from adakron_jax.splice import Method, Site, is_added, is_trainable, path_of, path_of_shared

WAYS = ("linear", "ties", "dare", "svd")
Leaves = Mapping[str, np.ndarray]
_LINEAR = (C3A, FourierFT, MiSS)  # ΔW is linear in the leaves, so the leaves themselves are combined


@dataclasses.dataclass
class Way:
    """How tensors are combined.

    Attributes:
      how: one of WAYS.
      weights: one weight per adapter.
      density: the share of each tensor's entries that `ties` and `dare` keep.
      seed: the seed that decides which entries `dare` keeps.
    """

    how: str
    weights: tuple[float, ...]
    density: float
    seed: int

    def __post_init__(self):
        if self.how not in WAYS:
            raise ValueError(f"how is {self.how!r}; accepted: {', '.join(WAYS)}")
        if not all(map(math.isfinite, self.weights)):
            raise ValueError(f"weights is {self.weights}; accepted: finite numbers")
        if not 0 < self.density <= 1:
            raise ValueError(f"density is {self.density}; accepted: above 0, at most 1")
        self._rng = np.random.default_rng(self.seed)

    def combined(self, tensors: Sequence[np.ndarray]) -> np.ndarray:
        """Combines several tensors into one, float64. Copies of one tensor give that tensor times the sum of the
        weights, with `linear` and `svd`, and with the others at density 1."""
        kept, count = [np.asarray(x, np.float64) for x in tensors], 1
        if self.how == "dare" and self.density < 1:
            kept = [np.where(self._rng.random(x.shape) < self.density, x / self.density, 0) for x in kept]
        elif self.how == "ties":
            kept = [_largest(x, self.density) for x in kept]
            sign = np.where(sum(kept) >= 0, 1, -1)
            kept = [np.where(np.sign(x) == sign, x, 0) for x in kept]
            count = np.maximum(sum((x != 0).astype(int) for x in kept), 1) / len(kept)
        return np.asarray(sum(w * x for w, x in zip(self.weights, kept, strict=True)) / count)

    def averaged(self, tensors: Sequence[np.ndarray]) -> np.ndarray:
        """Returns the tensors' mean by the weights, which are taken as shares of their sum.

        Raises:
          ValueError: the sum of the weights is not above 0.
        """
        if (whole := sum(self.weights)) <= 0:
            raise ValueError(f"weights is {self.weights}; accepted where leaves are averaged: a sum above 0")
        return np.asarray(
            sum(w / whole * np.asarray(x, np.float64) for w, x in zip(self.weights, tensors, strict=True))
        )


def _largest(x: np.ndarray, density: float) -> np.ndarray:
    """Returns x with all but its largest entries set to zero."""
    flat = x.ravel().copy()
    flat[np.argsort(-np.abs(flat), kind="stable")[int(density * x.size) :]] = 0
    return flat.reshape(x.shape)


def merge_adapters(
    adapters: Sequence[str | Path],
    out: str | Path,
    *,
    weights: Sequence[float] = (),
    how: str = "linear",
    head: str | Path = "",
    density: float = 0.5,
    rank: int = 0,
    seed: int = 0,
) -> Card:
    """Merges several adapters into one, writes it, and returns its card.

    >>> import adakron_jax as ak
    >>> for seed in (0, 1):
    ...     model, params = ak.from_pretrained("bert-base-uncased", ak.LoRA(r=4), key=jax.random.key(seed))
    ...     ak.save_adapter(f"reviews-{seed}", model, params)
    >>> card = ak.merge_adapters(["reviews-0", "reviews-1"], "merged", how="svd")
    >>> card.method.r
    4

    Args:
      adapters: folders of adapters or runs, or `hub:OWNER/NAME`.
      out: the folder to write.
      weights: one weight per adapter; by default each is 1 over their number. Additive updates are summed with these
        weights; leaves that are averaged take them as shares of their sum.
      how: `linear`, `ties`, `dare` or `svd`; all but `linear` are for additive updates and the encoder's own leaves.
      head: the adapter, as named in `adapters`, whose head is taken; by default heads are averaged, if they predict the
        same.
      density: the share of each update's entries that `ties` and `dare` keep.
      rank: the rank of the LoRA that results from updates that are not linear in the trained leaves. For LoRA the
        default is the sum of all ranks with `linear`, which is exact, else the largest rank.
      seed: the seed that decides which entries `dare` keeps.

    Raises:
      ValueError: an adapter cannot be read, the adapters are not compatible, or an argument is not valid for them.
    """
    names = [str(name) for name in adapters]
    if len(names) < 2:
        raise ValueError(f"adapters is {names}; accepted: two or more")
    weights = tuple(weights) or (1 / len(names),) * len(names)
    if len(weights) != len(names):
        raise ValueError(f"{len(weights)} weights for {len(names)} adapters; accepted: one for each adapter")
    if rank < 0:
        raise ValueError(f"rank is {rank}; accepted: at least 0, which is the default")
    way = Way(how, weights, density, seed)
    folders = [locate_adapter(name) for name in names]
    if Path(out).resolve() in (folder.resolve() for folder in folders):
        raise ValueError(f"out is {str(out)!r}, one of the adapters to merge; accepted: another folder")
    leaves, cards = zip(*((flatten(tree), card) for tree, card in map(adapter.load, folders)), strict=True)
    _check_alike(names, cards)
    chosen = _head_of(names, cards, str(head))
    method, merged = _merged(cards, leaves, way, rank)
    for path, leaf in leaves[chosen].items():
        if path.startswith(f"{CLASSIFIER}/"):
            merged[path] = leaf if head else way.averaged([of_all[path] for of_all in leaves])
    card = dataclasses.replace(cards[chosen], method=method, task=f"merged of {len(names)}", scores={})
    merged = {path: np.asarray(leaf, np.float32) for path, leaf in merged.items()}
    adapter.save(Path(out), graft(adapter.portable_shapes(card), merged), card)
    return card


def _check_alike(names: Sequence[str], cards: Sequence[Card]) -> None:
    """Raises ValueError unless all adapters are of one encoder and one method."""
    first = cards[0]
    for name, card in zip(names[1:], cards[1:], strict=True):
        card.check_encoder(first.fingerprint, f"{first.base}, as {names[0]}", name)
        if _what(card.method) != _what(first.method):
            raise ValueError(f"{name}: method is {card.method}, that of {names[0]} {first.method}; accepted: the same")


def _what(method: Method) -> object:
    """Returns what must agree between methods; LoRAs of other ranks and scales are other forms of one update."""
    return (method.targets, method.layers) if type(method) is LoRA else method


def _head_of(names: Sequence[str], cards: Sequence[Card], head: str) -> int:
    """Returns the number of the adapter that decides what the head is.

    Raises:
      ValueError: heads differ and none is chosen, or the chosen one is not among the adapters.
    """
    if head:
        if head not in names:
            raise ValueError(f"head is {head!r}; accepted: {', '.join(names)}")
        return names.index(head)
    said = [(card.problem, card.pooling, card.head) for card in cards]
    other = next((i for i, what in enumerate(said) if what != said[0]), None)
    if other is not None:
        heads = [
            f"{cards[i].problem.described()} (form {cards[i].head}, pooling {cards[i].pooling})" for i in (0, other)
        ]
        raise ValueError(
            f"the head of {names[0]} is {heads[0]}, that of {names[other]} {heads[1]}; accepted: alike, or one chosen "
            f"with --head, as in --head {names[0]}"
        )
    return 0


def _merged(
    cards: Sequence[Card], leaves: Sequence[Leaves], way: Way, rank: int
) -> tuple[Method, dict[str, np.ndarray]]:
    """Returns the merged method, and all leaves but the head's."""
    method, config = cards[0].method, cards[0].encoder
    linear = isinstance(method, _LINEAR) and not rank and way.how != "svd"
    updates = [card.method for card in cards if _is_additive(card.method)]
    if updates and not linear and (type(method) is LoRA or rank or way.how != "linear"):
        return _as_lora(updates, leaves, way, rank, config)
    if rank:
        raise ValueError(f"rank is {rank}, which is for additive updates; accepted for {method.name}: none")
    paths = [path for path in leaves[0] if not path.startswith(f"{CLASSIFIER}/")]
    by_path = {path: [of_all[path] for of_all in leaves] for path in sorted(paths)}
    if linear:
        return method, {path: way.combined(tensors) for path, tensors in by_path.items()}
    if by_path and not any(map(is_added, by_path)) and way.how != "svd":
        base = pretrained.read(locate(cards[0].base), config)
        return method, {
            path: base[path] + way.combined([x - base[path] for x in tensors]) for path, tensors in by_path.items()
        }
    if way.how != "linear":
        raise ValueError(f"how is {way.how}; accepted for {method.name}, whose leaves are averaged: linear")
    trains = is_trainable(method)
    for path, (first, *others) in by_path.items():
        if not trains(path) and not all(np.array_equal(first, other) for other in others):
            raise ValueError(
                f"{path} is frozen, and not the same in all; accepted for {method.name}: adapters that began as one"
            )
    return method, {path: way.averaged(tensors) if trains(path) else tensors[0] for path, tensors in by_path.items()}


def _is_additive(method: Method) -> TypeGuard[Update]:
    """Returns whether the method adds a matrix to a kernel that does not depend on the kernel."""
    if not isinstance(method, Update):
        return False
    return type(method).update is not Update.update and type(method).fused is Update.fused


def _as_lora(
    methods: Sequence[Update], leaves: Sequence[Leaves], way: Way, rank: int, config: EncoderConfig
) -> tuple[Method, dict[str, np.ndarray]]:
    """Returns a LoRA of the combined updates, and its leaves."""
    first = methods[0]
    ranks = [method.r for method in methods if isinstance(method, LoRA)]
    if not ranks and not rank:
        raise ValueError(f"how is {way.how}, which turns {first.name} into a LoRA; accepted: with a rank (--rank)")
    layers, sites = first.layer_numbers(config), list(map(Site, first.targets))
    least = min(min(sizes(site, config)) for site in sites)
    exact = way.how == "linear" and not rank
    rank = min(least, rank or (sum(ranks) if exact else max(ranks)))
    merged: dict[str, np.ndarray] = {}
    shared = [below(of_all, path_of_shared(first.name)) for of_all in leaves]
    for (number, layer), site in itertools.product(enumerate(layers), sites):
        updates = []
        for method, of_all, of_shared in zip(methods, leaves, shared, strict=True):
            scale = np.broadcast_to(method.scale_of(site), (len(layers),))[number]
            added = below(of_all, path_of(site, method.name).format(i=layer))
            updates.append(float(scale) * method.update(added, of_shared, sizes(site, config)))
        left, values, right = np.linalg.svd(way.combined(updates), full_matrices=False)
        roots = np.sqrt(values[:rank])
        at = path_of(site, LoRA.name).format(i=layer)
        merged |= {f"{at}lora_a": left[:, :rank] * roots, f"{at}lora_b": roots[:, None] * right[:rank]}
    return LoRA(first.targets, r=rank, alpha=float(rank), layers=first.layers), merged
