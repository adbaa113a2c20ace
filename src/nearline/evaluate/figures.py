"""Results to figures as inline SVG that takes its colours and font from the page around it.

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
from matplotlib.ticker import MaxNLocator, PercentFormatter

from nearline.evaluate.bootstrap import Estimate
from nearline.evaluate.curves import Calibration, Curve, Histogram
from nearline.evaluate.report import EffectDistribution

_INK, _MUTED, _GRID, _MODEL, _OTHER, _FILL, _SURFACE = (f"#00010{digit}" for digit in range(1, 8))
_VARIABLES: Final = {
    _INK: "var(--ink)",
    _MUTED: "var(--muted)",
    _GRID: "var(--grid)",
    _MODEL: "var(--model)",
    _OTHER: "var(--other)",
    _FILL: "var(--fill)",
    _SURFACE: "var(--surface)",
}
_WIDTH: Final = 300.0
_LONGEST_NAME: Final = 18
_NOT_DRAWN: Final = re.compile(
    r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>|<!--.*?-->", flags=re.DOTALL
)
_PLACEHOLDER: Final = re.compile("|".join(_VARIABLES))


@contextmanager
def _house_style() -> Iterator[None]:
    with warnings.catch_warnings(), mpl.rc_context():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the browser has the font
        mpl.rcdefaults()
        mpl.rcParams.update(
            {
                "axes.edgecolor": _MUTED,
                "axes.facecolor": "none",
                "axes.grid": True,
                "axes.axisbelow": True,
                "axes.labelcolor": _INK,
                "axes.linewidth": 0.6,
                "axes.spines.right": False,
                "axes.spines.top": False,
                "axes.unicode_minus": True,
                "figure.facecolor": "none",
                "font.family": ["DejaVu Sans"],
                "font.size": 9.5,
                "grid.color": _GRID,
                "grid.linewidth": 0.6,
                "lines.linewidth": 1.6,
                "svg.fonttype": "none",
                "svg.hashsalt": "nearline",
                "text.color": _INK,
                "text.parse_math": False,
                "xtick.color": _MUTED,
                "xtick.labelcolor": _INK,
                "ytick.color": _MUTED,
                "ytick.labelcolor": _INK,
            }
        )
        yield


@_house_style()
def stages_figure(
    stages: Sequence[tuple[str, Estimate]],
    references: Sequence[tuple[str, Sequence[float | None]]],
    *,
    unit: str,
    description: str,
    identity: str,
) -> str:
    """Return a point per stage with its interval, and hollow marks for what others reached there."""
    step = 0.75 / (1 + len(references))
    names = [name for name, _ in stages]
    figure, axes = _rows_of(names, points_per_row=24.0 + 22.0 * (1 + len(references)))
    for place, (_, estimate) in enumerate(stages):
        level = place - step * len(references) / 2
        _point(axes, estimate, level)
        name = "this model " if references and place == 0 else ""
        _note(axes, f"{name}{estimate.value:.4f}", (estimate.value, level), _MODEL, size=8.5)
    known = [estimate.value for _, estimate in stages]
    known += [value for _, values in references for value in values if value is not None]
    middle = (min(known) + max(known)) / 2
    for row, (name, values) in enumerate(references, start=1):
        for place, value in enumerate(values):
            if value is not None:
                level = place + step * (row - len(references) / 2)
                axes.plot(value, level, "D", color=_OTHER, markerfacecolor=_SURFACE, markersize=4.5)
                text = f"{name} {value:.4f}" if place == 0 else f"{value:.4f}"
                side = (6.0, 0.0) if value <= middle else (-6.0, 0.0)
                _note(axes, text, (value, level), _OTHER, side, size=8.5)
    axes.set_xlabel(unit)
    axes.margins(x=0.2)
    return _svg(figure, description, identity)


@_house_style()
def groups_figure(
    groups: Sequence[tuple[str, Estimate | None]],
    *,
    unit: str,
    zero: str | None,
    description: str,
    identity: str,
) -> str:
    """Return a point with its interval per group; `zero` labels a line at 0, if there is to be one."""
    figure, axes = _rows_of([name for name, _ in groups], points_per_row=34.0)
    if zero is not None:
        axes.axvline(0.0, color=_MUTED, linewidth=1.0, zorder=1.5)
        _note(axes, zero, (0.0, -0.7), _MUTED, (3.0, 2.0), size=8.5)
    across = axes.get_yaxis_transform()
    for place, (_, estimate) in enumerate(groups):
        if estimate is None or not np.isfinite(estimate.value):
            axes.text(0.5, place, "too few rows", color=_MUTED, ha="center", va="center", transform=across)
        else:
            _point(axes, estimate, place)
            text = f"{estimate.value:{'+' if zero is not None else ''}.4f}".replace("-", "\u2212")
            _note(axes, text, (estimate.value, place), _MODEL, size=8.5)
    axes.set_xlabel(unit)
    axes.margins(x=0.12)
    return _svg(figure, description, identity)


@_house_style()
def calibration_figure(
    calibration: Calibration,
    histogram: Histogram,
    *,
    labels: tuple[str, str],
    probability: bool,
    description: str,
    identity: str,
) -> str:
    """Return mean outcome against mean prediction above a histogram of the predictions."""
    figure = Figure(figsize=(_WIDTH / 72, 285 / 72))
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    figure.subplots_adjust(48 / _WIDTH, 38 / 285, 1 - 14 / _WIDTH, 1 - 8 / 285, hspace=0.12)
    low, high = (0.0, 1.0) if probability else (histogram.edges[0], histogram.edges[-1])
    axes.plot([low, high], [low, high], color=_MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
    _note(axes, "perfect", (low + 0.72 * (high - low),) * 2, _MUTED, (10.0, -10.0))
    axes.vlines(calibration.predicted, calibration.low, calibration.high, color=_MODEL, linewidth=1.8)
    axes.plot(calibration.predicted, calibration.observed, "o-", color=_MODEL, markersize=4, linewidth=0.8)
    axes.set_ylabel(labels[1])
    axes.tick_params(axis="x", length=0)
    below.stairs(histogram.share, histogram.edges, fill=True, color=_FILL)
    below.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    below.yaxis.set_major_locator(MaxNLocator(2))
    below.set(xlabel=labels[0], ylabel="rows")
    figure.align_ylabels()
    if probability:
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    return _svg(figure, description, identity)


@_house_style()
def curve_figure(
    curve: Curve,
    chance: Curve,
    *,
    labels: tuple[str, str],
    note: str,
    chance_note: str,
    description: str,
    identity: str,
) -> str:
    """Return a curve in the unit square against the curve of scores that say nothing."""
    figure, axes = _axes(250.0)
    axes.plot(chance.x, chance.y, color=_MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
    axes.plot(curve.x, curve.y, color=_MODEL, clip_on=False)
    _note(axes, chance_note, (float(np.mean(chance.x)), float(np.mean(chance.y))), _MUTED, (6.0, -10.0))
    height = float(np.interp(0.4, curve.x, curve.y))
    right, above = (1.0 if curve.y[-1] > curve.y[0] else -1.0), height < 0.5
    _note(axes, note, (0.4, height), _MODEL, (-8.0 * right, 10.0) if above else (8.0 * right, -12.0))
    axes.set(xlim=(0.0, 1.0), ylim=(0.0, 1.0), xlabel=labels[0], ylabel=labels[1])
    return _svg(figure, description, identity)


@_house_style()
def effects_figure(effects: EffectDistribution, *, description: str, identity: str) -> str:
    """Return a histogram of one number per entity, with the spread of its prior if that is known."""
    figure, axes = _axes(180.0)
    counts, edges = np.histogram(effects.values, bins=30)
    axes.stairs(counts, edges, fill=True, color=_FILL)
    if effects.prior_std is not None:
        axes.axvline(effects.prior_std, color=_OTHER, linewidth=1.2)
        side = -4.0 if effects.prior_std > edges.mean() else 4.0
        _note(axes, "prior std", (effects.prior_std, 1.08 * counts.max()), _OTHER, (side, 0.0))
        axes.set_ylim(0.0, 1.15 * counts.max())
    axes.set(xlabel=f"{effects.quantity} ({effects.unit})", ylabel="entities")
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.grid(visible=False, axis="x")
    return _svg(figure, description, identity)


def _axes(height: float, left: float = 48.0) -> tuple[Figure, Axes]:
    """Return a figure of `height` points with `left` points for the labels of its one vertical axis."""
    figure = Figure(figsize=(_WIDTH / 72, height / 72))
    figure.subplots_adjust(left / _WIDTH, 38 / height, 1 - 14 / _WIDTH, 1 - 14 / height)
    return figure, figure.subplots()


def _rows_of(names: Sequence[str], points_per_row: float) -> tuple[Figure, Axes]:
    """Return a figure with a named row for each of `names`, from the top down, and room for the names."""
    lines = ["\n".join(fill(line, _LONGEST_NAME) for line in name.splitlines()) for name in names]
    longest = max((len(line) for name in lines for line in name.splitlines()), default=0)
    figure, axes = _axes(60.0 + points_per_row * len(names), 16.0 + 5.3 * longest)
    axes.set_yticks(range(len(names)), lines)
    axes.set_ylim(len(names) - 0.4, -0.7)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    return figure, axes


def _point(axes: Axes, estimate: Estimate, level: float) -> None:
    if np.isfinite(estimate.low) and np.isfinite(estimate.high):
        axes.hlines(level, estimate.low, estimate.high, color=_MODEL, linewidth=1.8)
    axes.plot(estimate.value, level, "o", color=_MODEL, markersize=5.5)


def _note(
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


def _svg(figure: Figure, description: str, identity: str) -> str:
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
