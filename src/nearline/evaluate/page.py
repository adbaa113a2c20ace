"""A report to one HTML page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Final, final

import jinja2
import numpy as np

from nearline.evaluate import figures, tables
from nearline.evaluate.bootstrap import Estimate
from nearline.evaluate.catalogue import HEADLINE, METRICS, label
from nearline.evaluate.curve_points import Curve, Curves
from nearline.evaluate.report import EffectDistribution, Reference, Report, Stage
from nearline.evaluate.tables import Table
from nearline.evaluate.words import count, number, percent, provenance, verdict
from nearline.posterior.outcomes import Outcome

_TEMPLATES: Final = Path(__file__).parent / "templates"


@final
@dataclass(frozen=True, slots=True)
class Panel:
    """A figure under a heading, with a line on how to read it and the table of its numbers."""

    heading: str
    reading: str
    svg: str
    table: Table


def render(report: Report, judged: Sequence[Panel] | None = None) -> str:
    """Return the page as HTML; names from the data are escaped, and equal reports give equal text.

    `judged` are its `judged_panels`, where they were drawn before the rest was known.
    """
    panels = (*(judged_panels(report) if judged is None else judged), *_effect_panels(report))
    return template("report.html").render(
        title=report.title,
        report=report,
        verdict=verdict(report.evaluation),
        provenance=provenance(report.evaluation),
        metrics=tables.metrics_table(report),
        meanings=tables.meanings_table(report.evaluation),
        stages=_stages_panel(report) if report.stages else None,
        stages_table=tables.stages_table(report) if report.stages else None,
        panels=panels,
        training=tables.training_tables(report.training) if report.training is not None else (),
    )


def template(name: str) -> jinja2.Template:
    """A template of this package; all it is given is escaped unless it says otherwise."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(name)


def _headline(report: Report) -> str:
    return report.headline or HEADLINE[report.evaluation.outcome]


def judged_panels(report: Report) -> tuple[Panel, ...]:
    """Draw what the rows held out say: curves and groups."""
    return tuple(_judged_panels(report))


def _judged_panels(report: Report) -> Iterator[Panel]:
    if report.curves is not None:
        yield _calibration_panel(report.curves, report.evaluation.level)
        if report.curves.roc is not None:
            yield _roc_panel(report, report.curves.roc)
        if report.curves.precision_recall is not None:
            yield _precision_recall_panel(report, report.curves.precision_recall, report.curves.base_rate)
    types = dict.fromkeys(group.entity_type for group in report.evaluation.groups)
    for place, entity_type in enumerate(name for name in types if name is not None):
        yield _groups_panel(report, entity_type, f"groups{place}")


def _effect_panels(report: Report) -> Iterator[Panel]:
    for place, effect in enumerate(report.effects):
        if effect.values.size > 0:
            yield _effect_panel(effect, f"effect{place}")


def _stages_panel(report: Report) -> Panel | None:
    metric = _headline(report)
    drawn = [
        (stage.name, _stage_estimate(stage, metric)) for stage in report.stages if stage.scores.get(metric)
    ]
    if not drawn:
        return None
    names = [name for name, _ in drawn]
    references = [
        (r.name, [r.values.get(name) for name in names]) for r in report.references if r.metric == metric
    ]
    said = "; ".join(f"{name} {number(estimate.value)}" for name, estimate in drawn)
    svg = figures.stages_figure(
        drawn,
        references,
        unit=_with_direction(metric),
        description=f"{label(metric)} after each stage of training: {said}.",
        identity="stages",
    )
    level = percent(report.evaluation.level, 0)
    reading = (
        f"Filled: this model, with its {level} interval." if _has_interval(drawn) else "Filled: this model."
    )
    reading += f" Hollow: {_sources(report.references, metric)}." if references else ""
    return Panel(f"{label(metric)} by stage", reading, svg, tables.stages_table(report))


def _stage_estimate(stage: Stage, metric: str) -> Estimate:
    return stage.intervals.get(metric, Estimate(fmean(stage.scores[metric])))


def _has_interval(drawn: list[tuple[str, Estimate]]) -> bool:
    return any(np.isfinite(estimate.low) for _, estimate in drawn)


def _sources(references: tuple[Reference, ...], metric: str) -> str:
    own = [reference for reference in references if reference.metric == metric]
    return "; ".join(f"{r.name} ({r.source})" if r.source else r.name for r in own)


def _with_direction(metric: str) -> str:
    if metric not in METRICS or METRICS[metric].better == 0:
        return label(metric)
    return f"{label(metric)} ({'higher' if METRICS[metric].better > 0 else 'lower'} is better)"


