"""Outcomes and predictions to the curves of a report: calibration, ROC, precision-recall, a histogram.

Curves are thinned to a few hundred points, so a report is as small for a billion rows as for a thousand.
"""

from dataclasses import dataclass
from statistics import NormalDist
from typing import final

import numpy as np

from nearline.arrays import Floats
from nearline.evaluate.ranked import Masses, Ranked, in_equal_mass_bins, ratio
from nearline.evaluate.weights import checked_weight
from nearline.posterior.outcomes import Outcome

_POINTS = 240
_HISTOGRAM_BINS = 25


@final
@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A line through points (x, y), both of shape (points,), rising in x."""

    x: Floats
    y: Floats


@final
@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Mean prediction and mean outcome, with its interval, in bins of equal weight, all of shape (bins,)."""

    predicted: Floats
    observed: Floats
    low: Floats
    high: Floats


@final
@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """The share of the weight between each pair of `edges`, shapes (bins + 1,) and (bins,)."""

    edges: Floats
    share: Floats


@final
@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """What a report draws of one set of predictions.

    `roc` (share of negatives, share of positives above a score) is None unless both classes are there, and
    `precision_recall` (recall, precision) unless there are positives; both are for Bernoulli outcomes only.
    `base_rate` is the weighted mean of y.
    """

    outcome: Outcome
    base_rate: float
    calibration: Calibration
    histogram: Histogram
    roc: Curve | None
    precision_recall: Curve | None


def curves(
    y: Floats,
    prediction: Floats,
    weight: Floats | None,
    outcome: Outcome,
    *,
    bins: int = 10,
    level: float = 0.95,
) -> Curves:
    """Return the curves of `prediction` (the mean response); arrays are of shape (rows,)."""
    weight = checked_weight(y, prediction, weight, outcome)
    masses = Ranked.of(y, prediction).masses(weight)
    bernoulli = outcome is Outcome.BERNOULLI
    positives, total = masses.positive_so_far[-1], masses.total_so_far[-1]
    return Curves(
        outcome=outcome,
        base_rate=float(positives / total),
        calibration=_calibration(y, prediction, weight, outcome, bins, level),
        histogram=_histogram(prediction, weight, outcome),
        roc=_roc(masses) if bernoulli and 0.0 < positives < total else None,
        precision_recall=_precision_recall(masses) if bernoulli and positives > 0.0 else None,
    )


def _calibration(
    y: Floats, prediction: Floats, weight: Floats, outcome: Outcome, bins: int, level: float
) -> Calibration:
    """Return the bins, with Wilson intervals (Normal ones if not Bernoulli) at the effective row count."""
    order = np.argsort(prediction, kind="stable")
    ends = np.flatnonzero(np.r_[np.diff(prediction[order]) != 0.0, True])
    mass_so_far = np.cumsum(weight[order])[ends]

    def mean_in_bins(values: Floats) -> Floats:
        amounts = np.cumsum((weight * values)[order])[ends]
        per_bin = float(mass_so_far[-1]) / bins
        return in_equal_mass_bins(mass_so_far, amounts, bins) / per_bin

    predicted, observed = mean_in_bins(prediction), mean_in_bins(y)
    rows = weight.sum() ** 2 / (weight**2).sum() / bins
    z = NormalDist().inv_cdf(0.5 + 0.5 * level)
    if outcome is Outcome.BERNOULLI:
        middle = (observed + z**2 / (2.0 * rows)) / (1.0 + z**2 / rows)
        spread = np.clip(observed * (1.0 - observed), 0.0, None) / rows + z**2 / (4.0 * rows**2)
        half = z * np.sqrt(spread) / (1.0 + z**2 / rows)
    else:
        middle = observed
        half = z * np.sqrt(np.clip(mean_in_bins(y**2) - observed**2, 0.0, None) / rows)
    return Calibration(predicted, observed, middle - half, middle + half)


def _histogram(prediction: Floats, weight: Floats, outcome: Outcome) -> Histogram:
    limits = (0.0, 1.0) if outcome is Outcome.BERNOULLI else (prediction.min(), prediction.max())
    mass, edges = np.histogram(prediction, bins=_HISTOGRAM_BINS, range=limits, weights=weight)
    return Histogram(edges, mass / weight.sum())


def _roc(masses: Masses) -> Curve:
    negative_so_far = masses.total_so_far - masses.positive_so_far
    x = np.r_[0.0, negative_so_far / negative_so_far[-1]]
    y = np.r_[0.0, masses.positive_so_far / masses.positive_so_far[-1]]
    return _thinned(x, y, along=x + y)


def _precision_recall(masses: Masses) -> Curve:
    found = masses.positive_so_far > 0.0
    recall = masses.positive_so_far[found] / masses.positive_so_far[-1]
    precision = ratio(masses.positive_so_far[found], masses.total_so_far[found])
    return _thinned(recall, precision, along=recall)


def _thinned(x: Floats, y: Floats, along: Floats) -> Curve:
    """Return some `_POINTS` of the points, evenly spread in `along`, which does not fall, and the ends."""
    if x.size <= _POINTS:
        return Curve(x, y)
    wanted = np.linspace(along[0], along[-1], _POINTS)
    chosen = np.unique(np.r_[0, np.searchsorted(along, wanted), x.size - 1].clip(0, x.size - 1))
    return Curve(x[chosen], y[chosen])
