"""Updates against a general optimiser, and against closed forms where the optimum is far away."""

from dataclasses import replace

import numpy as np
import pytest
from problems import assert_same, draw, fit, optimum, sparse
from scipy.special import lambertw

from nearline.posterior import Gaussian, Outcome, Status, reference, update_one
from nearline.posterior.update import Method


@pytest.mark.parametrize("full", [True, False], ids=["full", "diagonal"])
@pytest.mark.parametrize("outcome", list(Outcome))
def test_the_mode_is_the_one_a_general_optimiser_finds(outcome: Outcome, full: bool) -> None:
    rng = np.random.default_rng([outcome, full])
    for seed in range(120):
        n, d = int(rng.integers(0, 60)), int(rng.integers(1, 25))
        problem = draw(seed, n, d, outcome, full=full)
        found, exact = fit(problem), optimum(problem)
        np.testing.assert_allclose(found.mean, exact.mean, rtol=0.0, atol=1e-9)
        size = np.abs(exact.precision).max()
        np.testing.assert_allclose(found.precision, exact.precision, rtol=0.0, atol=1e-10 * size)


@pytest.mark.parametrize("d", [*range(1, 34), 63, 64, 65, 95, 96, 97, 127, 128, 129, 130])
def test_every_padding_of_columns_is_right(d: int) -> None:
    for outcome in Outcome:
        for n in (1, 5, 20) if d < 40 else (9,):
            for full in (True, False):
                problem = draw(d, n, d, outcome, full=full)
                exact = reference.update(
                    problem.belief, problem.x, problem.y, outcome, problem.weight, problem.offset
                )
                for method in (Method.PRIMAL, Method.DUAL):
                    assert_same(fit(problem, method=method), exact, 1e-9)
                assert_same(
                    fit(problem, features=sparse(problem.x), method=Method.CONJUGATE_GRADIENTS), exact, 1e-9
                )


@pytest.mark.parametrize("n", range(71))
def test_every_number_of_rows_is_right(n: int) -> None:
    for outcome in Outcome:
        problem = draw(n, n, 7, outcome)
        exact = reference.update(
            problem.belief, problem.x, problem.y, outcome, problem.weight, problem.offset
        )
        for method in Method:
            assert_same(fit(problem, method=method), exact, 1e-9)


@pytest.mark.parametrize("method", list(Method))
@pytest.mark.parametrize("offset", [-800.0, -100.0, -30.0, 30.0, 100.0])
@pytest.mark.parametrize("precision", [1.0, 1e-2, 1e-8])
def test_one_coefficient_far_from_its_data_is_where_the_equation_says(
    method: Method, offset: float, precision: float
) -> None:
    # Poisson, one row of y = 0 and x = 1: exp(offset + b) + precision b = 0, so b = -W(exp(offset) / precision).
    belief = Gaussian(np.zeros(1), np.array([precision]))
    poisson, status = update_one(
        belief, np.ones((1, 1)), np.zeros(1), Outcome.POISSON, offset=np.array([offset]), method=method
    )
    assert status is Status.LEARNED
    wanted = -np.real(lambertw(np.exp(max(offset, -700.0)) / precision))
    np.testing.assert_allclose(poisson.mean, wanted, rtol=1e-9, atol=1e-9)
    # Bernoulli: where the gradient vanishes, to the resolution of the curvature.
    bernoulli, status = update_one(
        belief, np.ones((1, 1)), np.zeros(1), Outcome.BERNOULLI, offset=np.array([offset]), method=method
    )
    assert status is Status.LEARNED
    exact = reference.gradient_and_hessian(
        bernoulli.mean,
        belief,
        np.ones((1, 1)),
        np.zeros(1),
        np.ones(1),
        np.array([offset]),
        Outcome.BERNOULLI,
    )
    assert abs(exact[0][0]) / np.sqrt(exact[1][0, 0]) < 1e-9


