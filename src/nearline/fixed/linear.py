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
FixedRows: TypeAlias = "csr_array[Any, tuple[int, int]] | Rows"
"""Sparse rows, or what `checked_rows` made of them: once for many fits."""

_RUNAWAY = 0.5
"""A last step that still moves some linear predictor by this much may have no finite minimum to go to."""
_PURSUIT, _PURSUIT_STEPS = 1e-4, 30
"""How much lower the tolerance is, and for how many steps, to find out."""


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
    x: FixedRows,
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
    tolerance: float = 1e-6,
    max_steps: int = 100,
    threads: int | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> LinearFit:
    """Return the coefficients that minimise the penalised loss.

    The objective, a sum over rows and not a mean, is::

        sum_i w_i loss(y_i, offset_i + x_i . b) + adjustment . b
            + sum_{j != intercept} ( l2 / 2 b_j^2 + l1 |b_j| )

    with the losses of `nearline.posterior.outcomes`. In scikit-learn's terms: LogisticRegression with
    C = 1 / l2, or C = 1 / (l1 + l2) and l1_ratio = l1 / (l1 + l2); Ridge with alpha = l2; PoissonRegressor
    with alpha = l2 / sum(w); ElasticNet with alpha = (l1 + l2) / n and the same l1_ratio.

    Parameters
    ----------
    x : csr_array, n x p, float64 or float32 (which is read as it is and takes a third less memory traffic), or the
        rows that `checked_rows` returned of one
    y : float64[n], in [0, 1] for Bernoulli, >= 0 for Poisson
    weight : float64[n], >= 0, all 1 if None
    offset : float64[n], on the link scale, all 0 if None
    l2 : >= 0; a number is for all but the intercept; float64[p] is used as it is, one for each column, so
        that
        it can be the precision of a prior whose mean enters through `adjustment` = -l2 * mean
    l1 : >= 0, not for the intercept
    intercept_column : the column of ones, or None if there is none
    start : float64[p], where to begin; None begins at the intercept that alone fits best
    adjustment : float64[p], a constant added to the gradient; none if None
    tolerance : converged when the squared Newton decrement, twice what is left to gain, is at most this
        times the
        null half-deviance. The step it was measured on is still taken, so that far less than that is left
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
    intercept = 0.0 if intercept_column is None else null[intercept_column]
    scale = half_deviance(objective, objective.offset + intercept)
    begin = null if start is None else vector_of("start", start, len(null))
    enough = max(tolerance * scale, np.finfo(float).tiny)
    by_matrix = objective.prefers_matrix
    minimum = minimise(
        objective, begin, enough=enough, max_steps=max_steps, by_matrix=by_matrix, on_step=on_step
    )
    if minimum.converged and _runs_away(objective, minimum):
        minimum = _pursue(objective, minimum, enough=_PURSUIT * enough, by_matrix=by_matrix)
    return LinearFit(
        coefficients=minimum.point.coefficients,
        loss_trace=minimum.trace,
        steps=len(minimum.trace) - 1,
        products=minimum.products,
        converged=minimum.converged,
        reason=minimum.reason,
    )


def _pursue(objective: Objective, minimum: Minimum, *, enough: float, by_matrix: bool) -> Minimum:
    """Return the minimum after going on to a lower tolerance, not converged if its predictors still move."""
    further = minimise(
        objective,
        minimum.point.coefficients,
        enough=enough,
        max_steps=_PURSUIT_STEPS,
        by_matrix=by_matrix,
        on_step=None,
    )
    fails = _runs_away(objective, further)
    reason = "no finite minimum: columns that are not shrunk separate the responses; give l2 > 0"
    return Minimum(
        point=further.point,
        trace=minimum.trace + further.trace[1:],
        products=minimum.products + further.products,
        converged=further.converged and not fails,
        reason=reason if fails else further.reason,
        change=further.change,
    )


def _runs_away(objective: Objective, minimum: Minimum) -> bool:
    """Return whether what nothing shrinks was still moving some linear predictor at the end."""
    if objective.outcome is Outcome.NORMAL:
        return False
    change = np.where((objective.l2 > 0.0) | (objective.l1 > 0.0), 0.0, minimum.change)
    if not change.any():
        return False
    moved = objective.rows.margins(change, np.zeros(objective.rows.rows), threads=objective.threads)
    return bool(np.max(np.abs(moved), initial=0.0) > _RUNAWAY)


def _objective(
    x: FixedRows,
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
    rows = x if isinstance(x, Rows) else checked_rows(x)
    n, p = rows.rows, rows.columns
    if intercept_column is not None and not 0 <= intercept_column < p:
        raise ConfigError(f"intercept_column: expected None or a column in [0, {p}), got {intercept_column}")
    y = vector_of("y", y, n)
    allowed = is_valid_response(outcome, y)
    if not allowed.all():
        i = int(np.argmin(allowed))
        raise DataError(f"y: row {i} is {y[i]}, which a {outcome.name.capitalize()} outcome does not allow")
    weight = np.ones(n) if weight is None else vector_of("weight", weight, n)
    if n and weight.min() < 0.0:
        raise DataError(f"weight: expected none below 0, row {int(np.argmin(weight))} is {weight.min()}")
    return Objective(
        rows=rows,
        y=y,
        weight=weight,
        offset=np.zeros(n) if offset is None else vector_of("offset", offset, n),
        outcome=outcome,
        l2=penalty_of("l2", l2, p, intercept_column),
        l1=penalty_of("l1", l1, p, intercept_column),
        adjustment=np.zeros(p) if adjustment is None else vector_of("adjustment", adjustment, p),
        threads=available_cores() if threads is None else threads,
    )


def checked_rows(x: SparseRows) -> Rows:
    """Return `x` as the kernels take it; DataError unless it is csr, finite and right in its indices."""
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


def vector_of(name: str, values: Floats, length: int) -> Floats:
    """Return `values` as float64[length]; DataError, naming `name`, if they are not finite or not so many."""
    vector = np.ascontiguousarray(values, dtype=np.float64)
    if vector.shape != (length,):
        raise DataError(f"{name}: expected {length} values, got an array of shape {vector.shape}")
    if not np.isfinite(vector).all():
        raise DataError(f"{name}: entry {int(np.argmin(np.isfinite(vector)))} is not finite")
    return vector


def penalty_of(name: str, value: float | Floats, columns: int, intercept_column: int | None) -> Floats:
    """Return the penalty of each column, float64[columns], a number sparing the intercept; or ConfigError."""
    if np.ndim(value) and np.shape(value) != (columns,):
        raise ConfigError(
            f"{name}: expected a number or {columns} numbers, got an array of shape {np.shape(value)}"
        )
    penalty = np.array(np.broadcast_to(np.asarray(value, dtype=np.float64), (columns,)))
    if not (np.isfinite(penalty).all() and penalty.min() >= 0.0):
        raise ConfigError(f"{name}: expected finite numbers of at least 0")
    if intercept_column is not None and np.ndim(value) == 0:
        penalty[intercept_column] = 0.0
    return penalty
