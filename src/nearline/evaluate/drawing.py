"""What figures are drawn with: a house style in placeholder colours, axes, notes, and the way to inline SVG.

Figures are drawn in placeholder colours, which become CSS variables, so one figure serves a light and a dark
page. Text stays text. They are 300 points wide: legible at the width of a phone, and two abreast on a desk.
"""

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from io import StringIO
from textwrap import fill
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nearline.evaluate.bootstrap import Estimate

INK, MUTED, GRID, MODEL, OTHER, FILL, SURFACE, THIRD, FOURTH = (f"#00010{digit}" for digit in range(1, 10))
_VARIABLES: Final = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    MODEL: "var(--model)",
    OTHER: "var(--other)",
    FILL: "var(--fill)",
    SURFACE: "var(--surface)",
    THIRD: "var(--third)",
    FOURTH: "var(--fourth)",
}
WIDTH: Final = 300.0
_LONGEST_NAME: Final = 18
_NOT_DRAWN: Final = re.compile(
    r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>|<!--.*?-->", flags=re.DOTALL
)
_PLACEHOLDER: Final = re.compile("|".join(_VARIABLES))


@contextmanager
def house_style() -> Iterator[None]:
    """Draw in the house style, whatever style is set outside."""
    with warnings.catch_warnings(), mpl.rc_context():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the browser has the font
        mpl.rcdefaults()
        mpl.rcParams.update(
            {
                "axes.edgecolor": MUTED,
                "axes.facecolor": "none",
                "axes.grid": True,
                "axes.axisbelow": True,
                "axes.labelcolor": INK,
                "axes.linewidth": 0.6,
                "axes.spines.right": False,
                "axes.spines.top": False,
                "axes.unicode_minus": True,
                "figure.facecolor": "none",
                "font.family": ["DejaVu Sans"],
                "font.size": 9.5,
                "grid.color": GRID,
                "grid.linewidth": 0.6,
                "lines.linewidth": 1.6,
                "svg.fonttype": "none",
                "svg.hashsalt": "nearline",
                "text.color": INK,
                "text.parse_math": False,
                "xtick.color": MUTED,
                "xtick.labelcolor": INK,
                "ytick.color": MUTED,
                "ytick.labelcolor": INK,
            }
        )
        yield


def axes_with(height: float, left: float = 48.0) -> tuple[Figure, Axes]:
    """Return a figure of `height` points with `left` points for the labels of its one vertical axis."""
    figure = Figure(figsize=(WIDTH / 72, height / 72))
    figure.subplots_adjust(left / WIDTH, 38 / height, 1 - 14 / WIDTH, 1 - 14 / height)
    return figure, figure.subplots()


def rows_with(names: Sequence[str], points_per_row: float) -> tuple[Figure, Axes]:
    """Return a figure with a named row for each of `names`, from the top down, and room for the names."""
    lines = ["\n".join(fill(line, _LONGEST_NAME) for line in name.splitlines()) for name in names]
    longest = max((len(line) for name in lines for line in name.splitlines()), default=0)
    figure, axes = axes_with(60.0 + points_per_row * len(names), 16.0 + 5.3 * longest)
    axes.set_yticks(range(len(names)), lines)
    axes.set_ylim(len(names) - 0.4, -0.7)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    return figure, axes


def draw_point(axes: Axes, estimate: Estimate, level: float) -> None:
    """Draw an estimate with its interval in a row of its own."""
    if np.isfinite(estimate.low) and np.isfinite(estimate.high):
        axes.hlines(level, estimate.low, estimate.high, color=MODEL, linewidth=1.8)
    axes.plot(estimate.value, level, "o", color=MODEL, markersize=5.5)


def write_note(
    axes: Axes,
    text: str,
    at: tuple[float, float],
    colour: str,
    offset: tuple[float, float] = (0.0, 4.5),
    size: float = 9.5,
) -> None:
    """Write beside a point, on the side that `offset` (points) leads to; straight above it if that is 0."""
    across = {0.0: "center", 1.0: "left", -1.0: "right"}[float(np.sign(offset[0]))]
    along = "bottom" if offset[1] > 0.0 else "center"
    axes.annotate(text, at, offset, textcoords="offset points", ha=across, va=along, color=colour, size=size)


def to_svg(figure: Figure, description: str, identity: str) -> str:
    """Return the figure as an <svg> element; `identity` keeps its ids apart from those of others."""
    buffer = StringIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    drawn = buffer.getvalue()
    drawn = _NOT_DRAWN.sub("", drawn[drawn.index("<svg") :])
    drawn = re.sub(r"<[^>]*>", lambda tag: _for_page(tag.group(), identity), drawn)
    opening = f'<svg role="img" aria-label="{escape(description)}"'
    return re.sub(r'<svg( \S+?="[^"]*")*? width="\S+" height="\S+"', opening, drawn, count=1).strip()


def _for_page(tag: str, identity: str) -> str:
    tag = re.sub(r'(\bid="|"#|url\(#)', rf"\g<1>{identity}-", tag)
    tag = re.sub(r"font-family: [^;\"]*", "font-family: inherit", tag)
    return _PLACEHOLDER.sub(lambda colour: _VARIABLES[colour.group()], tag)
