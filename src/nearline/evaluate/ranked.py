"""Rows sorted once by score, and any number of weightings of them, to ranking and calibration metrics.

A label y in [0, 1] splits its row's weight into y of a positive and 1 - y of a negative.
"""

from dataclasses import dataclass
from typing import final

import numpy as np

from nearline.arrays import Floats, Ints
from nearline.kernels import _ranking


@final
@dataclass(frozen=True, slots=True, eq=False)
class Masses:
    """Weight and positive weight at each distinct score or a higher one, from the highest to the lowest; (scores,)."""

    total_so_far: Floats
    positive_so_far: Floats


@final
@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """The order of rows by falling score, and where each distinct score ends in that order.

    `y` is in that order; `score` holds the distinct scores, falling.
    """

    order: Ints
    ends: Ints
    y: Floats
    score: Floats

    @classmethod
    def of(cls, y: Floats, score: Floats) -> "Ranked":
        """Return the rows in order of falling score; `y` and `score` are of shape (rows,)."""
        order = np.argsort(-score, kind="stable")
        falling = score[order]
        ends = np.flatnonzero(np.r_[falling[1:] != falling[:-1], True])
        return cls(order, ends, y[order], falling[ends])

    def masses(self, weight: Floats) -> Masses:
        """Return the running sums of one `weight` (rows,) in row order, and of its positive part."""
        total = weight[self.order]
        return Masses(np.cumsum(total)[self.ends], np.cumsum(total * self.y)[self.ends])

    def measures(self, weight: Floats, bins: int) -> Floats:
        """Return three metrics of each of many weightings, shape (weightings, 3), for `weight` (weightings, rows).

        The area under the ROC curve, P(positive outranks negative) + P(tie) / 2: NaN where one class is absent.
        The average precision, the sum over scores of precision x rise in recall: NaN without positives.
        The calibration error, the mean over `bins` bins of equal weight of |mean y - mean score|: rows that share a
        score share every bin that the score falls in, so their order cannot matter.
        """
        weight = np.ascontiguousarray(weight, dtype=np.float64)
        return _ranking.ranking_measures(weight, self.order, self.ends, self.y, self.score, bins)


def in_equal_mass_bins(mass_so_far: Floats, amount_so_far: Floats, bins: int) -> Floats:
    """Return how much of an amount falls in each of `bins` bins of equal mass, shape (bins,).

    `mass_so_far` and `amount_so_far` are running sums of shape (scores,). A score whose mass lies across an edge gives
    each side its share.
    """
    edges = mass_so_far[-1] * (np.arange(1, bins + 1) / bins)
    at = np.minimum(np.searchsorted(mass_so_far, edges), len(mass_so_far) - 1)
    mass_before, amount_before = (
        np.where(at > 0, sums[at - 1], 0.0) for sums in (mass_so_far, amount_so_far)
    )
    share = ratio(edges - mass_before, mass_so_far[at] - mass_before, otherwise=1.0)
    return np.diff(amount_before + share * (amount_so_far[at] - amount_before), prepend=0.0)


def ratio(numerator: Floats, denominator: Floats, otherwise: float = np.nan) -> Floats:
    """Return numerator / denominator, and `otherwise` where the denominator is not positive."""
    out = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), otherwise)
    np.divide(numerator, denominator, out=out, where=denominator > 0.0)
    return out
