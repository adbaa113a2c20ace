"""Fitted coefficients to how uncertain they are, by Laplace's approximation.

At the minimum the posterior is about Normal with precision X' C X + diag(l2), c_i = w_i loss''(eta_i). For a
Normal outcome that is exact where the weights are divided by the noise variance. An unknown column that
never occurs keeps the variance of its prior, 1 / l2.
"""

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from nearline.arrays import Floats
from nearline.errors import DataError
from nearline.fixed.linear import SparseRows, available_cores, checked_rows, penalty_of, vector_of
from nearline.posterior import outcomes
from nearline.posterior.outcomes import Outcome


def laplace_variance(
    x: SparseRows,
    coefficients: Floats,
    weight: Floats | None = None,
    offset: Floats | None = None,
    outcome: Outcome = Outcome.BERNOULLI,
    *,
    l2: float | Floats,
    intercept_column: int | None = 0,
    full: bool = False,
    threads: int | None = None,
) -> Floats:
    """Return the posterior variance of each coefficient, float64[p], or their covariance, float64[p, p].

    The variances are 1 / diag(precision), at the cost of one pass: what is not known of a coefficient if all
    the others are. They are never above the marginal ones, the diagonal of the covariance, which `full`
    gives by inverting the p x p precision: for a few thousand columns at most.

    Arguments as for `nearline.fixed.linear.fit_linear`, with its errors; DataError also where the precision
    is singular, as it is for columns that nothing tells apart and that are not shrunk.
    """
    rows = checked_rows(x)
    cores = available_cores() if threads is None else threads
    given = np.zeros(rows.rows) if offset is None else vector_of("offset", offset, rows.rows)
    margin = rows.margins(vector_of("coefficients", coefficients, rows.columns), given, threads=cores)
    curvature = outcomes.curvature(outcome, margin)
    if weight is not None:
        curvature = curvature * vector_of("weight", weight, rows.rows)
    prior = penalty_of("l2", l2, rows.columns, intercept_column)
    if not full:
        precision = rows.curvature_diagonal(curvature, threads=cores) + prior
        if not precision.min() > 0.0:
            raise DataError(f"column {int(np.argmin(precision))}: nothing is known of it; give l2 > 0")
        return 1.0 / precision
    matrix = rows.curvature_matrix(curvature, threads=cores)
    matrix[np.diag_indices_from(matrix)] += prior
    return _inverse(matrix)


def _inverse(precision: Floats) -> Floats:
    """Return the inverse of a precision matrix, made stable by scaling its diagonal to 1."""
    diagonal = np.diagonal(precision)
    singular = DataError("the precision matrix is singular: some columns cannot be told apart; give l2 > 0")
    if not diagonal.min() > 0.0:
        raise singular
    scale = 1.0 / np.sqrt(diagonal)
    try:
        factor = cho_factor(precision * scale * scale[:, None], lower=True, check_finite=False)
    except LinAlgError:
        raise singular from None
    # The squared pivots are what is left of each unit diagonal once the columns before it are known.
    if np.diagonal(factor[0]).min() ** 2 < len(precision) * np.finfo(float).eps:
        raise singular
    inverse = np.asarray(cho_solve(factor, np.diag(scale), check_finite=False)) * scale[:, None]
    return 0.5 * (inverse + inverse.T)
