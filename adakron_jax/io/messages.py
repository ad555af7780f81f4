"""Names in messages: spelled so that spaces show, shortened lists, and the most similar names first."""

import difflib
from collections.abc import Callable, Sequence

MOST = 12  # most names that a message lists
_LETTERS = 60  # most letters of a name


def printable(text: str) -> str:
    """Escapes control characters in a text, so that no file can steer a terminal."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def spelled(name: str) -> str:
    """Returns a name in quotes, cut if it is long."""
    return repr(name if len(name) <= _LETTERS else f"{name[: _LETTERS - 3]}...")


def near(word: str, names: Sequence[str]) -> list[str]:
    """Returns at most three names that are spelled like a word, ignoring case, spaces and what surrounds it."""
    plain = {name: _plain(name) for name in names}
    word = _plain(word)
    long = {name: text for name, text in plain.items() if min(len(word), len(text)) > 2}
    parts = [
        name for name, text in long.items() if text.startswith(word) or word.startswith(text) or word.endswith(text)
    ]
    same = [name for name in parts if plain[name] == word]
    alike = difflib.get_close_matches(word, plain.values(), n=3, cutoff=0.7)
    by_text = {text: name for name, text in plain.items()}
    return list(dict.fromkeys([*same, *(by_text[text] for text in alike), *parts]))[:3]


def _plain(name: str) -> str:
    return name[:_LETTERS].strip(" \t-_").replace("_", "-").casefold()


def listed(names: Sequence[str], wanted: str = "", spell: Callable[[str], str] = spelled) -> str:
    """Lists names; if there are many, those near the wanted one, or else the first, and how many more there are."""
    shown = names if len(names) <= MOST else (wanted and near(wanted, names)) or names[:MOST]
    more = f" and {len(names) - len(shown):,} more" if len(shown) < len(names) else ""
    return ", ".join(map(spell, shown)) + more or "nothing"
