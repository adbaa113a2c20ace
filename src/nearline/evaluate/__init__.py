"""Predictions on held-out rows to metrics with intervals, and to a report that a person can read."""

from typing import TYPE_CHECKING

from nearline.lazy import loader

if TYPE_CHECKING:
    from nearline.evaluate.bootstrap import Estimate
    from nearline.evaluate.curve_points import Curves, curves
    from nearline.evaluate.metrics import (
        auc,
        aupr,
        expected_calibration_error,
        interval_coverage,
        log_loss,
        mae,
        observed_over_expected,
        poisson_deviance,
        rmse,
    )
    from nearline.evaluate.per_entity import EntityMean, per_entity_auc, precision_at_k
    from nearline.evaluate.report import (
        EffectDistribution,
        FeatureWeight,
        PriorSummary,
        Reference,
        Report,
        Stage,
        Training,
        write_report,
    )
    from nearline.evaluate.results import Evaluation, MetricResult, Slice
    from nearline.evaluate.summary import EntitySizes, evaluate

__all__ = [
    "Curves",
    "EffectDistribution",
    "EntityMean",
    "EntitySizes",
    "Estimate",
    "Evaluation",
    "FeatureWeight",
    "MetricResult",
    "PriorSummary",
    "Reference",
    "Report",
    "Slice",
    "Stage",
    "Training",
    "auc",
    "aupr",
    "curves",
    "evaluate",
    "expected_calibration_error",
    "interval_coverage",
    "log_loss",
    "mae",
    "observed_over_expected",
    "per_entity_auc",
    "poisson_deviance",
    "precision_at_k",
    "rmse",
    "write_report",
]

_HOMES = {
    "nearline.evaluate.bootstrap": ("Estimate",),
    "nearline.evaluate.curve_points": ("Curves", "curves"),
    "nearline.evaluate.metrics": (
        "auc",
        "aupr",
        "expected_calibration_error",
        "interval_coverage",
        "log_loss",
        "mae",
        "observed_over_expected",
        "poisson_deviance",
        "rmse",
    ),
    "nearline.evaluate.per_entity": ("EntityMean", "per_entity_auc", "precision_at_k"),
    "nearline.evaluate.report": (
        "EffectDistribution",
        "FeatureWeight",
        "PriorSummary",
        "Reference",
        "Report",
        "Stage",
        "Training",
        "write_report",
    ),
    "nearline.evaluate.results": ("Evaluation", "MetricResult", "Slice"),
    "nearline.evaluate.summary": ("EntitySizes", "evaluate"),
}
"""Which module each name is from, as above for type checkers."""

__getattr__ = loader(__name__, _HOMES)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
