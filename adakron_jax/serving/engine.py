"""The one thread that owns the bank: it takes requests as they come, a batch at a time."""

import asyncio
import collections
import dataclasses
import threading
import time
from collections.abc import Sequence

from adakron_jax.bank import AdapterBank
from adakron_jax.bank.bank import Text
from adakron_jax.problems import Prediction
from adakron_jax.serving.shelf import Entry, Shelf, Stamp, stamp

AT_ONCE = 256  # texts that the bank is asked at once
FULL = 64  # texts that are not kept waiting for others


class Busy(Exception):
    """It cannot be answered now, but may be soon: the queue is full, or an adapter is being replaced."""


@dataclasses.dataclass(frozen=True)
class _Item:
    """A text in the queue, and who waits for its prediction."""

    name: str
    text: Text
    waiting: asyncio.Future[tuple[Entry, Prediction]]
    loop: asyncio.AbstractEventLoop

    def settle(self, result: tuple[Entry, Prediction] | Exception) -> None:
        self.loop.call_soon_threadsafe(_settle, self.waiting, result)


def _settle(waiting: asyncio.Future, result: tuple[Entry, Prediction] | Exception) -> None:
    if waiting.done():  # whoever asked has gone
        return
    if isinstance(result, Exception):
        waiting.set_exception(result)
    else:
        waiting.set_result(result)


class Engine:
    """Answers texts in batches.

    Attributes:
      queue_limit: texts that may wait.
      resident: adapters kept in the bank; the least recently used ones leave.
      patience: seconds that a text waits for others to share its batch.
    """

    def __init__(self, bank: AdapterBank, shelf: Shelf, *, queue_limit: int, resident: int, patience: float):
        self.bank, self.shelf = bank, shelf
        self.queue_limit, self.resident, self.patience = queue_limit, resident, patience
        self.used: collections.OrderedDict[str, Stamp] = collections.OrderedDict()
        self._queue: collections.deque[_Item] = collections.deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="bank", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Answers what is in the queue, and ends."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    @property
    def waiting(self) -> int:
        """Texts in the queue."""
        return len(self._queue)

    async def predict(self, name: str, texts: Sequence[Text]) -> list[tuple[Entry, Prediction]]:
        """The predictions of an adapter, and which it was.

        Raises:
          UnknownAdapter: there is none of that name.
          Busy: the texts do not fit the queue, or the adapter is being replaced.
          ValueError: the adapter cannot be loaded.
        """
        self.shelf[name]
        loop = asyncio.get_running_loop()
        items = [_Item(name, text, loop.create_future(), loop) for text in texts]
        with self._changed:
            if self._stopping or len(self._queue) + len(items) > self.queue_limit:
                raise Busy(f"{len(self._queue)} texts are waiting; accepted: {self.queue_limit} at most")
            self._queue.extend(items)
            self._changed.notify()
        return list(await asyncio.gather(*(item.waiting for item in items)))

    def _run(self) -> None:
        while items := self._take():
            try:
                self._answer(items)
            except Exception as error:  # whoever waits has to hear of it; the next batch is another
                for item in items:
                    item.settle(error)

    def _take(self) -> list[_Item]:
        """The next texts, once there are enough or the first has waited long enough; none at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._stopping)
            until = time.monotonic() + self.patience
            while len(self._queue) < FULL and not self._stopping and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            taken, names = [], set()
            while self._queue and len(taken) < AT_ONCE:
                names.add(self._queue[0].name)
                if len(names) > self.resident:  # the bank need not grow for one batch
                    break
                taken.append(self._queue.popleft())
            return taken

    def _answer(self, items: Sequence[_Item]) -> None:
        entries: dict[str, Entry] = {}
        ready = []
        for item in items:
            try:
                if item.name not in entries:
                    entries[item.name] = self._load(item.name)
                ready.append(item)
            except (KeyError, ValueError, Busy) as error:
                item.settle(error)
        predictions = self.bank.predict([(item.name, item.text) for item in ready])
        for item, prediction in zip(ready, predictions, strict=True):
            item.settle((entries[item.name], prediction))

    def _load(self, name: str) -> Entry:
        """Brings an adapter into the bank as it is on disk now, in place of one long unused if there are many.

        Raises:
          Busy: it is being replaced at this moment.
          ValueError: it cannot be loaded.
        """
        entry = self.shelf[name]
        if self.used.get(name) != entry.stamp:
            while name not in self.used and len(self.used) >= self.resident:
                oldest = next(iter(self.used))
                self.bank.remove(oldest)
                del self.used[oldest]
            try:
                self.bank.add(name, entry.folder)
            except ValueError:
                if name not in self.used:
                    if stamp(entry.folder) != entry.stamp:
                        raise Busy(f"adapter {name!r} is being replaced") from None
                    raise
                # Half replaced: the old one answers until the new one is whole.
            else:
                self.used[name] = entry.stamp
        self.used.move_to_end(name)
        return entry
