"""An objective and a start to its minimum, by a Newton method that also handles the l1 part.

Each step solves the quadratic model on the coefficients that are free, with the others on their way to zero.
Which are free is decided by one proximal gradient step in the Jacobi metric D = diag(precision),

    target = shrunk(b - g / D, l1 / D),     free = {j : target_j != 0, or l1_j = 0},

and on these the direction d solves H_ff d_f = -(g_f + l1_f sign(target_f)) - H_fz d_z, with d_z = -b_z
(a semismooth Newton step on the optimality conditions b = target: Hintermueller, Ito and Kunisch 2002, SIAM
J. Optim. 13(3)). Without l1 every coefficient is free and it is Newton's method. A backtracking search on F,
along the path that stops a coefficient at zero where it would change its sign against its target, makes it
globally convergent; where that finds no descent the proximal gradient step itself, which always does, takes
its place.

The system is solved by Cholesky where forming the matrix is the cheaper way, otherwise by conjugate
gradients with D as preconditioner, stopped early while the quadratic model is still a poor guide (Dembo,
Eisenstat and Steihaug 1982, SIAM J. Numer. Anal. 19(2)).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from nearline.arrays import Bools, Floats
from nearline.errors import DataError
from nearline.fixed.objective import Objective, Point, inner, shrunk

_ARMIJO = 1e-4
_ROUNDING = 4e-15
"""A rise of the objective by less than this part of itself is rounding."""
_STALLED = 1e3 * _ROUNDING
"""A decrement by less than this part of the objective is all that rounding lets through."""
_HALVINGS = 12
_HALVINGS_OF_GRADIENT = 60
_LOOSEST = 0.3
_MOST_PRODUCTS = 200
"""Products with the precision matrix in one step of conjugate gradients, at most."""


@final
@dataclass(frozen=True, slots=True)
class Step:
    """What a progress display may show after a step.

    Attributes
    ----------
    number : steps taken so far
    loss : the objective
    decrement : what the next step was predicted to lower the objective by, twice; NaN before the first
    products : products with the precision matrix so far
    """

    number: int
    loss: float
    decrement: float
    products: int


@final
@dataclass(frozen=True, slots=True, eq=False)
class Minimum:
    """Where the minimiser stopped, and why.

    `change` float64[p] is the last step taken; `trace` holds the objective at the start and after each step.
    """

    point: Point
    trace: tuple[float, ...]
    products: int
    converged: bool
    reason: str
    change: Floats


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Model:
    """The quadratic model at a point, and where the proximal gradient step in the Jacobi metric leads.

    With D = `diagonal`: `target` and `free` as in the module's docstring, `slope` = g + l1 sign(target)
    where free and 0 elsewhere, `distance` = (target - b)' D (target - b).
    """

    point: Point
    diagonal: Floats
    target: Floats
    free: Bools
    slope: Floats
    distance: float


def minimise(
    objective: Objective,
    start: Floats,
    *,
    enough: float,
    max_steps: int,
    by_matrix: bool,
    on_step: Callable[[Step], None] | None,
) -> Minimum:
    """Return the minimum of `objective` from `start` (float64[p]).

    It has converged when the squared Newton decrement, twice what the quadratic model says is left to gain,
    is at most `enough`, or lost in the rounding of the objective; the step that it was measured on is still taken.
    """
    point = objective.at(start)
    if not np.isfinite(point.value):
        raise DataError(f"start: the objective there is {point.value}; check the sizes of offset and start")
    solver = _Solver(objective, by_matrix=by_matrix)
    trace, change = [point.value], np.zeros_like(start)
    converged, reason = False, f"not converged after {max_steps} steps: raise max_steps or l2"
    for number in range(1, max_steps + 1):
        model, newton = solver.solve(point)
        decrement = _decrement(objective, model, newton)
        converged = decrement <= max(enough, _ROUNDING * abs(point.value))
        following = _search(objective, model, newton)
        if following is None:
            reason = "the objective falls no further in double precision"
            converged = converged or decrement <= _STALLED * abs(point.value)
            break
        change = following.coefficients - point.coefficients
        point = following
        trace.append(point.value)
        if on_step is not None:
            on_step(Step(number, point.value, decrement, solver.products))
        if converged:
            reason = "the squared Newton decrement is within the tolerance"
            break
    return Minimum(point, tuple(trace), solver.products, converged, reason, change)


@final
class _Solver:
    """Newton changes at one point after another; the preconditioner is kept while it fits."""

    def __init__(self, objective: Objective, *, by_matrix: bool) -> None:
        self.products = 0
        self._objective = objective
        self._by_matrix = by_matrix
        self._diagonal: Floats | None = None
        self._curvature: Floats | None = None
        self._farthest = 0.0

    def solve(self, point: Point) -> tuple[_Model, Floats]:
        """Return the quadratic model at `point` and the change, float64[p], that its minimum calls for."""
        if self._by_matrix:
            matrix = self._objective.matrix(point)
            model = _model(self._objective, point, np.diagonal(matrix).copy())
            return model, _by_matrix(model, matrix)
        model = _model(self._objective, point, self._preconditioner(point))
        self._farthest = max(self._farthest, model.distance)
        forcing = _forcing(model.distance, self._farthest)
        change, used = _by_gradients(self._objective, model, forcing=forcing)
        self.products += used
        return model, change

    def _preconditioner(self, point: Point) -> Floats:
        old = self._curvature
        if self._diagonal is None or old is None or _has_changed(old, point.curvature):
            self._diagonal, self._curvature = self._objective.diagonal(point), point.curvature
        return self._diagonal


def _decrement(objective: Objective, model: _Model, newton: Floats) -> float:
    """Return the squared Newton decrement, or the distance to the proximal step if more (l1)."""
    decrement = -_gain(objective, model, newton)
    return max(decrement, model.distance) if np.any(objective.l1) else decrement


def _has_changed(old: Floats, new: Floats) -> bool:
    """Return whether curvatures differ enough (by a fifth) for a new preconditioner to be worth a pass."""
    return bool(np.sum(np.abs(new - old)) > 0.2 * np.sum(old))


def _model(objective: Objective, point: Point, diagonal: Floats) -> _Model:
    # A column without curvature (all zeros, or underflowed) gets a unit metric: its slope alone moves it.
    diagonal = np.where(diagonal > np.finfo(float).tiny, diagonal, 1.0)
    b, g = point.coefficients, point.gradient
    target = shrunk(b - g / diagonal, objective.l1 / diagonal)
    free = (target != 0.0) | (objective.l1 == 0.0)
    slope = np.where(free, g + objective.l1 * np.sign(target), 0.0)
    return _Model(point, diagonal, target, free, slope, inner(diagonal, (target - b) ** 2))


def _forcing(distance: float, first: float) -> float:
    """Return the relative residual at which conjugate gradients stop: loose far from the minimum."""
    return float(min(_LOOSEST, (distance / first) ** 0.25)) if first > 0.0 else _LOOSEST


def _by_matrix(model: _Model, matrix: Floats) -> Floats:
    """Return the Newton change, float64[p], by Cholesky; a singular matrix is ridged until it factorises."""
    free = model.free
    change = np.where(free, 0.0, -model.point.coefficients)
    rhs = -model.slope[free]
    if not free.all():
        rhs -= matrix[np.ix_(free, ~free)] @ change[~free]
        matrix = matrix[np.ix_(free, free)]
    # Scaled to a unit diagonal, so that the ridge means the same for every coefficient.
    scale = 1.0 / np.sqrt(model.diagonal[free])
    matrix *= scale
    matrix *= scale[:, None]
    matrix[np.diag_indices_from(matrix)] = 1.0
    for ridge in (0.0, 1e-12, 1e-9, 1e-6, 1e-3):
        try:
            factor = cho_factor(matrix + ridge * np.eye(len(matrix)), lower=True, check_finite=False)
        except LinAlgError:
            continue
        change[free] = scale * cho_solve(factor, scale * rhs, check_finite=False)
        break
    else:
        change[free] = scale**2 * rhs
    return change


def _by_gradients(objective: Objective, model: _Model, *, forcing: float) -> tuple[Floats, int]:
    """Return the Newton change, float64[p], by preconditioned conjugate gradients, and their products."""
    free, inverse = model.free, 1.0 / model.diagonal
    change = np.where(free, 0.0, -model.point.coefficients)
    residual, used = -model.slope, 0
    if np.any(change):
        residual -= np.where(free, objective.product(model.point, change), 0.0)
        used = 1
    preconditioned = inverse * residual
    square = inner(residual, preconditioned)
    direction, target = preconditioned.copy(), forcing**2 * square
    while square > target and used < min(_MOST_PRODUCTS, 2 * len(change) + 10):
        bent = np.where(free, objective.product(model.point, direction), 0.0)
        used += 1
        curvature = inner(direction, bent)
        if curvature <= np.finfo(float).eps * inner(model.diagonal, direction**2):
            break  # flat: nothing more can be learned from this direction
        length = square / curvature
        change += length * direction
        residual -= length * bent
        preconditioned = inverse * residual
        previous, square = square, inner(residual, preconditioned)
        direction = preconditioned + (square / previous) * direction
    return change, used


def _gain(objective: Objective, model: _Model, change: Floats) -> float:
    """Return the first-order change of the objective along `change`, negative on a descent."""
    b = model.point.coefficients
    linear = inner(model.point.gradient, change)
    return linear + inner(objective.l1, np.abs(b + change) - np.abs(b))


def _search(objective: Objective, model: _Model, change: Floats) -> Point | None:
    """Return the first descent along the Newton change, else along the proximal gradient, else None."""
    b = model.point.coefficients
    penalised = objective.l1 > 0.0
    length = 1.0
    for _ in range(_HALVINGS):
        trial = b + length * change
        # A coefficient may cross zero only towards its target.
        crossing = penalised & (np.sign(trial) != np.sign(b)) & (np.sign(trial) != np.sign(model.target))
        trial[crossing] = 0.0
        following = _descent(objective, model, trial)
        if following is not None:
            return following
        length *= 0.5
    metric = model.diagonal.copy()
    for _ in range(_HALVINGS_OF_GRADIENT):
        trial = shrunk(b - model.point.gradient / metric, objective.l1 / metric)
        if np.array_equal(trial, b):
            return None
        following = _descent(objective, model, trial)
        if following is not None:
            return following
        metric *= 4.0
    return None


def _descent(objective: Objective, model: _Model, trial: Floats) -> Point | None:
    """Return the objective at `trial` if it falls enough (Armijo), within rounding; else None."""
    gain = _gain(objective, model, trial - model.point.coefficients)
    if not gain < 0.0:
        return None
    following = objective.at(trial)
    slack = _ROUNDING * abs(model.point.value)
    return following if following.value <= model.point.value + _ARMIJO * gain + slack else None
