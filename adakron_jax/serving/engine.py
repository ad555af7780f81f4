"""The one thread that uses the bank: it takes requests as they come, a batch at a time."""

import asyncio
import collections
import concurrent.futures
import dataclasses
import logging
import math
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from adakron_jax import adapter
from adakron_jax.adapter import FILES, Card
from adakron_jax.bank import AdapterBank
from adakron_jax.bank.bank import Text
from adakron_jax.problems import Problem
from adakron_jax.serving.folders import AdapterFolders, Stamp, UnknownAdapter, stamp

log = logging.getLogger("adakron.serving")
AT_ONCE = 256  # most texts that the bank is given at once
FULL = 64  # texts at which a batch waits no longer for others
Predicted = tuple[Problem, Any]  # a prediction, or a list of entities
ROOM = 16  # adapters that may be added to the initial ones before a stack has to grow, which compiles


class Busy(Exception):
    """A request cannot be answered now, but may be soon: the queue is full, or an adapter is being replaced."""


class Failed(Exception):
    """An adapter raised an error, or returned numbers that are not finite, for valid texts."""


@dataclasses.dataclass(frozen=True)
class _Item:
    """A text in the queue, and the future of its prediction."""

    name: str
    text: Text
    with_logits: bool
    waiting: concurrent.futures.Future[Predicted] = dataclasses.field(default_factory=concurrent.futures.Future)

    def settle(self, result: Predicted | Exception) -> None:
        if self.waiting.done() or not self.waiting.set_running_or_notify_cancel():  # settled already, or cancelled
            return
        if isinstance(result, Exception):
            self.waiting.set_exception(result)
        else:
            self.waiting.set_result(result)


class Engine:
    """Predicts texts in batches.

    Attributes:
      base: the encoder's name.
      queue_limit: number of texts that may wait.
      resident: number of adapters kept in the bank; the least recently used ones are removed.
      patience: seconds that a text waits for others to share its batch.
    """

    def __init__(
        self,
        bank: AdapterBank,
        folders: AdapterFolders,
        base: str,
        *,
        queue_limit: int,
        resident: int,
        patience: float,
    ):
        self.bank, self.folders, self.base = bank, folders, base
        self.queue_limit, self.resident, self.patience = queue_limit, resident, patience
        self.used: collections.OrderedDict[str, Stamp] = collections.OrderedDict()
        self._queue: collections.deque[_Item] = collections.deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="bank", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Predicts what is in the queue, then ends."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    @property
    def waiting(self) -> int:
        """Number of texts in the queue."""
        return len(self._queue)

    async def predict(self, name: str, texts: Sequence[Text], with_logits: bool = False) -> list[Predicted]:
        """Returns an adapter's predictions, each with its problem.

        Raises:
          UnknownAdapter: there is no adapter of that name, or it cannot be served.
          Busy: the queue has no room for the texts, or the adapter is being replaced.
          Failed: the adapter raised an error.
        """
        self.folders[name]
        items = [_Item(name, text, with_logits) for text in texts]
        with self._changed:
            if self._stopping or len(self._queue) + len(items) > self.queue_limit:
                raise Busy(f"{len(self._queue)} texts are waiting; accepted: {self.queue_limit} at most")
            self._queue.extend(items)
            self._changed.notify()
        return list(await asyncio.gather(*(asyncio.wrap_future(item.waiting) for item in items)))

    def _run(self) -> None:
        while items := self._take():
            try:
                self._predict_all(items)
            except Exception as error:  # the callers have to hear of it, and the next batch is served
                for item in items:
                    item.settle(error)

    def _take(self) -> list[_Item]:
        """Returns the next texts, once there are enough or the first has waited long enough; none at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._stopping)
            until = time.monotonic() + self.patience
            while len(self._queue) < FULL and not self._stopping and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            taken, names = [], set()
            while self._queue and len(taken) < AT_ONCE:
                names.add(self._queue[0].name)
                if len(names) > self.resident:  # so that the bank does not grow for one batch
                    break
                taken.append(self._queue.popleft())
            return taken

    def _predict_all(self, items: Sequence[_Item]) -> None:
        """Settles all items; if a batch raises, adapter by adapter, so that one adapter fails no other's requests."""
        by_name: dict[str, list[_Item]] = {}
        for item in items:
            by_name.setdefault(item.name, []).append(item)
        for name in list(by_name):
            try:
                self._load(name)
            except Exception as error:
                if not isinstance(error, UnknownAdapter | Busy):
                    error = _failure(name, error)
                for item in by_name.pop(name):
                    item.settle(error)
        error = self._predict([item for group in by_name.values() for item in group])
        if error is not None and len(by_name) > 1:
            log.warning("a batch of %d adapters raised %r; they are run one by one", len(by_name), error)
        for name, group in by_name.items() if error is not None else ():
            guilty = error if len(by_name) == 1 else self._predict(group)
            if guilty is not None:
                failure = _failure(name, guilty)
                for item in group:
                    item.settle(failure)

    def _predict(self, items: Sequence[_Item]) -> Exception | None:
        """Settles the items, or returns what the bank raised."""
        with_logits = any(item.with_logits for item in items)
        try:
            predictions = self.bank.predict([(item.name, item.text) for item in items], with_logits=with_logits)
        except Exception as error:
            return error
        failures: dict[str, Failed] = {}
        for item, prediction in zip(items, predictions, strict=True):
            if all(map(math.isfinite, _numbers(prediction))):
                item.settle((self.bank.members[item.name].card.problem, prediction))
                continue
            if item.name not in failures:
                failures[item.name] = _failure(item.name, ValueError("its predictions are not finite"))
            item.settle(failures[item.name])
        return None

    def _load(self, name: str) -> None:
        """Loads an adapter into the bank as it is on disk now, in place of the least recently used if there are many.

        Raises:
          Busy: it is being replaced at this moment.
          UnknownAdapter: it cannot be loaded.
        """
        entry = self.folders[name]
        if self.used.get(name) != entry.stamp:
            while name not in self.used and len(self.used) >= self.resident:
                oldest = next(iter(self.used))
                self.bank.remove(oldest)
                del self.used[oldest]
            try:
                self.bank.add(name, entry.folder)
            except (ValueError, OSError) as error:
                if name not in self.used:
                    raise self._cannot_load(name, error) from None
                # The files are half replaced: the old adapter is used until the new one is whole.
            else:
                self.used[name] = entry.stamp
        self.used.move_to_end(name)

    def _cannot_load(self, name: str, error: Exception) -> Exception:
        """Returns the error for an adapter that is not in memory and cannot be loaded."""
        entry, refusal = self.folders[name], self.folders.refused.get(name)
        if refusal is not None:
            return UnknownAdapter(f"adapter {name!r} cannot be served: {refusal.reason}")
        if stamp(entry.folder) != entry.stamp:
            return Busy(f"adapter {name!r} is being replaced")
        self.folders.refuse(name, entry, error)
        try:
            self.folders[name]
        except UnknownAdapter as unknown:
            return unknown
        return Busy(f"adapter {name!r} is being replaced")


