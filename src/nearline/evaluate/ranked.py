"""Rows sorted once by score, and any number of weightings of them, to ranking and calibration metrics.

Everything here takes weights of shape (..., rows): one weighting for a metric, or a block of bootstrap
weightings at once. A label y in [0, 1] splits its row's weight into y of a positive and 1 - y of a negative.
"""

from dataclasses import dataclass
from typing import final

import numpy as np

from nearline.arrays import Floats, Ints


@final
@dataclass(frozen=True, slots=True, eq=False)
class Masses:
    """Weight at each distinct score, from the highest score to the lowest; all of shape (..., scores)."""

    total: Floats
    positive: Floats
    total_so_far: Floats
    positive_so_far: Floats


@final
@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """The order of rows by falling score, and where each distinct score ends in that order.

    `ends` is None where no two rows share a score; `score` holds the distinct scores, falling.
    """

    order: Ints
    ends: Ints | None
    y: Floats
    score: Floats

    @classmethod
    def of(cls, y: Floats, score: Floats) -> "Ranked":
        """Return the rows in order of falling score; `y` and `score` are of shape (rows,)."""
        order = np.argsort(-score, kind="stable")
        falling = score[order]
        ends = np.flatnonzero(np.r_[falling[1:] != falling[:-1], True])
        return cls(order, ends if ends.size < score.size else None, y[order], falling[ends])

    def masses(self, weight: Floats) -> Masses:
        """Return the weight and the positive weight at each distinct score, for `weight` in row order."""
        total = np.take(weight, self.order, axis=-1)
        positive = total * self.y
        total_so_far, positive_so_far = np.cumsum(total, axis=-1), np.cumsum(positive, axis=-1)
        if self.ends is None:
            return Masses(total, positive, total_so_far, positive_so_far)
        total_so_far = np.take(total_so_far, self.ends, axis=-1)
        positive_so_far = np.take(positive_so_far, self.ends, axis=-1)
        return Masses(_steps(total_so_far), _steps(positive_so_far), total_so_far, positive_so_far)


def area_under_roc(masses: Masses) -> Floats:
    """Return P(positive outranks negative) + P(tie) / 2, shape (...,); NaN where one class is absent."""
    negative = masses.total - masses.positive
    above = np.einsum("...g,...g->...", negative, masses.positive_so_far)
    tied = np.einsum("...g,...g->...", negative, masses.positive)
    return ratio(above - 0.5 * tied, masses.positive_so_far[..., -1] * negative.sum(axis=-1))


def average_precision(masses: Masses) -> Floats:
    """Return the sum over scores of precision x rise in recall, shape (...,); NaN without positives."""
    precision = np.maximum(masses.total_so_far, np.finfo(np.float64).tiny)
    np.divide(masses.positive_so_far, precision, out=precision)
    gained = np.einsum("...g,...g->...", masses.positive, precision)
    return ratio(gained, masses.positive_so_far[..., -1])


def equal_mass_calibration_error(masses: Masses, score: Floats, bins: int) -> Floats:
    """Return the mean over `bins` bins of equal weight of |mean y - mean score|, shape (...,).

    Rows that share a score share every bin that the score falls in, so their order cannot matter.
    """
    excess_so_far = masses.total * score  # of what is expected over what is observed
    np.cumsum(excess_so_far, axis=-1, out=excess_so_far)
    excess_so_far -= masses.positive_so_far
    gaps = np.abs(in_equal_mass_bins(masses.total_so_far, excess_so_far, bins)).sum(axis=-1)
    return ratio(gaps, masses.total_so_far[..., -1])


def in_equal_mass_bins(mass_so_far: Floats, amount_so_far: Floats, bins: int) -> Floats:
    """Return how much of an amount falls in each of `bins` bins of equal mass, shape (..., bins).

    `mass_so_far` and `amount_so_far` are running sums of shape (..., scores). A score whose mass lies across an
    edge gives each side its share.
    """
    edges = mass_so_far[..., -1:] * (np.arange(1, bins + 1) / bins)
    at = np.empty(edges.shape, dtype=np.int64)
    for row in np.ndindex(at.shape[:-1]):
        at[row] = np.searchsorted(mass_so_far[row], edges[row])
    np.minimum(at, mass_so_far.shape[-1] - 1, out=at)
    before = np.maximum(at - 1, 0)
    mass_before = np.where(at > 0, np.take_along_axis(mass_so_far, before, axis=-1), 0.0)
    amount_before = np.where(at > 0, np.take_along_axis(amount_so_far, before, axis=-1), 0.0)
    mass_at, amount_at = (np.take_along_axis(sums, at, axis=-1) for sums in (mass_so_far, amount_so_far))
    share = ratio(edges - mass_before, mass_at - mass_before, otherwise=1.0)
    gathered = amount_before + share * (amount_at - amount_before)
    return _steps(gathered)


def ratio(numerator: Floats, denominator: Floats, otherwise: float = np.nan) -> Floats:
    """Return numerator / denominator, and `otherwise` where the denominator is not positive."""
    out = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), otherwise)
    np.divide(numerator, denominator, out=out, where=denominator > 0.0)
    return out


def _steps(so_far: Floats) -> Floats:
    steps = so_far.copy()
    steps[..., 1:] -= so_far[..., :-1]
    return steps