@pytest.mark.parametrize("method", list(Method))
@pytest.mark.parametrize("outcome", [Outcome.BERNOULLI, Outcome.POISSON])
@pytest.mark.parametrize("precision", [1.0, 1e-4, 1e-8])
def test_separable_rows_under_a_weak_prior_are_solved_to_the_last_digits(
    method: Method, outcome: Outcome, precision: float
) -> None:
    problem = draw(5, 6, 1, outcome)
    problem = replace(
        problem,
        belief=Gaussian(np.zeros(1), np.array([precision])),
        x=np.ones((6, 1)),
        y=np.full(6, 1.0 if outcome is Outcome.BERNOULLI else 0.0),
    )
    found = fit(problem, method=method)
    gradient, hessian = reference.gradient_and_hessian(
        found.mean, problem.belief, problem.x, problem.y, problem.weight, problem.offset, outcome
    )
    # In posterior standard deviations.
    assert abs(gradient[0]) / np.sqrt(hessian[0, 0]) < 1e-9
    # One that stops at the first small gain is off by 1e-7 of them.
    assert abs(gradient[0]) / hessian[0, 0] < 1e-6


@pytest.mark.parametrize("method", list(Method))
@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("weight", [1e6, 1e10, 1e20, 1e30])
def test_huge_weights_leave_the_maximum_likelihood(method: Method, outcome: Outcome, weight: float) -> None:
    problem = draw(3, 40, 3, outcome)
    problem = replace(problem, weight=np.full(40, weight))
    flat = replace(problem, belief=Gaussian(np.zeros(3), 1e-30 * np.eye(3)), weight=np.ones(40))
    assert np.abs(fit(problem, method=method).mean - optimum(flat).mean).max() < 1e-9 + 1e2 / weight


@pytest.mark.parametrize("method", list(Method))
def test_counts_of_a_million_are_learned(method: Method) -> None:
    for precision in (1.0, 1e-8):
        belief = Gaussian(np.zeros(2), np.full(2, precision))
        x, y = np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([1e6, 2.5e6])
        found, status = update_one(belief, x, y, Outcome.POISSON, method=method)
        assert status is Status.LEARNED
        gradient, hessian = reference.gradient_and_hessian(
            found.mean, belief, x, y, np.ones(2), np.zeros(2), Outcome.POISSON
        )
        assert np.abs(np.linalg.solve(hessian, gradient)).max() < 1e-10
        np.testing.assert_allclose(found.mean, [np.log(1e6), np.log(2.5)], atol=1e-4)


@pytest.mark.parametrize("method", list(Method))
@pytest.mark.parametrize("precision", [1e-8, 1e12])
@pytest.mark.parametrize("full", [True, False], ids=["full", "diagonal"])
def test_very_weak_and_very_strong_priors_are_solved(method: Method, precision: float, full: bool) -> None:
    for seed in range(20):
        for outcome in Outcome:
            problem = draw(seed, 12, 4, outcome)
            diagonal = np.full(4, precision)
            problem = replace(
                problem, belief=Gaussian(problem.belief.mean, np.diag(diagonal) if full else diagonal)
            )
            for features in (problem.x, sparse(problem.x)):
                found = fit(problem, features=features, method=method)
                gradient, hessian = reference.gradient_and_hessian(
                    found.mean,
                    problem.belief,
                    problem.x,
                    problem.y,
                    problem.weight,
                    problem.offset,
                    outcome,
                )
                in_deviations = gradient @ np.linalg.solve(hessian, gradient)
                # The gradient itself can be told to a few parts in 1e16 of the prior's pull.
                assert in_deviations < 1e-16 + 1e-28 * precision


def test_coefficients_of_very_different_size_are_all_solved() -> None:
    # A step far below the largest coefficient may still be a large one in its own feature's units.
    belief = Gaussian(np.array([1e6, 0.0]), np.array([1e-6, 1.0]))
    rng = np.random.default_rng(0)
    x = np.stack([1e-6 * rng.normal(size=50), 1e7 * rng.normal(size=50)], axis=1)
    y = (rng.random(50) < 0.5).astype(float)
    for method in Method:
        found, status = update_one(belief, x, y, Outcome.BERNOULLI, method=method)
        assert status is Status.LEARNED
        gradient, hessian = reference.gradient_and_hessian(
            found.mean, belief, x, y, np.ones(50), np.zeros(50), Outcome.BERNOULLI
        )
        assert gradient @ np.linalg.solve(hessian, gradient) < 1e-16


def test_an_inexact_step_that_moves_no_predictor_is_not_taken_for_the_last() -> None:
    # The first conjugate gradient step solves the single row's predictor to the last digit, its coefficients not.
    problem = draw(100, 1, 30, Outcome.NORMAL, full=False)
    found = fit(problem, features=sparse(problem.x), method=Method.CONJUGATE_GRADIENTS)
    assert_same(found, optimum(problem), 1e-9)
