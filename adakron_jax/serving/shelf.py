"""Adapters in folders that may change while they are served."""

import dataclasses
import difflib
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from adakron_jax import adapter
from adakron_jax.adapter import Card

FILES = ("adapter.json", "adapter.safetensors")
Stamp = tuple[tuple[int, int], ...]


class UnknownAdapter(KeyError):
    """There is no adapter of this name; the message gives names near it."""

    def __str__(self) -> str:
        return self.args[0]


@dataclasses.dataclass(frozen=True)
class Entry:
    """An adapter on disk: its folder, what it says of itself, and when and how large its files were."""

    folder: Path
    card: Card
    stamp: Stamp


def stamp(folder: Path) -> Stamp | None:
    """Times of change and sizes of an adapter's files; None if it is not whole."""
    try:
        stats = [(folder / name).stat() for name in FILES]
    except OSError:
        return None
    return tuple((one.st_mtime_ns, one.st_size) for one in stats)


class Shelf:
    """Which adapters there are, by name. Any thread may look; one at a time may change it.

    Attributes:
      roots: folders given on the command line: of an adapter, of a run, or of many of either.
      fingerprint: of the encoder; adapters of another are refused.
      prepare: called with an adapter's card before it is served.
      refused: why a folder is not served, by name.
    """

    def __init__(self, roots: Iterable[Path], fingerprint: str, prepare: Callable[[Card], None] = lambda card: None):
        self.roots, self.fingerprint, self.prepare = list(roots), fingerprint, prepare
        self.entries: dict[str, Entry] = {}
        self.refused: dict[str, str] = {}
        self._added: dict[str, Path] = {}
        self._removed: dict[str, Stamp] = {}
        self._changing = threading.Lock()

    def __getitem__(self, name: str) -> Entry:
        try:
            return self.entries[name]
        except KeyError:
            near = difflib.get_close_matches(name, self.entries, 3)
            accepted = ", ".join(near) if near else f"one of {len(self.entries)} names, as GET /adapters lists them"
            raise UnknownAdapter(f"adapter is {name!r:.200}; accepted: {accepted}") from None

    def folders(self) -> dict[str, Path]:
        """Every adapter's folder by name; of two of one name the first."""
        found: dict[str, Path] = {}
        for root in self.roots:
            below = [root] if _adapter_in(root) else sorted(path for path in root.iterdir() if path.is_dir())
            for path in below:
                if not path.name.startswith(".") and (folder := _adapter_in(path)):
                    found.setdefault(path.name, folder)
        return found | self._added

    def scan(self) -> list[Entry]:
        """Looks for what was added, replaced and removed on disk; the entries that are new or other than before."""
        with self._changing:
            folders = self.folders()
            entries, refused, changed = {}, {}, []
            for name, folder in folders.items():
                old, now = self.entries.get(name), stamp(folder)
                if now is None or self._removed.get(name) == now:
                    continue
                if old is not None and (old.folder, old.stamp) == (folder, now):
                    entries[name] = old
                    continue
                try:
                    entries[name] = self._read(folder, now)
                    changed.append(entries[name])
                except ValueError as error:
                    refused[name] = " ".join(str(error).split())
            # Names of other folders are forgotten with them.
            self._removed = {name: gone for name, gone in self._removed.items() if name in folders}
            self.entries, self.refused = entries, refused
            return changed

    def _read(self, folder: Path, now: Stamp) -> Entry:
        card = adapter.read_card(folder / FILES[0])
        if card.fingerprint != self.fingerprint:
            raise ValueError(
                f"{folder}: trained on {card.base} with the fingerprint {card.fingerprint[:12]}, not on the encoder "
                f"served, whose fingerprint is {self.fingerprint[:12]}"
            )
        self.prepare(card)
        return Entry(folder, card, now)

    def add(self, name: str, folder: Path) -> Entry:
        """Serves the adapter in a folder under a name, in place of any of that name.

        Raises:
          ValueError: there is no adapter in it, or one of another encoder.
        """
        found = _adapter_in(folder)
        now = found and stamp(found)
        if found is None or now is None:
            raise ValueError(f"{folder}: no adapter; accepted: a folder with {' and '.join(FILES)}, or a run's")
        entry = self._read(found, now)
        with self._changing:
            self._added[name] = found
            self._removed.pop(name, None)
            self.entries = self.entries | {name: entry}
        return entry

    def remove(self, name: str) -> None:
        """Serves an adapter no more, until its files change."""
        entry = self[name]
        with self._changing:
            self._added.pop(name, None)
            self._removed[name] = entry.stamp
            self.entries = {other: kept for other, kept in self.entries.items() if other != name}


def _adapter_in(folder: Path) -> Path | None:
    """The adapter's folder that this is, or that a run's folder holds."""
    return next((path for path in (folder, folder / "adapter") if (path / FILES[0]).is_file()), None)
