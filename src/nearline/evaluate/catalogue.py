"""The metrics an evaluation holds, each declared once: its name in JSON, its label, range and meaning."""

from dataclasses import dataclass
from math import inf
from typing import Final, final

from nearline.posterior.outcomes import Outcome


@final
@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: `better` is +1 if higher is better, -1 if lower is, 0 if `ideal` is.

    `label` and `meaning` may hold `{entity}` and `{k}`, the entity type and the number of places.
    """

    name: str
    label: str
    better: int
    meaning: str
    lowest: float = 0.0
    highest: float = inf
    ideal: float | None = None


_ALL: Final = (
    Metric("log_loss", "Log loss", -1, "mean of -log of the probability given to what happened, in nats"),
    Metric("auc", "AUC", 1, "chance that a random positive row outranks a random negative one", highest=1.0),
    Metric("aupr", "AUPR", 1, "average precision over all recalls", highest=1.0),
    Metric(
        "ece",
        "Calibration error",
        -1,
        "mean gap between predicted and observed share in 10 bins of equal weight",
        highest=1.0,
    ),
    Metric(
        "observed_over_expected",
        "Observed / expected",
        0,
        "what happened per unit of what was predicted",
        ideal=1.0,
    ),
    Metric(
        "per_entity_auc",
        "AUC within {entity}",
        1,
        "AUC of the rows of one {entity}, mean weighted by rows",
        highest=1.0,
    ),
    Metric(
        "precision_at_k",
        "Precision at {k} within {entity}",
        1,
        "share of positives among the {k} highest scores of one {entity}, over those with at least {k} rows",
        highest=1.0,
    ),
    Metric("rmse", "RMSE", -1, "root of the mean squared error, in units of the outcome"),
    Metric("mae", "MAE", -1, "mean absolute error, in units of the outcome"),
    Metric("coverage_50", "Held by 50 % intervals", 0, "share of rows inside", highest=1.0, ideal=0.50),
    Metric("coverage_80", "Held by 80 % intervals", 0, "share of rows inside", highest=1.0, ideal=0.80),
    Metric("coverage_95", "Held by 95 % intervals", 0, "share of rows inside", highest=1.0, ideal=0.95),
    Metric("poisson_deviance", "Poisson deviance", -1, "mean deviance of a row"),
)

METRICS: Final = {metric.name: metric for metric in _ALL}
"""Every metric by name."""

HEADLINE: Final = {Outcome.BERNOULLI: "auc", Outcome.NORMAL: "rmse", Outcome.POISSON: "poisson_deviance"}
"""The metric that a plot with room for one shows."""


def label(name: str, *, entity_type: str | None = None, k: int = 0) -> str:
    """Return the label of a metric, and the name itself if it is not one of `METRICS`."""
    if name not in METRICS:
        return name
    return METRICS[name].label.replace("{entity}", entity_type or "entity").replace("{k}", str(k))


def meaning(name: str, *, entity_type: str | None = None, k: int = 0) -> str:
    """Return what a metric means in one phrase, empty if it is not one of `METRICS`."""
    if name not in METRICS:
        return ""
    return METRICS[name].meaning.replace("{entity}", entity_type or "entity").replace("{k}", str(k))
