"""Adapters in folders that may change while they are served."""

import dataclasses
import difflib
import logging
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from adakron_jax import adapter
from adakron_jax.adapter import FILES, Card
from adakron_jax.params import count
from adakron_jax.serving.access import without_paths

log = logging.getLogger("adakron.serving")
Stamp = tuple[tuple[int, int], ...]


class UnknownAdapter(KeyError):
    """There is no adapter of this name, or it cannot be served; the message gives the reason, or names near it."""

    def __str__(self) -> str:
        return self.args[0]


@dataclasses.dataclass(frozen=True)
class Entry:
    """An adapter on disk: its folder, what it says of itself, and when and how large its files were."""

    folder: Path
    card: Card
    stamp: Stamp


@dataclasses.dataclass(frozen=True)
class Refusal:
    """Why what is on disk is not served.

    Attributes:
      reason: without a path of this machine.
      folder, stamp: of what was refused; it is looked at again once they change.
    """

    reason: str
    folder: Path
    stamp: Stamp | None


def stamp(folder: Path) -> Stamp | None:
    """Times of change and sizes of an adapter's files; None if it is not whole."""
    try:
        stats = [(folder / name).stat() for name in FILES]
    except OSError:
        return None
    return tuple((stat.st_mtime_ns, stat.st_size) for stat in stats)


