"""A report to the rows of its tables, as text."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import final

import numpy as np

from nearline.evaluate.catalogue import HEADLINE, label, meaning
from nearline.evaluate.curve_points import Calibration, Curve
from nearline.evaluate.report import EffectDistribution, Report, Training
from nearline.evaluate.results import Evaluation, MetricResult, Slice
from nearline.evaluate.words import count, duration, interval, memory, number, percent


@final
@dataclass(frozen=True, slots=True)
class Table:
    """A caption, column heads, and rows whose first cell is the head of the row."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def metrics_table(report: Report) -> Table:
    """Return every metric on all rows with its interval and its gain over the baseline."""
    evaluation = report.evaluation
    found = evaluation.overall.metrics
    gains = any(result.gain is not None for result in found)
    columns = ["Metric", "Value", f"{percent(evaluation.level, 0)} interval"]
    columns += [f"Gain over {report.baseline}"] if gains else []
    rows = [
        (evaluation.label(result), number(result.estimate.value), interval(result.estimate), _gain(result))
        for result in found
    ]
    return Table("All rows", tuple(columns), tuple(row[: len(columns)] for row in rows))


def meanings_table(evaluation: Evaluation) -> Table:
    """Return what each metric is, and on how many entities those within entities rest."""
    rows = []
    for result in evaluation.overall.metrics:
        explained = meaning(result.metric, entity_type=result.entity_type, k=evaluation.k)
        measured = "" if result.entities is None else f" ({count(result.entities)} could be measured)"
        rows.append((evaluation.label(result), explained + measured))
    return Table("What each metric is", ("Metric", "Meaning"), tuple(rows))


def stages_table(report: Report) -> Table:
    """Return each metric by stage, the headline first: mean, spread over seeds, and the references."""
    headline = report.headline or HEADLINE[report.evaluation.outcome]
    known = dict.fromkeys(metric for stage in report.stages for metric in stage.scores)
    metrics = sorted(known, key=lambda metric: metric != headline)
    seeds = max(len(scores) for stage in report.stages for scores in stage.scores.values())
    columns = ["Stage"]
    for metric in metrics:
        columns += [
            label(metric),
            *(f"{r.name}: {label(metric)}" for r in report.references if r.metric == metric),
        ]
    rows = []
    for stage in report.stages:
        cells = [stage.name]
        for metric in metrics:
            others = [r.values.get(stage.name) for r in report.references if r.metric == metric]
            cells += [_mean_and_spread(stage.scores.get(metric, ()))]
            cells += ["" if value is None else number(value) for value in others]
        rows.append(tuple(cells))
    over = f"; mean \u00b1 standard deviation over {seeds} seeds" if seeds > 1 else ""
    return Table(f"Metrics after each stage of training{over}", tuple(columns), tuple(rows))


def groups_table(evaluation: Evaluation, entity_type: str) -> Table:
    """Return the row metrics of each size group of one entity type."""
    groups = [group for group in evaluation.groups if group.entity_type == entity_type]
    results: list[MetricResult] = next((list(group.metrics) for group in groups if group.metrics), [])
    columns = [f"Training rows of the {entity_type}", "Rows", "Entities"]
    columns += [evaluation.label(result) for result in results]
    rows = tuple(
        (group.group, count(group.rows), count(group.entities or 0), *_values(group, results))
        for group in groups
    )
    return Table(f"Metrics by how often the {entity_type} was seen in training", tuple(columns), rows)


def calibration_table(calibration: Calibration, level: float) -> Table:
    """Return the points of the calibration plot."""
    points = zip(calibration.predicted, calibration.observed, calibration.low, calibration.high, strict=True)
    rows = tuple(
        (str(place), number(p, 3), number(o, 3), f"{number(low, 3)} to {number(high, 3)}")
        for place, (p, o, low, high) in enumerate(points, start=1)
    )
    columns = ("Bin", "Predicted", "Observed", f"{percent(level, 0)} interval")
    return Table("Mean prediction and mean outcome in bins of equal weight", columns, rows)


def curve_table(curve: Curve, at: Sequence[float], columns: tuple[str, str], caption: str) -> Table:
    """Return the curve at some values of x."""
    heights = np.interp(at, curve.x, curve.y)
    rows = tuple((percent(x, 0), percent(y)) for x, y in zip(at, heights, strict=True))
    return Table(caption, columns, rows)


def effect_table(effect: EffectDistribution) -> Table:
    """Return the quantiles of one number per entity."""
    shares = (0.05, 0.25, 0.5, 0.75, 0.95)
    rows = [
        (percent(s, 0), number(v, 3)) for s, v in zip(shares, np.quantile(effect.values, shares), strict=True)
    ]
    if effect.prior_std is not None:
        rows.append(("prior std", number(effect.prior_std, 3)))
    columns = ("Share of entities below", f"{effect.quantity} ({effect.unit})")
    return Table(f"{effect.effect}: {effect.quantity}", columns, tuple(rows))


def training_tables(training: Training) -> tuple[Table, ...]:
    """Return the facts of training, the priors and the strongest features, those that are known."""
    facts = [("Rows", count(training.rows))]
    facts += [(f"Entities, {name}", count(entities)) for name, entities in training.entities.items()]
    facts += [(f"Time, {step}", duration(seconds)) for step, seconds in training.seconds.items()]
    if training.peak_memory_bytes is not None:
        facts.append(("Peak memory", memory(training.peak_memory_bytes)))
    tables = [Table("Training", ("Fact", "Value"), tuple(facts))]
    if training.priors:
        rows = tuple((p.effect, p.feature, number(p.mean, 3), number(p.std, 3)) for p in training.priors)
        columns = ("Effect", "Feature", "Mean", "Std")
        tables.append(Table("Population priors, estimated from the data", columns, rows))
    if training.strongest_features:
        weights = tuple((f.feature, number(f.coefficient, 3, sign=True)) for f in training.strongest_features)
        tables.append(Table("Strongest features of the fixed effect", ("Feature", "Coefficient"), weights))
    return tuple(tables)


def _gain(result: MetricResult) -> str:
    if result.gain is None:
        return ""
    return f"{number(result.gain.value, sign=True)} ({interval(result.gain, sign=True)})"


def _values(group: Slice, results: Sequence[MetricResult]) -> list[str]:
    found = [group.find(result.metric, result.entity_type) for result in results]
    return [
        "" if own is None else f"{number(own.estimate.value)} ({interval(own.estimate)})" for own in found
    ]


def _mean_and_spread(scores: Sequence[float]) -> str:
    if not scores:
        return ""
    spread = f" \u00b1 {number(stdev(scores))}" if len(scores) > 1 else ""
    return number(fmean(scores)) + spread
