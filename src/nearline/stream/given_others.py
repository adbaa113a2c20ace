"""The other effects' contributions as served, mean and variance -> what a row is worth to one effect.

The linear predictor of a row is offset + x . b + z, where z ~ N(mean, v) is what the other effects contributed when
the row was served. With z integrated out, the row is learned as one of the same family:

=========  =====================================================================================================
Normal     weight / (s^2 + v), s^2 the noise variance: the block of the exact joint update of one row.
Bernoulli  features and offset times kappa = 1 / sqrt(1 + pi v / 8): the sigmoid averaged over z is near
           sigmoid(kappa eta) (MacKay 1992, doi:10.1162/neco.1992.4.5.720).
Poisson    offset + v / 2, the exact mean; weight / (1 + mu (e^v - 1)), mu that mean as served: the weight that
           gives the row the variance mu + mu^2 (e^v - 1) of the mixture (quasi-likelihood).
=========  =====================================================================================================

So what is not known of a new item is not learned as the taste of the user who met it.
"""

from dataclasses import dataclass
from typing import final

import numpy as np

from nearline.arrays import Floats, Ints
from nearline.posterior.outcomes import Outcome

_LARGEST_EXPONENT = 700.0


@final
@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """Labelled rows as one effect meets them; float64[rows] each but the times.

    Attributes
    ----------
    y : response, in the unit of the outcome.
    weight : a row of weight 2 counts as two rows that were served alike.
    offset : all of the linear predictor but the effect's own part: the request's offset, the fixed effect, and the
        means of the other random effects as served.
    variance : of the other random effects' parts as served.
    time_ms : int64[rows], when the row was served: its evidence ages from then on.
    own : mean of the effect's own part as served; only Poisson outcomes ask for it. None stands for 0.
    """

    y: Floats
    weight: Floats
    offset: Floats
    variance: Floats
    time_ms: Ints
    own: Floats | None = None

    def at(self, rows: Ints) -> "Observed":
        """The rows at these places, in that order."""
        return Observed(
            self.y[rows],
            self.weight[rows],
            self.offset[rows],
            self.variance[rows],
            self.time_ms[rows],
            None if self.own is None else self.own[rows],
        )

    def then(self, later: "Observed") -> "Observed":
        """These rows, and later ones; both with `own`, or neither."""
        own = None if self.own is None or later.own is None else np.concatenate([self.own, later.own])
        return Observed(
            np.concatenate([self.y, later.y]),
            np.concatenate([self.weight, later.weight]),
            np.concatenate([self.offset, later.offset]),
            np.concatenate([self.variance, later.variance]),
            np.concatenate([self.time_ms, later.time_ms]),
            own,
        )


@final
@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """What goes into the update: weight and offset float64[rows], and the factor on the features, None for 1."""

    weight: Floats
    offset: Floats
    scale: Floats | None = None


def given_others(observed: Observed, outcome: Outcome, noise_variance: float = 1.0) -> Terms:
    """The rows with the other effects' contributions integrated out.

    Rows whose numbers are not finite come out not finite, for the update to set aside.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        match outcome:
            case Outcome.NORMAL:
                return Terms(observed.weight / (noise_variance + observed.variance), observed.offset)
            case Outcome.BERNOULLI:
                scale = 1.0 / np.sqrt(1.0 + (np.pi / 8.0) * observed.variance)
                return Terms(observed.weight, observed.offset * scale, scale)
            case Outcome.POISSON:
                offset = observed.offset + observed.variance / 2.0
                served = offset if observed.own is None else offset + observed.own
                mean = np.exp(np.minimum(served, _LARGEST_EXPONENT))
                spread = np.expm1(np.minimum(observed.variance, _LARGEST_EXPONENT))
                return Terms(observed.weight / (1.0 + mean * spread), offset)
