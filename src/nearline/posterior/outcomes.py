"""Linear predictors and responses to losses and their derivatives, for the three outcome families.

Each family uses its canonical link, so with eta the linear predictor and m(eta) the mean, the loss
(negative log likelihood without the terms free of eta) has derivative m(eta) - y and curvature m'(eta):

=========  ======  =======================  ==========  ==============
family     link    loss                     mean        curvature
=========  ======  =======================  ==========  ==============
Bernoulli  logit   log(1 + e^eta) - y eta   sigmoid     m (1 - m)
Normal     id      (y - eta)^2 / 2          eta         1
Poisson    log     e^eta - y eta            e^eta       e^eta
=========  ======  =======================  ==========  ==============

A Normal outcome has unit noise variance here: divide the weights by the noise variance for any other.
Linear predictors beyond +-700 are held there before exponentiating, so nothing overflows.
"""

from enum import IntEnum
from typing import final

import numpy as np

from nearline.arrays import Bools, Floats

_ETA_LIMIT = 700.0


@final
class Outcome(IntEnum):
    """The family of the response; the integer is what the kernels take."""

    BERNOULLI = 0
    NORMAL = 1
    POISSON = 2


def loss(outcome: Outcome, y: Floats, eta: Floats) -> Floats:
    """Return the negative log likelihood of each row, without terms free of `eta`, shape of `eta`."""
    match outcome:
        case Outcome.BERNOULLI:
            return np.maximum(eta, 0.0) + np.log1p(np.exp(-np.abs(eta))) - y * eta
        case Outcome.NORMAL:
            return 0.5 * (y - eta) ** 2
        case Outcome.POISSON:
            return np.exp(np.clip(eta, -_ETA_LIMIT, _ETA_LIMIT)) - y * eta


def mean(outcome: Outcome, eta: Floats) -> Floats:
    """Return the mean response (the inverse link of `eta`)."""
    match outcome:
        case Outcome.BERNOULLI:
            rarer = _rarer(eta)
            return np.where(eta < 0.0, rarer, 1.0 - rarer)
        case Outcome.NORMAL:
            return np.asarray(eta, dtype=np.float64)
        case Outcome.POISSON:
            return np.exp(np.clip(eta, -_ETA_LIMIT, _ETA_LIMIT))


def curvature(outcome: Outcome, eta: Floats) -> Floats:
    """Return the second derivative of the loss in `eta`."""
    match outcome:
        case Outcome.BERNOULLI:
            rarer = _rarer(eta)
            return rarer * (1.0 - rarer)
        case Outcome.NORMAL:
            return np.ones_like(eta)
        case Outcome.POISSON:
            return np.exp(np.clip(eta, -_ETA_LIMIT, _ETA_LIMIT))


def slope_of_curvature(outcome: Outcome, eta: Floats) -> Floats:
    """Return the third derivative of the loss in `eta`."""
    match outcome:
        case Outcome.BERNOULLI:
            rarer = _rarer(eta)
            return -np.sign(eta) * rarer * (1.0 - rarer) * (1.0 - 2.0 * rarer)
        case Outcome.NORMAL:
            return np.zeros_like(eta)
        case Outcome.POISSON:
            return curvature(outcome, eta)


def is_valid_response(outcome: Outcome, y: Floats) -> Bools:
    """Return which responses the family allows: finite; in [0, 1] if Bernoulli; >= 0 if Poisson."""
    finite = np.isfinite(y)
    match outcome:
        case Outcome.BERNOULLI:
            return finite & (y >= 0.0) & (y <= 1.0)
        case Outcome.NORMAL:
            return finite
        case Outcome.POISSON:
            return finite & (y >= 0.0)


def _rarer(eta: Floats) -> Floats:
    """Return the probability of the less likely of two responses: exact however small."""
    odds = np.exp(-np.abs(eta))
    return odds / (1.0 + odds)
