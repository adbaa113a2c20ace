"""Curves of several levels of freshness to figures, in the house style of `drawing`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, final

import numpy as np
from matplotlib.ticker import MaxNLocator

from nearline.arrays import Floats
from nearline.evaluate.drawing import (
    FOURTH,
    INK,
    MODEL,
    MUTED,
    OTHER,
    THIRD,
    axes_with,
    house_style,
    to_svg,
)
from nearline.evaluate.levels import IDEAL, LEVEL_0, LEVEL_1, LEVEL_2, LEVEL_3, REFITTED, WINDOW

Dashes: TypeAlias = str | tuple[int, tuple[float, ...]]
_STYLES: Final[Mapping[str, tuple[str, float, Dashes]]] = {
    LEVEL_0: (OTHER, 1.6, "-"),
    LEVEL_1: (THIRD, 1.4, "-"),
    LEVEL_2: (FOURTH, 1.4, (0, (4, 1.5))),
    WINDOW: (MUTED, 1.4, (0, (5, 1.5, 1, 1.5))),
    LEVEL_3: (MODEL, 2.4, "-"),
    REFITTED: (MODEL, 1.2, (0, (2, 1))),
    IDEAL: (INK, 1.4, (0, (1, 1.2))),
}
_OTHERS: Final = ((MODEL, 2.0, "-"), (OTHER, 1.4, "-"), (THIRD, 1.4, "-"), (FOURTH, 1.4, (0, (4, 1.5))))


@final
@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """One curve: float64[points], NaN where there is no value; `low` and `high` are the ends of its intervals."""

    name: str
    values: Floats
    low: Floats | None = None
    high: Floats | None = None


@house_style()
def lines_figure(
    x: Floats,
    lines: Sequence[Line],
    *,
    labels: tuple[str, str],
    description: str,
    identity: str,
    level: float | None = None,
    ticks: Sequence[str] = (),
) -> str:
    """Return the curves over x with a legend below; `level` is a dashed line across, `ticks` name each x."""
    rows = -(-len(lines) // 3)
    figure, axes = axes_with(230.0 + 15.0 * rows, 52.0)
    figure.subplots_adjust(bottom=(46.0 + 15.0 * rows) / (230.0 + 15.0 * rows))
    if level is not None:
        axes.axhline(level, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
    shift = 0.0 if len(x) < 2 else 0.12 * float(np.min(np.diff(x)))
    for place, line in enumerate(lines):
        colour, width, dashes = _STYLES.get(line.name, _OTHERS[place % len(_OTHERS)])
        at = x
        if line.low is not None and line.high is not None:
            at = x + shift * (place - (len(lines) - 1) / 2)
            axes.vlines(at, line.low, line.high, color=colour, linewidth=1.0)
        mark = "o" if line.low is not None or len(x) == 1 else ""
        axes.plot(
            at,
            line.values,
            color=colour,
            linewidth=width,
            linestyle=dashes,
            marker=mark,
            markersize=3.5,
            label=line.name,
            zorder=3 if line.name == LEVEL_3 else 2,
        )
    axes.set(xlabel=labels[0], ylabel=labels[1])
    axes.yaxis.set_major_locator(MaxNLocator(5))
    if ticks:
        axes.set_xticks(x, ticks)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6))
    figure.legend(
        loc="lower center", ncols=3, frameon=False, fontsize=8.5, handlelength=2.2, columnspacing=1.2
    )
    return to_svg(figure, description, identity)
