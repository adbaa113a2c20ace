"""Rows and penalties to the penalised loss of a linear model, its gradient and its curvature.

With eta = offset + X b, the objective is smooth part plus l1 part::

    F(b) = sum_i w_i loss(y_i, eta_i) + adjustment . b + 1/2 sum_j l2_j b_j^2  +  sum_j l1_j |b_j|

and the precision matrix is the second derivative of the smooth part, X' C X + diag(l2), with
c_i = w_i loss''(y_i, eta_i).
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from scipy.special import entr, logit, xlogy

from nearline.arrays import Floats
from nearline.kernels._rows import Rows
from nearline.posterior import outcomes
from nearline.posterior.outcomes import Outcome

_COSTLIEST_MATRIX = 4_000_000
"""Cells of the largest precision matrix that is formed by choice (2,000 columns, 32 MB)."""
_NS_PER_PRODUCT = 5.0
"""Measured: one entry of X in a product with X' C X, nanoseconds."""
_NS_PER_OUTER = 1.0
"""Measured: one product of two entries of a row in forming X' C X, nanoseconds."""
_NS_PER_FACTOR = 0.1
"""Measured: one multiplication of a Cholesky factorisation, nanoseconds."""
_PRODUCTS_PER_STEP = 20
"""Products that a step of conjugate gradients is taken to need, at most one a column."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """The objective at one coefficient vector.

    Attributes
    ----------
    coefficients : float64[p]
    value : float, the whole objective
    gradient : float64[p], of the smooth part
    curvature : float64[n], w_i loss''(y_i, eta_i)
    margin : float64[n], eta = offset + X b
    """

    coefficients: Floats
    value: float
    gradient: Floats
    curvature: Floats
    margin: Floats


@final
@dataclass(frozen=True, slots=True, eq=False)
class Objective:
    """The penalised loss of one data set; see the module for the formula.

    Attributes
    ----------
    rows : the design matrix, n x p
    y, weight, offset : float64[n]
    l2, l1, adjustment : float64[p], zero where a coefficient is not shrunk
    threads : how many run a pass; the results do not depend on it
    """

    rows: Rows
    y: Floats
    weight: Floats
    offset: Floats
    outcome: Outcome
    l2: Floats
    l1: Floats
    adjustment: Floats
    threads: int

    def at(self, coefficients: Floats) -> Point:
        """Return the objective at `coefficients` (float64[p]); its value may be infinite, never an error."""
        loss, gradient, curvature, margin = self.rows.loss(
            coefficients, self.offset, self.y, self.weight, int(self.outcome), threads=self.threads
        )
        linear = inner(self.adjustment, coefficients) + inner(self.l1, np.abs(coefficients))
        value = loss + linear + 0.5 * inner(self.l2, coefficients**2)
        gradient += self.adjustment
        gradient += self.l2 * coefficients
        return Point(coefficients, value, gradient, curvature, margin)

    def product(self, point: Point, direction: Floats) -> Floats:
        """Return the precision matrix at `point` times `direction`, float64[p]."""
        out = self.rows.curvature_product(point.curvature, direction, threads=self.threads)
        out += self.l2 * direction
        return out

    def diagonal(self, point: Point) -> Floats:
        """Return the diagonal of the precision matrix at `point`, float64[p]."""
        return self.rows.curvature_diagonal(point.curvature, threads=self.threads) + self.l2

    def matrix(self, point: Point) -> Floats:
        """Return the precision matrix at `point`, float64[p, p]."""
        matrix = self.rows.curvature_matrix(point.curvature, threads=self.threads)
        matrix[np.diag_indices_from(matrix)] += self.l2
        return matrix

    @property
    def prefers_matrix(self) -> bool:
        """Whether forming and factorising the matrix is cheaper than conjugate gradients."""
        p = self.rows.columns
        if p * p > _COSTLIEST_MATRIX:
            return False
        direct = _NS_PER_OUTER * 0.75 * self.rows.outer_products + _NS_PER_FACTOR * p**3 / 3
        return direct <= _NS_PER_PRODUCT * self.rows.entries * min(p, _PRODUCTS_PER_STEP)


def null_coefficients(objective: Objective, intercept_column: int | None) -> Floats:
    """Return zeros but for the intercept, which alone matches the weighted mean response, float64[p].

    Exact for Normal and Poisson outcomes and for a constant offset, a good start otherwise. A mean at the
    edge of its range (all clicks, no events) is moved inside by half an event.
    """
    coefficients = np.zeros(objective.rows.columns)
    total = float(np.sum(objective.weight))
    if intercept_column is None or total <= 0.0:
        return coefficients
    observed = float(np.sum(objective.weight * objective.y)) / total
    expected = float(np.sum(objective.weight * outcomes.mean(objective.outcome, objective.offset))) / total
    half = min(0.5 / total, 0.25)
    match objective.outcome:
        case Outcome.BERNOULLI:
            inside = np.clip([observed, expected], half, 1.0 - half)
            coefficients[intercept_column] = float(logit(inside[0]) - logit(inside[1]))
        case Outcome.NORMAL:
            coefficients[intercept_column] = observed - expected
        case Outcome.POISSON:
            coefficients[intercept_column] = float(
                np.log(max(observed, half)) - np.log(max(expected, 1e-300))
            )
    return coefficients


def half_deviance(objective: Objective, margin: Floats) -> float:
    """Return how far the weighted loss at `margin` (float64[n]) is above that of a perfect prediction.

    The unit in which convergence is measured: it does not change with the unit of a Normal response, nor
    with terms of the loss that are free of the margin.
    """
    y = objective.y
    match objective.outcome:
        case Outcome.BERNOULLI:
            perfect = np.zeros_like(y)
            between = (y > 0.0) & (y < 1.0)
            perfect[between] = entr(y[between]) + entr(1.0 - y[between])
        case Outcome.NORMAL:
            perfect = np.zeros_like(y)
        case Outcome.POISSON:
            perfect = y - xlogy(y, y)
    excess = outcomes.loss(objective.outcome, y, margin) - perfect
    return float(np.sum(objective.weight * np.maximum(excess, 0.0)))


def inner(a: Floats, b: Floats) -> float:
    """Return the inner product of two vectors, without BLAS.

    Its threads would cost more processor time than they save, and make the sum depend on their number.
    """
    return float(np.sum(a * b))


def shrunk(coefficients: Floats, by: Floats) -> Floats:
    """Return the soft threshold, sign(b) max(|b| - by, 0), elementwise: the proximal map of the l1 part."""
    return np.sign(coefficients) * np.maximum(np.abs(coefficients) - by, 0.0)