def _numbers(prediction: Any) -> Sequence[float]:
    """Returns the scores of a prediction, or of entities."""
    if isinstance(prediction, list):
        return [entity.score for entity in prediction]
    return prediction.score, *prediction.probabilities.values()


def _failure(name: str, error: Exception) -> Failed:
    """Returns what clients are told of an error that the log holds in full."""
    log.error("adapter %r raised an error; its requests are answered with 500", name, exc_info=error)
    return Failed(f"adapter {name!r:.200} raised an error on valid texts; the server's log describes it")


def make_engine(
    roots: Sequence[Path], base: str = "", *, dtype: Any = "auto", queue_limit: int, resident: int, patience: float
) -> Engine:
    """Makes the engine for adapters in folders; nothing is compiled before the folders are scanned.

    Args:
      base: the encoder; by default that of the first adapter that can be read.
      dtype: the precision to compute in, as in `AdapterBank`.

    Raises:
      ValueError: a folder does not exist, there is no adapter that names the encoder, or the encoder cannot be read.
    """
    for root in roots:
        if not root.is_dir():
            raise ValueError(f"{root}: no such folder; accepted: an adapter's, a run's, or one with many of them")
    folders = AdapterFolders(roots, "")
    at_first = folders.folders()
    base = base or _first_base(roots[0], at_first.values())
    bank = AdapterBank(base, dtype=dtype)

    def prepare(card: Card) -> None:
        bank.prepare(card, min(resident, len(at_first) + ROOM))

    folders.fingerprint, folders.prepare = bank.fingerprint, prepare
    return Engine(bank, folders, base, queue_limit=queue_limit, resident=resident, patience=patience)


def _first_base(root: Path, folders: Iterable[Path]) -> str:
    """Returns the encoder of the first adapter whose card can be read."""
    problem = f"{root}: no adapter in it; accepted: adapters, or --base to wait for some"
    for folder in folders:
        try:
            return adapter.read_card(folder / FILES[0]).base
        except ValueError as error:
            problem = str(error)
    raise ValueError(problem)