class AdapterFolders:
    """Which adapters there are, by name. Any thread may look; one at a time may change it.

    Attributes:
      roots: folders given on the command line: of an adapter, of a run, or of many of either.
      fingerprint: of the encoder; adapters of another are refused.
      prepare: called with an adapter's card before it is served.
      entries: adapters that are served.
      refused: adapters that are not; a name that is also in `entries` has a replacement that cannot be read.
    """

    def __init__(self, roots: Iterable[Path], fingerprint: str, prepare: Callable[[Card], None] = lambda card: None):
        self.roots, self.fingerprint, self.prepare = list(roots), fingerprint, prepare
        self.entries: dict[str, Entry] = {}
        self.refused: dict[str, Refusal] = {}
        self._added: dict[str, Path] = {}
        self._removed: dict[str, Stamp] = {}
        self._hidden: set[Path] = set()
        self._changing = threading.Lock()

    def __getitem__(self, name: str) -> Entry:
        """An adapter that is served; UnknownAdapter if there is none of this name, or it is refused."""
        entry, refusal = self.entries.get(name), self.refused.get(name)
        if entry is not None:
            return entry
        if refusal is not None:
            raise UnknownAdapter(f"adapter {name!r:.200} cannot be served: {refusal.reason}")
        near = difflib.get_close_matches(name, self.entries, 3)
        accepted = ", ".join(near) if near else f"the {len(self.entries)} that GET /adapters lists"
        raise UnknownAdapter(f"adapter is {name!r:.200}; accepted: {accepted}")

    def folders(self) -> dict[str, Path]:
        """Every adapter's folder by name; of two of one name the first."""
        by_name: dict[str, Path] = {}
        for root in self.roots:
            below = [root] if _adapter_in(root) else sorted(path for path in root.iterdir() if path.is_dir())
            for path in below:
                if path.name.startswith(".") or (folder := _adapter_in(path)) is None:
                    continue
                if (first := by_name.setdefault(path.name, folder)) != folder and folder not in self._hidden:
                    self._hidden.add(folder)
                    log.warning("%s is not served: %s has the same name", folder, first)
        return by_name | self._added

    def scan(self) -> list[Entry]:
        """Looks for what was added, replaced and removed on disk; the entries that are new or other than before."""
        with self._changing:
            folders = self.folders()
            entries, refused, changed = {}, {}, []
            for name, folder in folders.items():
                old, now = self.entries.get(name), stamp(folder)
                if (now is not None and self._removed.get(name) == now) or _adapter_in(folder) is None:
                    continue
                if old is not None and (old.folder, old.stamp) == (folder, now):
                    entries[name] = old
                    continue
                result = self._look(name, folder, now, old)
                if isinstance(result, Entry):
                    entries[name] = result
                    changed.append(result)
                    continue
                refused[name] = result
                if old is not None:  # what is in memory answers until the new one is whole
                    entries[name] = old
            # Names of other folders are forgotten with them.
            self._removed = {name: gone for name, gone in self._removed.items() if name in folders}
            self.entries, self.refused = entries, refused
            return changed

    def _look(self, name: str, folder: Path, now: Stamp | None, old: Entry | None) -> Entry | Refusal:
        """What is in a folder that is new or other than before."""
        known = self.refused.get(name)
        if known is not None and now is not None and (known.folder, known.stamp) == (folder, now):
            return known
        try:
            return self._read(folder, now, whole=old is not None)
        except Exception as error:  # whatever a folder holds, the others are served
            refusal = Refusal(_reason(error, folder, name), folder, None if isinstance(error, OSError) else now)
            if known is None or known.reason != refusal.reason:
                meaning = "is not served" if old is None else "is served as it was before, if it is in memory"
                log.warning("adapter %r %s: %s", name, meaning, error)
            return refusal

    def _read(self, folder: Path, now: Stamp | None, whole: bool) -> Entry:
        """The adapter in a folder; ValueError if it is none, or of another encoder.

        Args:
          whole: whether its tensors are read too; else only their size is compared.
        """
        if now is None:
            missing = [file for file in FILES if not os.path.isfile(folder / file)]
            raise ValueError(f"{folder}: {' and '.join(missing)} missing; accepted: {' and '.join(FILES)}")
        card = adapter.read_card(folder / FILES[0])
        shown = dataclasses.replace(card, base=shown_base(card.base))
        shown.check_encoder(self.fingerprint, "the encoder served", folder)
        if (size := now[1][1]) < (least := 4 * count(adapter.portable_shapes(card))):
            raise ValueError(f"{folder / FILES[1]}: {size:,} bytes, of the {least:,} that its card describes")
        if whole:
            adapter.load(folder)
        self.prepare(card)
        return Entry(folder, card, now)

    def add(self, name: str, folder: Path) -> Entry:
        """Serves the adapter in a folder under a name, in place of any of that name.

        Raises:
          ValueError: there is no adapter in it, or one of another encoder; without a path of this machine.
        """
        source = _adapter_in(folder) or folder
        try:
            entry = self._read(source, stamp(source), whole=True)
        except (ValueError, OSError) as error:
            raise ValueError(_reason(error, source, name)) from None
        with self._changing:
            self._added[name] = source
            self._removed.pop(name, None)
            self.entries = self.entries | {name: entry}
            self.refused = _without(self.refused, name)
        return entry

    def remove(self, name: str) -> None:
        """Serves an adapter no more, until its files change."""
        entry = self[name]
        with self._changing:
            refusal = self.refused.get(name)
            self._added.pop(name, None)
            self._removed[name] = refusal.stamp if refusal and refusal.stamp else entry.stamp
            self.entries, self.refused = _without(self.entries, name), _without(self.refused, name)

    def refuse(self, name: str, entry: Entry, error: Exception) -> None:
        """Serves an adapter no more that turned out to be damaged, until its files change."""
        log.warning("adapter %r is not served: %s", name, error)
        with self._changing:
            if self.entries.get(name) == entry:
                self.entries = _without(self.entries, name)
                self.refused = self.refused | {
                    name: Refusal(_reason(error, entry.folder, name), entry.folder, entry.stamp)
                }


def shown_base(base: str) -> str:
    """An encoder's name as clients are told it: of a folder only the last part of its path."""
    return Path(base).name if Path(base).is_absolute() or Path(base).is_dir() else base


def _without(entries: dict, name: str) -> dict:
    return {other: kept for other, kept in entries.items() if other != name}


def _reason(error: Exception, folder: Path, name: str) -> str:
    return without_paths(str(error) or type(error).__name__, {str(folder): name})


def _adapter_in(folder: Path) -> Path | None:
    """The adapter's folder that this is, or that a run's folder holds; it may lack one of its files."""
    candidates = (folder, folder / "adapter")
    return next((path for path in candidates if any(os.path.isfile(path / file) for file in FILES)), None)
