"""Rows and beliefs -> the population prior that makes the data most likely.

The Laplace approximation of the marginal likelihood of a random effect with prior N(m, S) is::

    -2 log L = sum_e  2 f_e(b_e) + log det H_e + log det S,     b_e the mode, H_e the precision there,

with f_e the negative log posterior without its constant. Its gradient in S vanishes where::

    S = mean_e  V_e + c_e c_e' - (V_e t_e c_e' + c_e t_e' V_e) / 2,   V_e = H_e^-1, c_e = b_e - m,
    t_e = sum_i w_i (d curvature_i / d eta) (x_i' V_e x_i + o_i) x_i,

where o_i is the variance of what else the row's linear predictor holds: 0 for one random effect, the others' x' V x
for several, whose log det H moves with the mode of this one too.

The last term of S is how the mode, and with it the curvature, moves with S; it is zero for Normal outcomes, where the
fixed point is the EM algorithm for linear mixed models (Laird and Ware 1982). It is the second moment of the
posterior whose mean is corrected for skewness, b - V t / 2 (Tierney and Kadane 1986), and likewise the prior mean
is the average of those means. Iterating to the fixed point therefore maximises the Laplace likelihood exactly,
not only approximately as leaving the term out would.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from nearline.arrays import Floats
from nearline.errors import ModelError
from nearline.kernels import _posterior
from nearline.posterior.blocks import Blocks, FeatureRows
from nearline.posterior.gaussian import Gaussian
from nearline.posterior.outcomes import Outcome
from nearline.posterior.update import Labels

FULL_COLUMNS = 64
_SMALLEST_VARIANCE = 1e-8
RELAXATION = 1.8


@final
@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Sums over entities.

    Attributes
    ----------
    covariance, square : float64[columns, columns] or, of diagonal beliefs, float64[columns]; the sums of V_e and
        of the terms in c_e above.
    mean : float64[columns], of b_e - V_e t_e / 2.
    count : float64[columns], entities whose block holds the column.
    leverage : float64[rows], x_i' V_e x_i: the variance of each row's linear predictor.
    pull : float64[rows], x_i' V_e t_e with every o_i 0.
    log_determinant : float64[entities], log det H_e.
    """

    covariance: Floats
    square: Floats
    mean: Floats
    count: Floats
    leverage: Floats
    pull: Floats
    log_determinant: Floats


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Out:
    center: Floats
    other_variance: Floats | None
    leverage: Floats
    pull: Floats
    covariance_sum: Floats
    square_sum: Floats
    mean_sum: Floats
    log_determinant: Floats
    status: NDArray[np.int8]


def moments(
    rows: FeatureRows,
    labels: Labels,
    beliefs: Blocks,
    center: Floats,
    outcome: Outcome,
    *,
    other_variance: Floats | None = None,
    threads: int = 1,
) -> Moments:
    """Sum what estimating the prior needs, over beliefs fitted to `rows`; independent of the number of threads.

    `other_variance` float64[rows] is the variance of the rest of each row's linear predictor, o_i above; 0 if None.
    Rows that an update sets aside are left out here too: their leverage and pull are 0. Raises `ModelError` if a
    block lacks a column of its rows, or a precision is not positive definite.
    """
    columns, chunks = rows.columns, _posterior.CHUNKS
    square = (columns, columns) if beliefs.full else (columns,)
    out = _Out(
        np.ascontiguousarray(center, dtype=np.float64),
        None if other_variance is None else np.ascontiguousarray(other_variance, dtype=np.float64),
        np.zeros(rows.count),
        np.zeros(rows.count),
        np.zeros((chunks, *square)),
        np.zeros((chunks, *square)),
        np.zeros((chunks, columns)),
        np.zeros(beliefs.entities),
        np.zeros(beliefs.entities, np.int8),
    )
    _posterior.moments(rows, labels, beliefs, out, outcome, threads)
    if np.any(out.status):
        bad = int(np.flatnonzero(out.status)[0])
        raise ModelError(f"entity {bad}: its block lacks a column of its rows, or is not positive definite")
    if beliefs.column is None:
        count = np.full(columns, float(beliefs.entities))
    else:
        count = np.bincount(beliefs.column, minlength=columns).astype(np.float64)
    covariance, squares = out.covariance_sum.sum(axis=0), out.square_sum.sum(axis=0)
    if beliefs.full:
        covariance, squares = _mirror(covariance), _mirror(squares)
    return Moments(
        covariance, squares, out.mean_sum.sum(axis=0), count, out.leverage, out.pull, out.log_determinant
    )


