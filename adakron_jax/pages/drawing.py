"""Plots as SVG elements that take their text colour and fonts from the page around them."""

import io
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from adakron_jax.data.table import printable

# Okabe and Ito's colours, which colour-blind readers can distinguish, in tones that show on white and on black.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b58900", "#56b4e9", "#8c6bb1", "#7f7f7f")
INK = "#010203"  # replaced by the page's own text colour
INCH = 7.0  # most rem of a figure's inch, so that its text is about as large as the page's
LETTERS = 5  # letters of a legend's entry per inch of the figure, up to which two entries go side by side
ROWS, ENTRY = 2, 0.21  # rows of a legend that a figure has room for, and the inches that each further row adds
STYLE: Any = {
    "svg.fonttype": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.facecolor": "none",
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.parse_math": False,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.6,
}


def svg(
    title: str,
    words: str,
    draw: Callable[[Any], None],
    salt: str,
    caution: str = "",
    size: tuple[float, float] = (4.8, 3.4),
) -> str:
    """Returns a drawing as one SVG element with title and description.

    Args:
      title, words: what it shows, in short and at length.
      draw: draws on matplotlib's axes.
      salt: the beginning of its ids, which has to be unique on the page.
      caution: text above the drawing, if any.
      size: of the figure, in inches at a font size of 10 points; a long legend adds to its height.
    """
    import matplotlib as mpl
    from markupsafe import Markup, escape
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE | {"svg.hashsalt": salt}), warnings.catch_warnings():
        # The page's fonts draw the text; matplotlib's only measure it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        axes.grid(alpha=0.15, color=INK, lw=0.6)
        draw(axes)
        if caution:
            axes.set_title(caution, fontsize=9, loc="left", wrap=True)
        if labels := axes.get_legend_handles_labels()[1]:
            columns = 2 if max(map(len, labels)) < LETTERS * size[0] else 1
            rows = -(-len(labels) // columns)
            figure.set_figheight(size[1] + ENTRY * max(0, rows - ROWS))
            figure.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
        drawn = io.StringIO()
        FigureCanvasSVG(figure).print_svg(drawn, metadata={"Date": None})
    body = re.sub(r"<metadata>.*?</metadata>", "", drawn.getvalue(), flags=re.DOTALL)
    body = body[body.index("<svg") :]
    box = re.search(r'viewBox="[^"]*"', body)
    assert box is not None
    body = re.sub(r' id="[a-zA-Z][\w.]*_\d+"', "", body[body.index(">") + 1 :])  # the same numbers in every plot
    body = body.replace(INK, "currentColor").replace("'DejaVu Sans', ", "")
    name, words = (escape(printable(text)) for text in (f"{title}, {caution}" if caution else title, words))
    label = f'aria-labelledby="{salt}-title {salt}-words"'
    about = f'<title id="{salt}-title">{name}</title>\n<desc id="{salt}-words">{words}</desc>'
    width = f'style="max-width: {INCH * size[0]:.1f}rem"'
    return Markup(f'<svg {box[0]} {width} role="img" {label}>\n{about}\n{body.strip()}')


def shades(opacity: np.ndarray) -> np.ndarray:
    """Returns the first colour with the given opacity [rows, columns], so that it suits a light page and a dark one."""
    colour = [int(COLOURS[0][at : at + 2], 16) / 255 for at in (1, 3, 5)]
    return np.dstack([np.broadcast_to(colour, (*opacity.shape, 3)), opacity])


def logarithmic(axis: Any, values: Sequence[float | int], form: str = "") -> None:
    """Sets ticks of a logarithmic axis that stay readable over a narrow range of values; in `form`, or as 20 k."""
    from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

    wide = LogLocator(subs=(1, 2, 5) if max(values) < 20 * min(values) else (1,))
    axis.set_major_locator(wide if max(values) > 5 * min(values) else MaxNLocator(5))
    axis.set_major_formatter(form or EngFormatter())
    axis.set_minor_formatter(NullFormatter())


def whole(axis: Any) -> None:
    """Sets ticks at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True))
