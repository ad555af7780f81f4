"""Pages that need nothing but themselves: a template, and what comes from files escaped in it."""

import unicodedata
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[1]
# Control, format, surrogate, private and unassigned characters. Joiners stand within words and within emoji.
_HIDDEN, _JOINERS = ("Cc", "Cf", "Cs", "Co", "Cn"), "\u200c\u200d"


def render(template: Path, **values: Any) -> str:
    """The page of a template; it may extend or import those of this package, such as `pages/base.html.jinja`."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, PACKAGE]),
        autoescape=True,
        finalize=lambda value: printable(value) if type(value) is str else value,  # not of what is markup already
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(template.name).render(values)


def printable(text: str) -> str:
    r"""Text on one line of a terminal or a page, without what could steer it: an escape character becomes `\x1b`.

    So does what turns the direction of writing. Spaces of all kinds, line ends among them, become one space.
    """
    return "".join(map(_printable, " ".join(text.split())))


def _printable(letter: str) -> str:
    if letter in _JOINERS or unicodedata.category(letter) not in _HIDDEN:
        return letter
    return f"\\x{ord(letter):02x}" if ord(letter) < 256 else f"\\u{ord(letter):04x}"
