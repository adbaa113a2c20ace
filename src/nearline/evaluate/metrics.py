"""Outcomes, predictions and weights to weighted metrics.

Each function takes `y`, `prediction` and `weight` of shape (rows,), float64; without `weight` every row
weighs 1. A row of weight 2 counts as the row twice, and a mean divides by the sum of the weights, never by
the number of rows. No rows, weights that are all zero, and numbers that are not finite raise `DataError`; NaN
is returned only where a metric is undefined, and its docstring says where.
"""

from typing import Literal

import numpy as np
from scipy.special import kl_div, ndtri, xlog1py, xlogy

from nearline.arrays import Floats
from nearline.errors import DataError
from nearline.evaluate.ranked import Ranked
from nearline.evaluate.weights import checked_weight
from nearline.posterior.outcomes import Outcome

_SMALLEST_PROBABILITY = float(np.finfo(np.float64).eps)

Bins = Literal["equal mass", "equal width"]


def log_loss(y: Floats, probability: Floats, weight: Floats | None = None) -> float:
    """Return the mean of -y log p - (1 - y) log(1 - p), in nats, p held within [2.2e-16, 1 - 2.2e-16]."""
    weight = checked_weight(y, probability, weight, Outcome.BERNOULLI)
    return _mean(row_log_loss(y, probability), weight)


def auc(y: Floats, score: Floats, weight: Floats | None = None) -> float:
    """Return the chance that a random positive outranks a random negative, ties counting half.

    `score` may be on any increasing scale. NaN if the weight of one of the two classes is zero.
    """
    weight = checked_weight(y, score, weight, Outcome.BERNOULLI)
    return _ranking_measures(y, score, weight)[0]


def aupr(y: Floats, score: Floats, weight: Floats | None = None) -> float:
    """Return the average precision, the sum over distinct scores of precision x rise in recall.

    `score` may be on any increasing scale. NaN if the weight of the positives is zero.
    """
    weight = checked_weight(y, score, weight, Outcome.BERNOULLI)
    return _ranking_measures(y, score, weight)[1]


def rmse(y: Floats, prediction: Floats, weight: Floats | None = None) -> float:
    """Return sqrt(sum w (y - prediction)^2 / sum w), in units of y."""
    weight = checked_weight(y, prediction, weight, Outcome.NORMAL)
    return float(np.sqrt(_mean((y - prediction) ** 2, weight)))


def mae(y: Floats, prediction: Floats, weight: Floats | None = None) -> float:
    """Return sum w |y - prediction| / sum w, in units of y."""
    weight = checked_weight(y, prediction, weight, Outcome.NORMAL)
    return _mean(np.abs(y - prediction), weight)


def expected_calibration_error(
    y: Floats,
    probability: Floats,
    weight: Floats | None = None,
    *,
    bins: int = 10,
    binning: Bins = "equal mass",
) -> float:
    """Return the weighted mean over bins of |mean y - mean probability|, a probability.

    The bins hold equal weight by default, so that none is nearly empty; "equal width" cuts [0, 1] evenly, as
    older papers do. Chance alone makes the value positive: about sqrt(2 v bins / (pi n)) for n rows of
    variance v under perfect calibration.
    """
    weight = checked_weight(y, probability, weight, Outcome.BERNOULLI)
    _check_probability(probability)
    if bins < 1:
        raise DataError(f"bins: expected 1 or more, got {bins}")
    if binning == "equal mass":
        return _ranking_measures(y, probability, weight, bins)[2]
    bin_of_row = np.minimum((probability * bins).astype(np.int64), bins - 1)
    residual = np.bincount(bin_of_row, weights=weight * (y - probability), minlength=bins)
    return float(np.abs(residual).sum() / weight.sum())


def observed_over_expected(y: Floats, prediction: Floats, weight: Floats | None = None) -> float:
    """Return sum w y / sum w prediction; above 1 the model predicts too little. NaN if it predicts 0."""
    weight = checked_weight(y, prediction, weight, Outcome.NORMAL)
    expected = float(weight @ prediction)
    return float(weight @ y) / expected if expected > 0.0 else float("nan")


def poisson_deviance(y: Floats, rate: Floats, weight: Floats | None = None) -> float:
    """Return the mean of 2 (y log(y / rate) - y + rate); infinite if something happened at rate zero."""
    weight = checked_weight(y, rate, weight, Outcome.POISSON)
    return _mean(row_poisson_deviance(y, rate), weight)


def interval_coverage(
    y: Floats, prediction: Floats, std: Floats, weight: Floats | None = None, *, level: float = 0.95
) -> float:
    """Return the share of weight inside the central Normal interval of `level`; `std` in units of y."""
    weight = checked_weight(y, prediction, weight, Outcome.NORMAL)
    return _mean(row_coverage(y, prediction, std, level), weight)


def row_log_loss(y: Floats, probability: Floats) -> Floats:
    """Return the log loss of each row, shape (rows,)."""
    _check_probability(probability)
    held = np.clip(probability, _SMALLEST_PROBABILITY, 1.0 - _SMALLEST_PROBABILITY)
    return np.asarray(-xlogy(y, held) - xlog1py(1.0 - y, -held), dtype=np.float64)


def row_poisson_deviance(y: Floats, rate: Floats) -> Floats:
    """Return the Poisson deviance of each row, shape (rows,)."""
    if np.any(rate < 0.0):
        raise DataError(f"prediction: a Poisson rate is 0 or more, found {rate.min()}")
    return np.asarray(2.0 * kl_div(y, rate), dtype=np.float64)


def row_coverage(y: Floats, prediction: Floats, std: Floats, level: float) -> Floats:
    """Return 1 for each row inside its central Normal interval of `level`, else 0, shape (rows,)."""
    if std.shape != y.shape or not np.all(std >= 0.0):
        raise DataError(f"prediction std: expected {y.size} numbers, none negative, got shape {std.shape}")
    return (np.abs(y - prediction) <= ndtri(0.5 + 0.5 * level) * std).astype(np.float64)


def _check_probability(probability: Floats) -> None:
    if np.any((probability < 0.0) | (probability > 1.0)):
        raise DataError(
            f"prediction: expected probabilities in [0, 1], got {probability.min()} to {probability.max()}; "
            "give the mean response, not the linear predictor"
        )


def _mean(values: Floats, weight: Floats) -> float:
    counted = weight > 0.0
    return float(np.average(values[counted], weights=weight[counted]))


def _ranking_measures(y: Floats, score: Floats, weight: Floats, bins: int = 1) -> tuple[float, float, float]:
    """Return AUC, average precision and calibration error of one weighting."""
    auc, precision, error = Ranked.of(y, score).measures(weight[None, :], bins)[0]
    return float(auc), float(precision), float(error)
