"""Results to figures as inline SVG that takes its colours and font from the page around it: see `drawing`."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from nearline.evaluate.bootstrap import Estimate
from nearline.evaluate.curve_points import Calibration, Curve, Histogram
from nearline.evaluate.drawing import (
    FILL,
    MODEL,
    MUTED,
    OTHER,
    SURFACE,
    WIDTH,
    axes_with,
    draw_point,
    house_style,
    rows_with,
    to_svg,
    write_note,
)
from nearline.evaluate.report import EffectDistribution


@house_style()
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
    figure, axes = rows_with(names, points_per_row=24.0 + 22.0 * (1 + len(references)))
    for place, (_, estimate) in enumerate(stages):
        level = place - step * len(references) / 2
        draw_point(axes, estimate, level)
        name = "this model " if references and place == 0 else ""
        write_note(axes, f"{name}{estimate.value:.4f}", (estimate.value, level), MODEL, size=8.5)
    known = [estimate.value for _, estimate in stages]
    known += [value for _, values in references for value in values if value is not None]
    middle = (min(known) + max(known)) / 2
    for row, (name, values) in enumerate(references, start=1):
        for place, value in enumerate(values):
            if value is not None:
                level = place + step * (row - len(references) / 2)
                axes.plot(value, level, "D", color=OTHER, markerfacecolor=SURFACE, markersize=4.5)
                text = f"{name} {value:.4f}" if place == 0 else f"{value:.4f}"
                side = (6.0, 0.0) if value <= middle else (-6.0, 0.0)
                write_note(axes, text, (value, level), OTHER, side, size=8.5)
    axes.set_xlabel(unit)
    axes.margins(x=0.2)
    return to_svg(figure, description, identity)


@house_style()
def groups_figure(
    groups: Sequence[tuple[str, Estimate | None]],
    *,
    unit: str,
    zero: str | None,
    description: str,
    identity: str,
) -> str:
    """Return a point with its interval per group; `zero` labels a line at 0, if there is to be one."""
    figure, axes = rows_with([name for name, _ in groups], points_per_row=34.0)
    if zero is not None:
        axes.axvline(0.0, color=MUTED, linewidth=1.0, zorder=1.5)
        write_note(axes, zero, (0.0, -0.7), MUTED, (3.0, 2.0), size=8.5)
    across = axes.get_yaxis_transform()
    for place, (_, estimate) in enumerate(groups):
        if estimate is None or not np.isfinite(estimate.value):
            axes.text(0.5, place, "too few rows", color=MUTED, ha="center", va="center", transform=across)
        else:
            draw_point(axes, estimate, place)
            text = f"{estimate.value:{'+' if zero is not None else ''}.4f}".replace("-", "\u2212")
            write_note(axes, text, (estimate.value, place), MODEL, size=8.5)
    axes.set_xlabel(unit)
    axes.margins(x=0.12)
    return to_svg(figure, description, identity)


@house_style()
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
    figure = Figure(figsize=(WIDTH / 72, 285 / 72))
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    figure.subplots_adjust(48 / WIDTH, 38 / 285, 1 - 14 / WIDTH, 1 - 8 / 285, hspace=0.12)
    low, high = (0.0, 1.0) if probability else (histogram.edges[0], histogram.edges[-1])
    axes.plot([low, high], [low, high], color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
    write_note(axes, "perfect", (low + 0.72 * (high - low),) * 2, MUTED, (10.0, -10.0))
    axes.vlines(calibration.predicted, calibration.low, calibration.high, color=MODEL, linewidth=1.8)
    axes.plot(calibration.predicted, calibration.observed, "o-", color=MODEL, markersize=4, linewidth=0.8)
    axes.set_ylabel(labels[1])
    axes.tick_params(axis="x", length=0)
    below.stairs(histogram.share, histogram.edges, fill=True, color=FILL)
    below.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    below.yaxis.set_major_locator(MaxNLocator(2))
    below.set(xlabel=labels[0], ylabel="rows")
    figure.align_ylabels()
    if probability:
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    return to_svg(figure, description, identity)


@house_style()
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
    figure, axes = axes_with(250.0)
    axes.plot(chance.x, chance.y, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
    axes.plot(curve.x, curve.y, color=MODEL, clip_on=False)
    write_note(axes, chance_note, (float(np.mean(chance.x)), float(np.mean(chance.y))), MUTED, (6.0, -10.0))
    height = float(np.interp(0.4, curve.x, curve.y))
    right, above = (1.0 if curve.y[-1] > curve.y[0] else -1.0), height < 0.5
    write_note(axes, note, (0.4, height), MODEL, (-8.0 * right, 10.0) if above else (8.0 * right, -12.0))
    axes.set(xlim=(0.0, 1.0), ylim=(0.0, 1.0), xlabel=labels[0], ylabel=labels[1])
    return to_svg(figure, description, identity)


@house_style()
def effects_figure(effects: EffectDistribution, *, description: str, identity: str) -> str:
    """Return a histogram of one number per entity, with the spread of its prior if that is known."""
    figure, axes = axes_with(180.0)
    counts, edges = np.histogram(effects.values, bins=30)
    axes.stairs(counts, edges, fill=True, color=FILL)
    if effects.prior_std is not None:
        axes.axvline(effects.prior_std, color=OTHER, linewidth=1.2)
        side = -4.0 if effects.prior_std > edges.mean() else 4.0
        write_note(axes, "prior std", (effects.prior_std, 1.08 * counts.max()), OTHER, (side, 0.0))
        axes.set_ylim(0.0, 1.15 * counts.max())
    axes.set(xlabel=f"{effects.quantity} ({effects.unit})", ylabel="entities")
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.grid(visible=False, axis="x")
    return to_svg(figure, description, identity)
