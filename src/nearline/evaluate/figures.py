"""Results to figures as inline SVG that takes its colours and font from the page around it.

Figures are drawn in placeholder colours, which become CSS variables, so one figure serves a light and a dark
page. Text stays text. They are 340 points wide: legible at the width of a phone, and two abreast on a desk.
"""

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from io import StringIO
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
_WIDTH_INCHES: Final = 340 / 72
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
    rows = 1 + len(references)
    figure, axes = _axes(0.7 + len(stages) * (0.28 + 0.24 * rows))
    step = 0.8 / (rows + 0.6)
    for place, (_, estimate) in enumerate(stages):
        _point(axes, estimate, place - step * (rows - 1) / 2)
        name = "this model " if references and place == 0 else ""
        _above(axes, estimate.value, place - step * (rows - 1) / 2, f"{name}{estimate.value:.4f}", _MODEL)
    for row, (name, values) in enumerate(references, start=1):
        for place, value in enumerate(values):
            if value is not None:
                level = place + step * (row - (rows - 1) / 2)
                axes.plot(value, level, "D", color=_OTHER, markerfacecolor=_SURFACE, markersize=4.5)
                _above(axes, value, level, f"{name} {value:.4f}" if place == 0 else f"{value:.4f}", _OTHER)
    _categories(axes, [name for name, _ in stages])
    axes.set_xlabel(unit)
    axes.margins(x=0.22)
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
    figure, axes = _axes(0.75 + 0.42 * len(groups))
    if zero is not None:
        axes.axvline(0.0, color=_MUTED, linewidth=1.0, zorder=1.5)
        axes.annotate(
            zero,
            (0.0, 1.0),
            (3, 1),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            color=_MUTED,
        )
    for place, (_, estimate) in enumerate(groups):
        if estimate is None or not np.isfinite(estimate.value):
            axes.text(
                0.5,
                place,
                "too few rows",
                color=_MUTED,
                ha="center",
                va="center",
                transform=axes.get_yaxis_transform(),
            )
        else:
            _point(axes, estimate, place)
            sign = "+" if zero is not None else ""
            _above(axes, estimate.value, place, f"{estimate.value:{sign}.4f}", _MODEL)
    _categories(axes, [name for name, _ in groups])
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
    figure = Figure(figsize=(_WIDTH_INCHES, 4.5), layout="constrained")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    ends = [0.0, 1.0] if probability else [histogram.edges[0], histogram.edges[-1]]
    axes.plot(ends, ends, color=_MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
    axes.annotate(
        "perfect",
        (ends[1], ends[1]),
        (-4, -2),
        textcoords="offset points",
        color=_MUTED,
        ha="right",
        va="top",
    )
    axes.vlines(calibration.predicted, calibration.low, calibration.high, color=_MODEL, linewidth=1.4)
    axes.plot(calibration.predicted, calibration.observed, "o-", color=_MODEL, markersize=4.5, linewidth=0.8)
    axes.set_ylabel(labels[1])
    below.bar(
        histogram.edges[:-1], histogram.share, np.diff(histogram.edges) * 0.92, align="edge", color=_FILL
    )
    below.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    below.yaxis.set_major_locator(MaxNLocator(2))
    below.grid(visible=False, axis="x")
    below.set_ylabel("rows")
    below.set_xlabel(labels[0])
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
    figure, axes = _axes(3.6)
    axes.plot(chance.x, chance.y, color=_MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
    axes.plot(curve.x, curve.y, color=_MODEL, clip_on=False)
    middle = (float(np.mean(chance.x)), float(np.mean(chance.y)))
    axes.annotate(chance_note, middle, (6, -4), textcoords="offset points", color=_MUTED, va="top")
    at = int(np.argmin(np.abs(curve.x - 0.35)))
    below = curve.y[at] > 0.5
    axes.annotate(
        note,
        (curve.x[at], curve.y[at]),
        (8, -6 if below else 8),
        textcoords="offset points",
        color=_MODEL,
        va="top" if below else "bottom",
    )
    axes.set(xlim=(0.0, 1.0), ylim=(0.0, 1.0), xlabel=labels[0], ylabel=labels[1])
    return _svg(figure, description, identity)


@_house_style()
def effects_figure(effects: EffectDistribution, *, description: str, identity: str) -> str:
    """Return a histogram of one number per entity, with the spread of its prior if that is known."""
    figure, axes = _axes(2.6)
    counts, edges = np.histogram(effects.values, bins=30)
    axes.bar(edges[:-1], counts, np.diff(edges) * 0.92, align="edge", color=_FILL)
    if effects.prior_std is not None:
        axes.axvline(effects.prior_std, color=_OTHER, linewidth=1.2)
        axes.annotate(
            "prior std",
            (effects.prior_std, 1.0),
            (-4, -2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            color=_OTHER,
            ha="right",
            va="top",
        )
    axes.set_xlabel(f"{effects.quantity} ({effects.unit})")
    axes.set_ylabel("entities")
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.grid(visible=False, axis="x")
    return _svg(figure, description, identity)


def _axes(height_inches: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH_INCHES, height_inches), layout="constrained")
    return figure, figure.subplots()


def _point(axes: Axes, estimate: Estimate, place: float) -> None:
    if np.isfinite(estimate.low) and np.isfinite(estimate.high):
        axes.hlines(place, estimate.low, estimate.high, color=_MODEL, linewidth=1.8)
    axes.plot(estimate.value, place, "o", color=_MODEL, markersize=5.5)


def _above(axes: Axes, value: float, place: float, text: str, colour: str) -> None:
    axes.annotate(
        text,
        (value, place),
        (0, 4.5),
        textcoords="offset points",
        ha="center",
        va="bottom",
        color=colour,
        size=8.5,
    )


def _categories(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.45, -0.7)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5))


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