def _calibration_panel(curves: Curves, level: float) -> Panel:
    probability = curves.outcome is Outcome.BERNOULLI
    calibration = curves.calibration
    worst = int(np.argmax(np.abs(calibration.observed - calibration.predicted)))
    svg = figures.calibration_figure(
        calibration,
        curves.histogram,
        labels=("Predicted probability", "Observed share")
        if probability
        else ("Predicted mean", "Observed mean"),
        probability=probability,
        description=(
            "Observed against predicted mean in ten bins. The widest gap is where "
            f"{number(float(calibration.predicted[worst]), 3)} is predicted and "
            f"{number(float(calibration.observed[worst]), 3)} observed."
        ),
        identity="calibration",
    )
    reading = (
        "Ten bins of equal weight; on the dashed line what is predicted is what happens. Bars: "
        f"{percent(level, 0)} intervals, rows taken as independent. Below: where the predictions lie."
    )
    return Panel("Calibration", reading, svg, tables.calibration_table(calibration, level))


def _roc_panel(report: Report, roc: Curve) -> Panel:
    auc = report.evaluation.overall.find("auc")
    value = number(auc.estimate.value, 3) if auc is not None else "n/a"
    ends = np.array([0.0, 1.0])
    svg = figures.curve_figure(
        roc,
        Curve(ends, ends),
        labels=("Share of negatives taken", "Share of positives taken"),
        note=f"AUC {value}",
        chance_note="chance",
        description=f"ROC curve; the area under it is {value}.",
        identity="roc",
    )
    table = tables.curve_table(
        roc, (0.01, 0.05, 0.1, 0.2, 0.5), ("Negatives taken", "Positives taken"), "Points of the ROC curve"
    )
    reading = "As rows are taken from the highest score down. The further up and left, the better."
    return Panel("Ranking (ROC)", reading, svg, table)


def _precision_recall_panel(report: Report, curve: Curve, base_rate: float) -> Panel:
    aupr = report.evaluation.overall.find("aupr")
    value = number(aupr.estimate.value, 3) if aupr is not None else "n/a"
    svg = figures.curve_figure(
        curve,
        Curve(np.array([0.0, 1.0]), np.full(2, base_rate)),
        labels=("Recall: share of positives taken", "Precision: positives among taken"),
        note=f"AUPR {value}",
        chance_note=f"base rate {percent(base_rate)}",
        description=f"Precision against recall; average precision {value}, base rate {percent(base_rate)}.",
        identity="pr",
    )
    table = tables.curve_table(
        curve, (0.05, 0.1, 0.25, 0.5, 0.75), ("Recall", "Precision"), "Points of the precision-recall curve"
    )
    reading = "As rows are taken from the highest score down. The further above the dashed line, the better."
    return Panel("Precision and recall", reading, svg, table)


def _groups_panel(report: Report, entity_type: str, identity: str) -> Panel:
    metric, evaluation = _headline(report), report.evaluation
    groups = [group for group in evaluation.groups if group.entity_type == entity_type]
    found = [(group, group.find(metric)) for group in groups]
    gains = any(result is not None and result.gain is not None for _, result in found)
    shown = [
        (f"{group.group}\n{group.rows:,} rows", None if r is None else (r.gain if gains else r.estimate))
        for group, r in found
    ]
    values = [
        f"{group.group}: {'n/a' if e is None else number(e.value)}"
        for (group, _), (_, e) in zip(found, shown, strict=True)
    ]
    what = f"Gain in {label(metric)}" if gains else label(metric)
    svg = figures.groups_figure(
        shown,
        unit=f"{what} over {report.baseline}" if gains else _with_direction(metric),
        zero="no gain" if gains else None,
        description=f"{what} by the number of training rows of the {entity_type}. {'; '.join(values)}.",
        identity=identity,
    )
    reading = (
        f"{what} by how many training rows the {entity_type} has. "
        f"{'Above zero the model is better. ' if gains else ''}"
        f"Bars: {percent(evaluation.level, 0)} intervals."
    )
    heading = f"{what} by {entity_type} history"
    return Panel(heading, reading, svg, tables.groups_table(evaluation, entity_type))


def _effect_panel(effect: EffectDistribution, identity: str) -> Panel:
    middle, entities = float(np.median(effect.values)), count(effect.values.size)
    svg = figures.effects_figure(
        effect,
        description=f"Histogram of the {effect.quantity} of {entities} entities; median {number(middle, 3)}.",
        identity=identity,
    )
    reading = f"One {effect.quantity} for each of {entities} entities; half are below {number(middle, 3)}."
    return Panel(f"{effect.effect}: {effect.quantity}", reading, svg, tables.effect_table(effect))
