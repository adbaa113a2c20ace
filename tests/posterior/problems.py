"""Random updates for the tests of this folder, and their answers by another road."""

from dataclasses import dataclass, replace
from typing import final

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.sparse import csr_array

from nearline.arrays import Floats
from nearline.posterior import Gaussian, Outcome, Status, reference, update_one
from nearline.posterior.blocks import Features
from nearline.posterior.update import Method


@final
@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """One belief and rows to update it by."""

    belief: Gaussian
    x: Floats
    y: Floats
    weight: Floats
    offset: Floats
    outcome: Outcome

    @property
    def n(self) -> int:
        return len(self.y)

    @property
    def d(self) -> int:
        return len(self.belief.mean)

    def rows(self, at: object) -> "Problem":
        """The same belief with some of the rows, or all in another order."""
        return replace(self, x=self.x[at], y=self.y[at], weight=self.weight[at], offset=self.offset[at])

    def after(self, belief: Gaussian) -> "Problem":
        return replace(self, belief=belief)


def draw(seed: int, n: int, d: int, outcome: Outcome, *, full: bool = True, scale: float = 1.0) -> Problem:
    """Well-scaled features with an intercept, weights of different sizes, offsets, a prior with correlations."""
    rng = np.random.default_rng([seed, n, d, outcome])
    x = scale * rng.normal(size=(n, d)) / np.sqrt(max(d, 1))
    if d:
        x[:, 0] = 1.0
    offset = rng.normal(size=n)
    prior_mean = rng.normal(size=d)
    precision = draw_precision(rng, d) if full else rng.uniform(0.5, 3.0, d)
    eta = x @ prior_mean + offset
    y = {
        Outcome.BERNOULLI: lambda: (rng.random(n) < 1.0 / (1.0 + np.exp(-eta))).astype(float),
        Outcome.NORMAL: lambda: eta + rng.normal(size=n),
        Outcome.POISSON: lambda: rng.poisson(np.exp(np.clip(eta, -5.0, 5.0))).astype(float),
    }[outcome]()
    return Problem(Gaussian(prior_mean, precision), x, y, rng.uniform(0.2, 3.0, n), offset, outcome)


def draw_precision(rng: np.random.Generator, d: int) -> Floats:
    factor = rng.normal(size=(d, d + 2)) / np.sqrt(d + 2)
    return np.asarray(factor @ factor.T + 0.5 * np.eye(d), dtype=np.float64)


def fit(problem: Problem, *, features: "Features | None" = None, method: Method = Method.CHOOSE) -> Gaussian:
    """Update by the kernels; the fit must succeed (or have had no rows)."""
    belief, status = update_one(
        problem.belief,
        problem.x if features is None else features,
        problem.y,
        problem.outcome,
        weight=problem.weight,
        offset=problem.offset,
        method=method,
    )
    assert status is (Status.LEARNED if problem.n else Status.NO_ROWS)
    return belief


def optimum(problem: Problem) -> Gaussian:
    """The mode by scipy's trust region method from the prior mean, polished by Newton to the last digit."""
    parts = (problem.belief, problem.x, problem.y, problem.weight, problem.offset, problem.outcome)
    found = minimize(
        lambda b: reference.objective(b, *parts),
        problem.belief.mean,
        method="trust-exact",
        jac=lambda b: reference.gradient_and_hessian(b, *parts)[0],
        hess=lambda b: reference.gradient_and_hessian(b, *parts)[1],
        options={"gtol": 1e-6, "maxiter": 1000},
    ).x
    for _ in range(8):
        gradient, hessian = reference.gradient_and_hessian(found, *parts)
        found = found - np.linalg.solve(hessian, gradient)
    precision = reference.gradient_and_hessian(found, *parts)[1]
    return Gaussian(found, np.diag(precision).copy() if problem.belief.is_diagonal else precision)


def sparse(x: Floats) -> csr_array:
    """CSR of the same values."""
    return csr_array(x)


def untidy(x: Floats, seed: int) -> csr_array:
    """CSR of the same values with every entry split in two, explicit zeros, and columns in disorder."""
    rng = np.random.default_rng(seed)
    indptr, indices, values = [0], [], []
    for row in x:
        order = rng.permutation(np.repeat(np.arange(len(row)), 2))
        parts = {j: [0.25 * v, 0.75 * v] for j, v in enumerate(row)}
        indices += [int(j) for j in order]
        values += [parts[int(j)].pop() for j in order]
        indptr.append(len(indices))
    arrays = (np.array(values), np.array(indices, np.int32), np.array(indptr, np.int64))
    return csr_array(arrays, shape=x.shape)


def assert_same(a: Gaussian, b: Gaussian, tolerance: float) -> None:
    """Means within `tolerance` of their size, precisions within it relative to their largest entry."""
    size = 1.0 + np.abs(b.mean).max(initial=0.0)
    np.testing.assert_allclose(a.mean, b.mean, rtol=0.0, atol=tolerance * size)
    largest = np.abs(b.precision).max(initial=0.0)
    np.testing.assert_allclose(a.precision, b.precision, rtol=0.0, atol=tolerance * largest)


def assert_identical(a: Gaussian, b: Gaussian) -> None:
    np.testing.assert_array_equal(a.mean, b.mean, strict=True)
    np.testing.assert_array_equal(a.precision, b.precision, strict=True)


brief = settings(
    max_examples=3 * settings().max_examples // 10
)  # of what the profile says: 100, or 2,000 to soak
outcomes = st.sampled_from(list(Outcome))
methods = st.sampled_from(list(Method))


@st.composite
def problems(
    pick: st.DrawFn,
    *,
    rows: tuple[int, int] = (1, 40),
    outcome: st.SearchStrategy[Outcome] = outcomes,
    full: st.SearchStrategy[bool] | None = None,
) -> Problem:
    """Problems of 1 to 30 coefficients."""
    return draw(
        pick(st.integers(0, 10**6)),
        pick(st.integers(*rows)),
        pick(st.integers(1, 30)),
        pick(outcome),
        full=pick(st.booleans() if full is None else full),
    )
