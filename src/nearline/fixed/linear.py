"""Sparse rows and responses to the coefficients of a linear fixed effect, with L2, L1 or both."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import numpy as np
from scipy.sparse import csr_array

from nearline.arrays import Floats
from nearline.errors import ConfigError, DataError
from nearline.fixed.newton import Minimum, Step, minimise
from nearline.fixed.objective import Objective, half_deviance, null_coefficients
from nearline.kernels._rows import Rows
from nearline.posterior.outcomes import Outcome, is_valid_response

SparseRows: TypeAlias = "csr_array[Any, tuple[int, int]]"

_RUNAWAY = 0.5
"""A last step that still moves some linear predictor by this much has no finite minimum to go to."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class LinearFit:
    """A fitted linear fixed effect and how the fit went.

    Attributes
    ----------
    coefficients : float64[p]
    loss_trace : the objective at the start and after each step
    steps : Newton steps taken
    products : products with X' C X that conjugate gradients took, 0 where the matrix was factorised instead
    converged : whether the squared Newton decrement came within the tolerance at a finite minimum
    reason : one line on why the fit stopped
    """

    coefficients: Floats
    loss_trace: tuple[float, ...]
    steps: int
    products: int
    converged: bool
    reason: str


def fit_linear(
    x: SparseRows,
    y: Floats,
    weight: Floats | None = None,
    offset: Floats | None = None,
    outcome: Outcome = Outcome.BERNOULLI,
    *,
    l2: float | Floats,
    l1: float = 0.0,
    intercept_column: int | None = 0,
    start: Floats | None = None,
    adjustment: Floats | None = None,
    tolerance: float = 1e-8,
    max_steps: int = 100,
    threads: int | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> LinearFit:
    """Return the coefficients that minimise the penalised loss.

    The objective, a sum over rows and not a mean, is::

        sum_i w_i loss(y_i, offset_i + x_i . b) + adjustment . b
            + sum_{j != intercept} ( l2_j / 2 b_j^2 + l1 |b_j| )

    with the losses of `nearline.posterior.outcomes`. In scikit-learn's terms: LogisticRegression with
    C = 1 / l2, or C = 1 / (l1 + l2) and l1_ratio = l1 / (l1 + l2); Ridge with alpha = l2; PoissonRegressor with
    alpha = l2 / sum(w); ElasticNet with alpha = (l1 + l2) / n and the same l1_ratio.

    Parameters
    ----------
    x : csr_array, n x p, float64 or float32 (which is read as it is and takes a third less memory traffic)
    y : float64[n], in [0, 1] for Bernoulli, >= 0 for Poisson
    weight : float64[n], >= 0, all 1 if None
    offset : float64[n], on the link scale, all 0 if None
    l2 : >= 0, one for all or float64[p]; the intercept's is taken as 0
    l1 : >= 0, not for the intercept
    intercept_column : the column of ones, or None if there is none
    start : float64[p], where to begin; None begins at the intercept that alone fits best
    adjustment : float64[p], a constant added to the gradient; none if None
    tolerance : converged when the squared Newton decrement is at most this times the null half-deviance, that is
        when the objective is within about half of it of its minimum
    max_steps : Newton steps at most
    threads : None takes the cores this process may use; any number gives the same bits
    on_step : called after each step

    Raises
    ------
    DataError
        Arrays that disagree in shape, an index out of range, a value that the outcome does not allow.
    ConfigError
        A negative penalty, an intercept column that does not exist, a tolerance that is not positive.
    """
    objective = _objective(x, y, weight, offset, outcome, l2, l1, intercept_column, adjustment, threads)
    if not (tolerance > 0.0 and max_steps >= 1):
        raise ConfigError(
            f"fit_linear: expected tolerance > 0 and max_steps >= 1, got {tolerance}, {max_steps}"
        )
    null = null_coefficients(objective, intercept_column)
    scale = half_deviance(
        objective, objective.rows.margins(null, objective.offset, threads=objective.threads)
    )
    begin = null if start is None else _vector("start", start, len(null)).copy()
    minimum = minimise(
        objective,
        begin,
        enough=max(tolerance * scale, np.finfo(float).tiny),
        max_steps=max_steps,
        by_matrix=objective.prefers_matrix(float(np.sum(np.diff(x.indptr).astype(np.float64) ** 2))),
        on_step=on_step,
    )
    return _fit(objective, minimum)


def _fit(objective: Objective, minimum: Minimum) -> LinearFit:
    converged, reason = minimum.converged, minimum.reason
    shrinks = (objective.l2 > 0.0) | (objective.l1 > 0.0)
    runaway = converged and minimum.moved > _RUNAWAY and objective.outcome != Outcome.NORMAL
    if runaway and not shrinks.all():
        converged = False
        reason = "no finite minimum: a column that is not shrunk separates the responses; give l2 > 0"
    return LinearFit(
        minimum.point.coefficients,
        minimum.trace,
        len(minimum.trace) - 1,
        minimum.products,
        converged,
        reason,
    )


def _objective(
    x: SparseRows,
    y: Floats,
    weight: Floats | None,
    offset: Floats | None,
    outcome: Outcome,
    l2: float | Floats,
    l1: float,
    intercept_column: int | None,
    adjustment: Floats | None,
    threads: int | None,
) -> Objective:
    rows = checked_rows(x)
    n, p = rows.rows, rows.columns
    if intercept_column is not None and not 0 <= intercept_column < p:
        raise ConfigError(f"intercept_column: expected None or a column in [0, {p}), got {intercept_column}")
    y = _vector("y", y, n)
    allowed = is_valid_response(outcome, y)
    if not allowed.all():
        i = int(np.argmin(allowed))
        raise DataError(f"y: row {i} is {y[i]}, which a {outcome.name.capitalize()} outcome does not allow")
    weight = np.ones(n) if weight is None else _vector("weight", weight, n)
    if n and weight.min() < 0.0:
        raise DataError(f"weight: expected none below 0, row {int(np.argmin(weight))} is {weight.min()}")
    return Objective(
        rows=rows,
        y=y,
        weight=weight,
        offset=np.zeros(n) if offset is None else _vector("offset", offset, n),
        outcome=outcome,
        l2=_penalty("l2", l2, p, intercept_column),
        l1=_penalty("l1", l1, p, intercept_column),
        adjustment=np.zeros(p) if adjustment is None else _vector("adjustment", adjustment, p),
        threads=available_cores() if threads is None else threads,
    )


def checked_rows(x: SparseRows) -> Rows:
    """Return `x` as the kernels take it; DataError if it is not sparse rows with finite values and right indices."""
    if x.ndim != 2 or x.format != "csr":
        raise DataError(
            f"x: expected a two-dimensional csr_array, got {x.ndim} dimensions of format {x.format}"
        )
    if not x.has_canonical_format:
        x = x.copy()
        x.sum_duplicates()
    values = x.data if x.data.dtype in (np.float32, np.float64) else x.data.astype(np.float64)
    try:
        return Rows(
            np.ascontiguousarray(x.indptr, dtype=np.int64),
            np.ascontiguousarray(x.indices, dtype=np.int32),
            np.ascontiguousarray(values),
            int(x.shape[1]),
        )
    except ValueError as error:
        raise DataError(f"x: {error}") from error


def available_cores() -> int:
    """Return how many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _vector(name: str, values: Floats, length: int) -> Floats:
    vector = np.ascontiguousarray(values, dtype=np.float64)
    if vector.shape != (length,):
        raise DataError(f"{name}: expected {length} values, got an array of shape {vector.shape}")
    if not np.isfinite(vector).all():
        raise DataError(f"{name}: entry {int(np.argmin(np.isfinite(vector)))} is not finite")
    return vector


def _penalty(name: str, value: float | Floats, columns: int, intercept_column: int | None) -> Floats:
    penalty = np.array(np.broadcast_to(np.asarray(value, dtype=np.float64), (columns,)))
    if not (np.isfinite(penalty).all() and penalty.min() >= 0.0):
        raise ConfigError(f"{name}: expected finite numbers of at least 0")
    if intercept_column is not None:
        penalty[intercept_column] = 0.0
    return penalty
