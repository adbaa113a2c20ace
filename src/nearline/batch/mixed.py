"""A table with one grouping factor -> fixed effects, random-effect covariance and noise that make it most likely.

The search is over the entries of the relative covariance factor L (and, unless outcomes are Normal, over beta with
them) by L-BFGS-B with exact gradients, the diagonal of L bounded at 0. A variance of 0 is a proper answer, but L = 0
is also a stationary point of any likelihood, as L and -L are the same model: an estimate on the bound is therefore
tried again from off it. Source: Bates et al. 2015, doi:10.18637/jss.v067.i01.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, minimize

from nearline.arrays import Bools, Floats
from nearline.batch.marginal import Factor, GroupedRows, LaplaceMarginal, NormalMarginal, Solution
from nearline.batch.mixed_fit import MixedFit
from nearline.errors import DataError
from nearline.posterior.gaussian import Gaussian
from nearline.posterior.outcomes import Outcome, is_valid_response
from nearline.posterior.update import update_one

_MAX_STEPS = 500
_SLOPE_CONVERGED = 1e-3
_OFF_BOUND = 0.3
_START_PRECISION = 1e-6


def fit_mixed_model(
    x: Floats,
    z: Floats,
    y: Floats,
    group: NDArray[Any],
    outcome: Outcome,
    *,
    weight: Floats | None = None,
    offset: Floats | None = None,
    covariance: Literal["full", "diagonal"] = "full",
    threads: int = 1,
) -> MixedFit:
    """Maximise the marginal likelihood of eta = offset + x . beta + z . b_group, b ~ N(0, covariance).

    Exact for Normal outcomes (maximum likelihood, not REML); Laplace's approximation, beta and covariance jointly,
    for Bernoulli and Poisson ones: lme4's `lmer(REML=FALSE)` and `glmer(nAGQ=1)`.

    Parameters
    ----------
    x : [rows, p], the features of the fixed effects, an intercept among them if wanted; p may be 0.
    z : [rows, d], the features of the random effects.
    y : [rows], the response. Binomial counts are a Bernoulli outcome with y the share of successes and weight
        the number of trials.
    group : [rows] of any values that sort; the groups of the result are its distinct values in order.
    weight : [rows], 0 or more; a weight of w stands for the row w times. Default 1.
    offset : [rows], on the scale of the linear predictor. Default 0.
    covariance : "full", or "diagonal" for independent random effects.

    Raises
    ------
    DataError
        A column does not fit the others, a value cannot be used, or the columns of x depend on each other.
    ModelError
        The linear predictor ran out of range.
    """
    rows, groups = _checked_rows(x, z, y, group, outcome, weight, offset)
    scale = np.sqrt(np.mean(rows.z**2, axis=0))
    if np.any(scale == 0.0):
        raise DataError(
            f"z: column {int(np.argmin(scale))} is 0 in every row, so its variance cannot be estimated"
        )
    basis = _orthogonal_basis(rows)
    rows = replace(rows, x=rows.x @ basis, z=rows.z / scale)
    factor = Factor(rows.z.shape[1], covariance == "full")
    is_normal = outcome is Outcome.NORMAL
    problem = _normal_problem(rows, factor) if is_normal else _laplace_problem(rows, factor, outcome, threads)
    found, converged, evaluations = _search(problem)
    solution = problem.at(found)[0]
    relative = problem.relative_factor(found) / scale[:, None]
    basis = basis @ problem.basis
    return MixedFit(
        outcome=outcome,
        coefficients=basis @ (problem.origin + solution.beta),
        coefficient_covariance=basis @ np.linalg.inv(solution.information) @ basis.T,
        relative_factor=relative,
        noise_std=float(np.sqrt(solution.noise_variance)) if is_normal else None,
        minus_twice_log_likelihood=solution.value,
        groups=groups,
        modes=solution.mode @ relative.T,
        mode_covariance=relative @ solution.covariance @ relative.T,
        rows=len(rows.y),
        converged=converged,
        evaluations=evaluations,
    )


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Problem:
    """What is searched: points of (beta, entries of L), in units in which the likelihood is about round.

    Attributes
    ----------
    at : point -> the solution there, and the slope of -2 log likelihood.
    start, lower : points.
    basis, origin : columns of x times `basis` are those beta belongs to; beta counts from `origin`.
    relative_factor : point -> L.
    """

    at: Callable[[Floats], tuple[Solution, Floats]]
    start: Floats
    lower: Floats
    basis: Floats
    origin: Floats
    relative_factor: Callable[[Floats], Floats]


def _normal_problem(rows: GroupedRows, factor: Factor) -> _Problem:
    """L is searched alone; beta counts from least squares, so that little cancels in the sums of squares."""
    unit = 1.0 / np.sqrt(2.0 * rows.groups)
    origin = (rows.x.T * rows.weight) @ (rows.y - rows.offset)
    marginal = NormalMarginal.of(replace(rows, offset=rows.offset + rows.x @ origin))

    def relative_factor(point: Floats) -> Floats:
        return factor.matrix(unit * point)

    def at(point: Floats) -> tuple[Solution, Floats]:
        solution = marginal.at(relative_factor(point))
        return solution, unit * factor.entries(solution.factor_gradient)

    start = factor.entries(np.eye(factor.columns)) / unit
    return _Problem(at, start, factor.lower_bounds, np.eye(len(origin)), origin, relative_factor)


def _laplace_problem(rows: GroupedRows, factor: Factor, outcome: Outcome, threads: int) -> _Problem:
    """Beta, in standard errors from the fit without random effects, and L are searched together."""
    unit, p = 1.0 / np.sqrt(2.0 * rows.groups), rows.x.shape[1]
    begin = np.zeros(p)
    if p:
        flat = Gaussian(begin, _START_PRECISION * np.eye(p))
        begin = update_one(flat, rows.x, rows.y, outcome, weight=rows.weight, offset=rows.offset)[0].mean
    first = LaplaceMarginal.of(rows, outcome, threads).at(begin, np.eye(factor.columns))
    basis = np.linalg.inv(np.linalg.cholesky(first.information).T)
    whitened = replace(rows, x=rows.x @ basis, offset=rows.offset + rows.x @ begin)
    marginal = LaplaceMarginal.of(whitened, outcome, threads)

    def relative_factor(point: Floats) -> Floats:
        return factor.matrix(unit * point[p:])

    def at(point: Floats) -> tuple[Solution, Floats]:
        solution = marginal.at(point[:p], relative_factor(point))
        return solution, np.concatenate(
            [solution.beta_gradient, unit * factor.entries(solution.factor_gradient)]
        )

    start = np.concatenate([np.zeros(p), factor.entries(np.eye(factor.columns)) / unit])
    lower = np.concatenate([np.full(p, -np.inf), factor.lower_bounds])
    origin = np.asarray(np.linalg.solve(basis, begin), dtype=np.float64)
    return _Problem(at, start, lower, basis, origin, relative_factor)


def _search(problem: _Problem) -> tuple[Floats, bool, int]:
    """The best point found, whether its slope vanishes, and how many evaluations it took."""
    evaluations, lower = 0, problem.lower

    def value_and_slope(point: Floats) -> tuple[float, Floats]:
        nonlocal evaluations
        evaluations += 1
        solution, slope = problem.at(point)
        return solution.value, slope

    def descend(begin: Floats) -> tuple[float, Floats]:
        bounds = Bounds(lower, np.full(len(lower), np.inf))
        result = minimize(
            value_and_slope,
            begin,
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": _MAX_STEPS, "maxcor": 20, "ftol": 1e-13, "gtol": 1e-7},
        )
        return float(result.fun), np.asarray(result.x, dtype=np.float64)

    value, found = descend(problem.start)
    on_bound = found <= lower
    if np.any(on_bound):
        again = descend(np.where(on_bound, _OFF_BOUND * problem.start, found))
        value, found = min((value, found), again, key=lambda pair: pair[0])
    slope = problem.at(found)[1]
    free = np.where((found <= lower) & (slope > 0.0), 0.0, slope)
    return found, bool(np.all(np.abs(free) < _SLOPE_CONVERGED)), evaluations


def _checked_rows(
    x: Floats,
    z: Floats,
    y: Floats,
    group: NDArray[Any],
    outcome: Outcome,
    weight: Floats | None,
    offset: Floats | None,
) -> tuple[GroupedRows, NDArray[Any]]:
    """The rows sorted by group, and the groups."""
    count = len(y)
    given = {"x": x, "z": z, "y": y, "weight": weight, "offset": offset}
    absent = {"weight": np.ones(count), "offset": np.zeros(count)}
    of: dict[str, Floats] = {
        name: np.asarray(absent[name] if values is None else values, dtype=np.float64)
        for name, values in given.items()
    }
    for name, values in {**of, "group": group}.items():
        dimensions = 2 if name in {"x", "z"} else 1
        if values.ndim != dimensions or len(values) != count:
            raise DataError(
                f"{name}: expected {dimensions} dimension(s) and {count} rows, got shape {values.shape}"
            )
    if count == 0 or of["z"].shape[1] == 0:
        raise DataError("a mixed model needs at least one row and one column of z")
    for name, values in of.items():
        _require_all(name, np.isfinite(values), outcome)
    _require_all("y", is_valid_response(outcome, of["y"]), outcome)
    _require_all("weight", np.asarray(of["weight"] >= 0.0), outcome)
    groups, code = np.unique(group, return_inverse=True)
    if outcome is Outcome.NORMAL and len(groups) == count:
        raise DataError(
            "group: every row is a group of its own, so noise and random effects cannot be told apart"
        )
    order = np.argsort(code, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(code))]).astype(np.int64)
    return GroupedRows(**{name: values[order] for name, values in of.items()}, row_start=start), groups


def _require_all(name: str, fine: Bools, outcome: Outcome) -> None:
    if not np.all(fine):
        bad = int(np.argwhere(~fine)[0, 0])
        raise DataError(f"{name}: row {bad} holds a value that a {outcome.name.title()} outcome cannot use")


def _orthogonal_basis(rows: GroupedRows) -> Floats:
    """B, float64[p, p], such that the columns of x B are orthonormal under the weights."""
    upper = np.linalg.qr(np.sqrt(rows.weight)[:, None] * rows.x, mode="r")
    p = rows.x.shape[1]
    size = np.sqrt(rows.weight @ rows.x**2)
    diagonal = np.abs(np.diag(upper)) if len(rows.x) >= p else np.zeros(p)
    dependent = diagonal <= 1e-10 * size
    if np.any(dependent):
        bad = int(np.flatnonzero(dependent)[0])
        raise DataError(
            f"x: column {bad} is a combination of the columns before it (or 0 in every row); leave it out"
        )
    return np.asarray(np.linalg.inv(upper), dtype=np.float64)