def _mirror(upper: Floats) -> Floats:
    return np.triu(upper) + np.triu(upper, 1).T


def initial_prior(rows: FeatureRows, weight: Floats | None = None) -> Gaussian:
    """A start for the estimate: mean 0, variance 1 / 2 for a feature of unit size; full up to FULL_COLUMNS.

    The size of a feature is its mean square over the rows that have it; `weight` float64[rows], 1 if None.
    """
    weight = np.ones(rows.count) if weight is None else weight
    if rows.is_sparse:
        assert rows.values is not None and rows.indices is not None  # noqa: S101, PT018 - sparse rows have these
        assert rows.indptr is not None  # noqa: S101
        of_entry = np.repeat(weight, np.diff(rows.indptr))
        total = np.bincount(rows.indices, of_entry * rows.values**2, minlength=rows.columns)
        used = np.bincount(rows.indices, of_entry, minlength=rows.columns)
    else:
        dense = rows.dense if rows.dense is not None else rows.dense32
        assert dense is not None  # noqa: S101
        total = np.einsum("i,ij,ij->j", weight, dense, dense, dtype=np.float64)
        used = np.full(rows.columns, weight.sum())
    size = np.divide(total, used, out=np.ones(rows.columns), where=total > 0.0)
    precision = 2.0 * size
    return Gaussian(np.zeros(rows.columns), np.diag(precision) if rows.columns <= FULL_COLUMNS else precision)


def maximise(m: Moments, prior: Gaussian, *, estimate_mean: bool, relaxation: float = RELAXATION) -> Gaussian:
    """Take one step of the fixed-point iteration: to the prior that the beliefs fitted under `prior` call for.

    The step from S to the covariance T called for is lengthened along the geodesic between them,
    S^1/2 (S^-1/2 T S^-1/2)^r S^1/2 with r the `relaxation`, where T is within a factor of 4 of S: fixed points are
    the same, and EM steps, which fall short, are about halved in number. Stable for r < 2, as EM's own rate is
    between 0 and 1 (over-relaxation: Salakhutdinov and Roweis 2003).
    """
    seen = m.count > 0.0
    if not np.any(seen):
        return prior
    count = np.maximum(m.count, 1.0)
    mean = np.where(seen, m.mean / count, prior.mean) if estimate_mean else prior.mean
    moved = mean - prior.mean
    if prior.is_diagonal:
        diagonal = m.covariance if m.covariance.ndim == 1 else np.diag(m.covariance)
        squares = m.square if m.square.ndim == 1 else np.diag(m.square)
        variance = np.maximum((diagonal + squares) / count - moved**2, _SMALLEST_VARIANCE)
        ratio = _lengthened(variance * prior.precision, relaxation)
        return Gaussian(mean, np.where(seen, prior.precision / ratio, prior.precision))
    # Entities without the column would add the prior's own moments: whole blocks have none such.
    covariance = (m.covariance + m.square) / count[0] - np.outer(moved, moved)
    return Gaussian(mean, _lengthened_inverse(prior.precision, covariance, relaxation))


def _lengthened(ratio: Floats, relaxation: float) -> Floats:
    near = (ratio > 0.25) & (ratio < 4.0)
    return np.where(near, ratio**relaxation, np.maximum(ratio, 1e-6))


def _lengthened_inverse(precision: Floats, covariance: Floats, relaxation: float) -> Floats:
    """Inverse of the lengthened step to `covariance`, its eigenvalues held above the smallest variance."""
    upper = np.linalg.cholesky(precision).T  # precision = U' U: U covariance U' is the ratio
    values, vectors = np.linalg.eigh(upper @ ((covariance + covariance.T) / 2.0) @ upper.T)
    inner = (vectors / _lengthened(np.maximum(values, 1e-6), relaxation)) @ vectors.T
    inverse = upper.T @ inner @ upper
    values, vectors = np.linalg.eigh((inverse + inverse.T) / 2.0)
    inverse = (vectors * np.minimum(values, 1.0 / _SMALLEST_VARIANCE)) @ vectors.T
    return np.asarray((inverse + inverse.T) / 2.0, dtype=np.float64)
