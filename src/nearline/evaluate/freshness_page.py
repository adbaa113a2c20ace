"""What a replay found to one HTML page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from nearline.arrays import Floats
from nearline.evaluate import figures
from nearline.evaluate.bootstrap import Estimate
from nearline.evaluate.catalogue import METRICS, label
from nearline.evaluate.freshness_figures import Line, lines_figure
from nearline.evaluate.freshness_measures import CONFIDENCE, Degradation, Freshness, OverTime, SizeGain
from nearline.evaluate.freshness_report import ReplayReport
from nearline.evaluate.freshness_words import (
    how_tables,
    levels_table,
    meanings_table,
    provenance,
    rule_text,
    time_unit,
    verdict,
)
from nearline.evaluate.levels import LEVEL_0, LEVEL_3
from nearline.evaluate.page import Panel, template
from nearline.evaluate.sensitivity import Trial
from nearline.evaluate.tables import Table
from nearline.evaluate.words import count, interval, number, percent

_READING = {
    1: "Higher is better.",
    -1: "Lower is better.",
    0: "On the dashed line what is predicted is what happens.",
}
"""By what is better in a metric."""


@final
@dataclass(frozen=True, slots=True)
class Section:
    """Panels under a heading."""

    heading: str
    panels: tuple[Panel, ...]


def render(report: ReplayReport) -> str:
    """Return the page as HTML; names from the data are escaped, and equal reports give equal text."""
    found = report.freshness
    sections = (
        Section("Over time", tuple(_over_time(report))),
        Section("How a model ages", tuple(_degradation(report))),
        Section("Who gains", tuple(_gains(found))),
        Section("What if level 3 were set otherwise", tuple(_sensitivity(report.replayed.trials))),
    )
    return template("replay.html").render(
        title=report.title,
        about=report.about,
        verdict=verdict(found),
        provenance=provenance(found),
        levels=levels_table(found),
        meanings=meanings_table(found),
        sections=[section for section in sections if section.panels],
        how=how_tables(report),
    )


def _over_time(report: ReplayReport) -> Iterator[Panel]:
    stream, begin = report.replayed.stream, report.replayed.begin
    first = float(stream.time_ms[begin])
    unit, size = time_unit(stream, float(stream.time_ms[-1]) - first)
    for curve in report.freshness.over_time:
        x = (curve.end_ms.astype(np.float64) - first) / size
        lines = [Line(name, values) for name, values in curve.values.items()]
        name = label(curve.metric)
        perfect = 1.0 if curve.metric == "observed_over_expected" else None
        means = "; ".join(f"{line.name} {_mean(line.values)}" for line in lines)
        svg = lines_figure(
            x,
            lines,
            labels=(f"{unit} since the first model was trained", name),
            description=f"{name} over time by level, means of the pieces: {means}.",
            identity=f"time-{curve.metric}",
            level=perfect,
        )
        reading = f"In {len(x)} pieces with equally many rows; all levels see the same rows."
        reading += f" {_READING[METRICS[curve.metric].better]}"
        yield Panel(f"{name} over time", reading, svg, _curve_table(curve, x, unit))


def _mean(values: Floats) -> str:
    finite = values[np.isfinite(values)]
    return number(float(finite.mean())) if len(finite) else "n/a"


def _curve_table(curve: OverTime, x: Floats, unit: str) -> Table:
    rows = tuple(
        (number(float(at), 1), *(number(float(values[place])) for values in curve.values.values()))
        for place, at in enumerate(x)
    )
    return Table(f"{label(curve.metric)} by level", (f"Up to {unit}", *curve.values), rows)


def _degradation(report: ReplayReport) -> Iterator[Panel]:
    found = report.freshness
    if found.since_refit is not None:
        yield _age_panel(report, found.since_refit, "since the last refit", "refit")
    if found.since_training is not None:
        yield _age_panel(report, found.since_training, "since it was trained once", "training")


def _age_panel(report: ReplayReport, found: Degradation, since: str, identity: str) -> Panel:
    unit, size = time_unit(report.replayed.stream, float(found.until_ms[-1]))
    x = found.until_ms / size
    lines = [
        Line(name, *(np.array([getattr(e, end) for e in estimates]) for end in ("value", "low", "high")))
        for name, estimates in found.loss.items()
    ]
    ends = "; ".join(f"{line.name}: {number(float(line.values[-1]), sign=True)}" for line in lines)
    svg = lines_figure(
        x,
        lines,
        labels=(f"{unit} {since}", f"{_loss_name(report.freshness)} above level 3"),
        description=f"Mean loss above that of level 3 by time {since}. At the end {ends}.",
        identity=f"age-{identity}",
        level=0.0,
    )
    reading = (
        f"What a row costs more than with level 3, by the time {since}, at the end of each bin. "
        f"On the dashed line it is as good. Bars: {percent(CONFIDENCE, 0)} intervals."
    )
    rows = tuple(
        (
            number(float(at), 1),
            count(int(found.rows[place])),
            *(_with_interval(estimates[place]) for estimates in found.loss.values()),
        )
        for place, at in enumerate(x)
    )
    table = Table(f"Loss above level 3, by time {since}", (f"Up to {unit}", "Rows", *found.loss), rows)
    return Panel(f"Loss {since}", reading, svg, table)


def _with_interval(estimate: Estimate) -> str:
    return f"{number(estimate.value, sign=True)} ({interval(estimate, sign=True)})"


def _loss_name(found: Freshness) -> str:
    return {"BERNOULLI": "Log loss", "NORMAL": "Half squared error", "POISSON": "Half deviance"}[
        found.outcome.name
    ]


def _gains(found: Freshness) -> Iterator[Panel]:
    for kind in dict.fromkeys(gain.kind for gain in found.gains):
        own = [gain for gain in found.gains if gain.kind == kind]
        over = next((name for name in (LEVEL_0, *own[0].gain) if name in own[0].gain), None)
        if over is None:
            continue
        shown = [(f"{gain.group}\n{count(gain.rows)} rows", gain.gain[over]) for gain in own]
        said = "; ".join(f"{gain.group}: {number(gain.gain[over].value, sign=True)}" for gain in own)
        svg = figures.groups_figure(
            shown,
            unit=f"{_loss_name(found)} saved over {over}",
            zero="no gain",
            description=f"What {LEVEL_3} saves over {over} by labels known of the {kind}. {said}.",
            identity=f"gain-{kind}",
        )
        reading = (
            f"What {LEVEL_3} saves over {over}, by how many labels of the {kind} were known when the row was "
            f"scored. Bars: {percent(CONFIDENCE, 0)} intervals."
        )
        yield Panel(f"Gain by {kind} history", reading, svg, _gains_table(own, kind))


def _gains_table(gains: Sequence[SizeGain], kind: str) -> Table:
    rows = tuple(
        (gain.group, count(gain.rows), *(_with_interval(each) for each in gain.gain.values()))
        for gain in gains
    )
    columns = (f"Labels known of the {kind}", "Rows", *(f"Over {name}" for name in gains[0].gain))
    return Table(f"Loss that {LEVEL_3} saves, by {kind}", columns, rows)


def _sensitivity(trials: tuple[Trial, ...]) -> Iterator[Panel]:
    if not trials:
        return
    rules = list(dict.fromkeys(trial.time_constant_ms for trial in trials))
    kinds = list(dict.fromkeys((trial.mini_batch, trial.full) for trial in trials))
    loss = {(t.mini_batch, t.full, t.time_constant_ms): t.loss for t in trials}
    lines = [
        Line(_trial_name(size, full), np.array([loss[size, full, rule] for rule in rules]))
        for size, full in kinds
    ]
    best = min(trials, key=lambda trial: trial.loss)
    names = [rule_text(rule) for rule in rules]
    svg = lines_figure(
        np.arange(float(len(rules))),
        lines,
        labels=("time constant of forgetting", "mean loss"),
        description=f"Mean loss of level 3 by settings; the least is {number(best.loss)}.",
        identity="sensitivity",
        ticks=names,
    )
    rows = tuple(
        (_trial_name(size, full), *(number(loss[size, full, rule]) for rule in rules)) for size, full in kinds
    )
    reading = (
        f"On the last {count(best.rows)} rows of the stream; all random effects with the same time constant, after "
        "which evidence keeps 1 / e = 37\u00a0%. Lower is better."
    )
    table = Table("Mean loss of level 3", ("Mini-batch", *names), rows)
    yield Panel("Mini-batches, forgetting, precision", reading, svg, table)


def _trial_name(size: int, full: bool) -> str:
    rows = "1 row" if size == 1 else f"{size} rows"
    return rows if full else f"{rows}, diagonal"
