"""A server's parts, put together."""

from collections.abc import Sequence
from pathlib import Path

from adakron_jax import adapter
from adakron_jax.adapter import Card
from adakron_jax.bank import AdapterBank
from adakron_jax.serving.engine import Engine
from adakron_jax.serving.shelf import FILES, Shelf

ROOM = 16  # adapters that may be added to those found at first before a stack has to grow, which compiles


def make_engine(roots: Sequence[Path], base: str = "", *, queue_limit: int, resident: int, patience: float) -> Engine:
    """The engine over adapters in folders; nothing is compiled before the shelf is scanned.

    Args:
      base: the encoder; by default the first adapter's.

    Raises:
      ValueError: a folder does not exist, there is no adapter to say which encoder, or that cannot be read.
    """
    for root in roots:
        if not root.is_dir():
            raise ValueError(f"{root}: no such folder; accepted: an adapter's, a run's, or one with many of them")
    shelf = Shelf(roots, "")
    folders = shelf.folders()
    if not base:
        if not folders:
            raise ValueError(f"{roots[0]}: no adapter in it; accepted: adapters, or --base to wait for some")
        base = adapter.read_card(next(iter(folders.values())) / FILES[0]).base
    bank = AdapterBank(base)

    def prepare(card: Card) -> None:
        bank.prepare(card, min(resident, len(folders) + ROOM))

    shelf.fingerprint, shelf.prepare = bank.fingerprint, prepare
    return Engine(bank, shelf, queue_limit=queue_limit, resident=resident, patience=patience)
