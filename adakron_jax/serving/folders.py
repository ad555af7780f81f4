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
    """There is no adapter of this name, or it cannot be served; the message gives the reason, or similar names."""

    def __str__(self) -> str:
        return self.args[0]


@dataclasses.dataclass(frozen=True)
class Entry:
    """An adapter on disk: its folder, its card, and the times and sizes of its files."""

    folder: Path
    card: Card
    stamp: Stamp


@dataclasses.dataclass(frozen=True)
class Refusal:
    """The reason why an adapter on disk is not served.

    Attributes:
      reason: the reason, without paths of this machine.
      folder, stamp: of what was refused; it is read again once they change.
    """

    reason: str
    folder: Path
    stamp: Stamp | None


def stamp(folder: Path) -> Stamp | None:
    """Returns times of change and sizes of an adapter's files; None if a file is missing."""
    try:
        stats = [(folder / name).stat() for name in FILES]
    except OSError:
        return None
    return tuple((stat.st_mtime_ns, stat.st_size) for stat in stats)


class AdapterFolders:
    """The adapters by name. Any thread may read them; one at a time may change them.

    Attributes:
      roots: folders given on the command line: of an adapter, of a run, or of many of either.
      fingerprint: the encoder's; adapters of another encoder are refused.
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
        """Returns an adapter that is served; UnknownAdapter if there is none of this name, or it is refused."""
        entry, refusal = self.entries.get(name), self.refused.get(name)
        if entry is not None:
            return entry
        if refusal is not None:
            raise UnknownAdapter(f"adapter {name!r:.200} cannot be served: {refusal.reason}")
        near = difflib.get_close_matches(name, self.entries, 3)
        accepted = ", ".join(near) if near else f"the {len(self.entries)} that GET /adapters lists"
        raise UnknownAdapter(f"adapter is {name!r:.200}; accepted: {accepted}")

    def folders(self) -> dict[str, Path]:
        """Returns every adapter's folder by name; the first of those with the same name."""
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
        """Finds what was added, replaced and removed on disk; returns the entries that are new or changed."""
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
                if old is not None:  # the adapter in memory is used until the new one is whole
                    entries[name] = old
            # Removals are kept only for folders that still exist.
            self._removed = {name: gone for name, gone in self._removed.items() if name in folders}
            self.entries, self.refused = entries, refused
            return changed

    def _look(self, name: str, folder: Path, now: Stamp | None, old: Entry | None) -> Entry | Refusal:
        """Reads a folder that is new or changed."""
        known = self.refused.get(name)
        if known is not None and now is not None and (known.folder, known.stamp) == (folder, now):
            return known
        try:
            return self._read(folder, now, whole=old is not None)
        except Exception as error:  # whatever one folder holds, the others are served
            refusal = Refusal(_reason(error, folder, name), folder, None if isinstance(error, OSError) else now)
            if known is None or known.reason != refusal.reason:
                meaning = "is not served" if old is None else "is served as it was before, if it is in memory"
                log.warning("adapter %r %s: %s", name, meaning, error)
            return refusal

    def _read(self, folder: Path, now: Stamp | None, whole: bool) -> Entry:
        """Reads the adapter in a folder; ValueError if there is none, or it is of another encoder.

        Args:
          whole: whether its tensors are read too; otherwise only their size is compared.
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
        """Serves the adapter in a folder under a name, in place of any adapter of that name.

        Raises:
          ValueError: it holds no adapter, or one of another encoder; the message holds no path of this machine.
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
        """Stops serving an adapter until its files change."""
        entry = self[name]
        with self._changing:
            refusal = self.refused.get(name)
            self._added.pop(name, None)
            self._removed[name] = refusal.stamp if refusal and refusal.stamp else entry.stamp
            self.entries, self.refused = _without(self.entries, name), _without(self.refused, name)

    def refuse(self, name: str, entry: Entry, error: Exception) -> None:
        """Stops serving an adapter that turned out to be damaged, until its files change."""
        log.warning("adapter %r is not served: %s", name, error)
        with self._changing:
            if self.entries.get(name) == entry:
                self.entries = _without(self.entries, name)
                self.refused = self.refused | {
                    name: Refusal(_reason(error, entry.folder, name), entry.folder, entry.stamp)
                }


def shown_base(base: str) -> str:
    """Returns an encoder's name for clients: only the last part of a folder's path."""
    return Path(base).name if Path(base).is_absolute() or Path(base).is_dir() else base


def _without(entries: dict, name: str) -> dict:
    return {other: entry for other, entry in entries.items() if other != name}


def _reason(error: Exception, folder: Path, name: str) -> str:
    return without_paths(str(error) or type(error).__name__, {str(folder): name})


def _adapter_in(folder: Path) -> Path | None:
    """Returns the adapter's folder that this is, or that a run's folder holds; it may lack one of its files."""
    candidates = (folder, folder / "adapter")
    return next((path for path in candidates if any(os.path.isfile(path / file) for file in FILES)), None)
