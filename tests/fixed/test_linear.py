"""The linear fixed effect: properties, optimality, and scikit-learn on the same objective."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array, vstack
from sklearn.linear_model import ElasticNet, LogisticRegression, PoissonRegressor, Ridge

from nearline.errors import ConfigError, DataError
from nearline.fixed import objective as objective_module
from nearline.fixed.linear import LinearFit, fit_linear
from nearline.posterior import outcomes
from nearline.posterior.outcomes import Outcome

TIGHT = 1e-14
SEEDS = st.integers(0, 10_000)


@pytest.fixture(params=["by factorisation", "by conjugate gradients"])
def solver(request, monkeypatch):
    by_matrix = request.param == "by factorisation"
    monkeypatch.setattr(objective_module.Objective, "prefers_matrix", by_matrix)


def problem(outcome: Outcome, seed: int, n: int = 300, p: int = 8):
    """Rows of very different scales, an intercept, responses drawn from the model, weights and offsets."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p)) + 0.5
    x[rng.random((n, p)) < 0.4] = 0.0
    x[:, 0] = 1.0
    scale = np.logspace(-1, 1, p)
    truth = rng.normal(size=p) * 0.4
    offset, weight = 0.3 * rng.normal(size=n), rng.exponential(size=n)
    eta = x @ truth + offset
    match outcome:
        case Outcome.BERNOULLI:
            y = (rng.random(n) < outcomes.mean(outcome, eta)).astype(float)
        case Outcome.NORMAL:
            y = eta + rng.normal(size=n)
        case Outcome.POISSON:
            y = rng.poisson(outcomes.mean(outcome, eta)).astype(float)
    x[:, 1:] *= scale[1:]
    return csr_array(x), y, weight, offset


def optimality(x, y, weight, offset, outcome, fit: LinearFit, l2: float, l1: float) -> float:
    """The largest entry of the smallest subgradient: 0 at the minimum, by the textbook formula."""
    b = fit.coefficients
    spare = np.ones(len(b))
    spare[0] = 0.0
    slope = weight * (outcomes.mean(outcome, x @ b + offset) - y)
    gradient, l1s = x.T @ slope + l2 * spare * b, l1 * spare
    at_zero = np.maximum(np.abs(gradient) - l1s, 0.0)
    return float(np.max(np.where(b == 0.0, at_zero, np.abs(gradient + l1s * np.sign(b)))))


@pytest.mark.usefixtures("solver")
@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize(("l2", "l1"), [(0.0, 0.0), (2.0, 0.0), (0.0, 5.0), (3.0, 3.0), (1.0, 60.0)])
def test_the_subgradient_vanishes_at_the_minimum(outcome, l2, l1):
    for seed in range(5):
        given_rows = problem(outcome, seed)
        fit = fit_linear(*given_rows, outcome, l2=l2, l1=l1, tolerance=TIGHT)
        assert fit.converged, fit.reason
        assert optimality(*given_rows, outcome, fit, l2, l1) < 1e-6
        assert np.all(np.diff(fit.loss_trace) <= 1e-14 * np.abs(fit.loss_trace[:-1]))


@pytest.mark.usefixtures("solver")
def test_l1_with_more_columns_than_rows_selects_few_of_them():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 200))
    x[:, 0] = 1.0
    y = (rng.random(60) < outcomes.mean(Outcome.BERNOULLI, 2.0 * x[:, 1] - 2.0 * x[:, 2])).astype(float)
    fit = fit_linear(csr_array(x), y, l2=0.0, l1=4.0, tolerance=TIGHT)
    assert fit.converged, fit.reason
    assert optimality(csr_array(x), y, 1.0, 0.0, Outcome.BERNOULLI, fit, 0.0, 4.0) < 1e-6
    chosen = np.flatnonzero(fit.coefficients[1:]) + 1
    assert {1, 2} <= set(chosen)
    assert len(chosen) < 30


@given(st.sampled_from(Outcome), SEEDS)
@settings(max_examples=20)
def test_a_row_of_weight_two_is_the_row_twice(outcome, seed):
    x, y, _, offset = problem(outcome, seed, n=80)
    twice = np.arange(80) % 3 == 0
    weighted = fit_linear(x, y, 1.0 + twice, offset, outcome, l2=1.0, tolerance=TIGHT)
    repeated = fit_linear(
        csr_array(vstack([x, x[twice]])),
        np.append(y, y[twice]),
        None,
        np.append(offset, offset[twice]),
        outcome,
        l2=1.0,
        tolerance=TIGHT,
    )
    np.testing.assert_allclose(weighted.coefficients, repeated.coefficients, atol=1e-8)


@given(st.sampled_from(Outcome), SEEDS)
@settings(max_examples=20)
def test_the_order_of_rows_does_not_matter(outcome, seed):
    x, y, weight, offset = problem(outcome, seed, n=80)
    order = np.random.default_rng(seed).permutation(80)
    fit = fit_linear(x, y, weight, offset, outcome, l2=1.0, tolerance=TIGHT)
    shuffled = fit_linear(
        csr_array(x[order]), y[order], weight[order], offset[order], outcome, l2=1.0, tolerance=TIGHT
    )
    np.testing.assert_allclose(fit.coefficients, shuffled.coefficients, atol=1e-8)


@given(st.sampled_from(Outcome), SEEDS, st.floats(-3, 3))
@settings(max_examples=20)
def test_an_offset_for_all_is_taken_up_by_the_intercept(outcome, seed, shift):
    x, y, weight, offset = problem(outcome, seed, n=80)
    fit = fit_linear(x, y, weight, offset, outcome, l2=1.0, tolerance=TIGHT)
    shifted = fit_linear(x, y, weight, offset + shift, outcome, l2=1.0, tolerance=TIGHT)
    expected = fit.coefficients.copy()
    expected[0] -= shift
    np.testing.assert_allclose(shifted.coefficients, expected, atol=1e-7)


@given(st.sampled_from(Outcome), SEEDS)
@settings(max_examples=20)
def test_the_gradient_is_the_slope_of_the_objective(outcome, seed):
    x, y, weight, offset = problem(outcome, seed, n=40)
    rng = np.random.default_rng(seed)
    p = x.shape[1]
    objective = objective_module.Objective(
        rows=objective_rows(x),
        y=y,
        weight=weight,
        offset=offset,
        outcome=outcome,
        l2=rng.random(p),
        l1=np.zeros(p),
        adjustment=rng.normal(size=p),
        threads=1,
    )
    b, direction = 0.05 * rng.normal(size=p), rng.normal(size=p)
    h = 1e-6
    up, down = objective.at(b + h * direction), objective.at(b - h * direction)
    point = objective.at(b)
    size = 1.0 + abs(point.value)
    assert (up.value - down.value) / (2 * h) == pytest.approx(point.gradient @ direction, abs=1e-6 * size)
    bent = (up.gradient - down.gradient) / (2 * h)
    product = objective.product(point, direction)
    np.testing.assert_allclose(product, bent, atol=1e-5 * np.abs(bent).max())
    np.testing.assert_allclose(objective.matrix(point) @ direction, product, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(objective.diagonal(point), np.diag(objective.matrix(point)), rtol=1e-12)


def objective_rows(x):
    from nearline.fixed.linear import checked_rows

    return checked_rows(x)


@pytest.mark.usefixtures("solver")
@pytest.mark.parametrize("l1", [0.0, 2.0])
def test_any_number_of_threads_gives_the_same_coefficients(l1):
    rng = np.random.default_rng(3)
    x = csr_array(rng.normal(size=(20_000, 20)))
    y = (rng.random(20_000) < 0.3).astype(float)
    fits = [fit_linear(x, y, l2=1.0, l1=l1, intercept_column=None, threads=k) for k in (1, 2, 5)]
    assert len({fit.coefficients.tobytes() for fit in fits}) == 1


@pytest.mark.usefixtures("solver")
def test_logistic_regression_agrees_with_scikit_learn():
    x, y, weight, _ = problem(Outcome.BERNOULLI, 1)
    fit = fit_linear(x, y, weight, l2=2.0, tolerance=TIGHT)
    peer = LogisticRegression(C=0.5, solver="newton-cholesky", tol=1e-12).fit(x.toarray()[:, 1:], y, weight)
    np.testing.assert_allclose(fit.coefficients, [*peer.intercept_, *peer.coef_[0]], atol=1e-6)


@pytest.mark.usefixtures("solver")
def test_ridge_agrees_with_scikit_learn():
    x, y, weight, _ = problem(Outcome.NORMAL, 1)
    fit = fit_linear(x, y, weight, None, Outcome.NORMAL, l2=2.0, tolerance=TIGHT)
    peer = Ridge(alpha=2.0, solver="cholesky").fit(x.toarray()[:, 1:], y, weight)
    np.testing.assert_allclose(fit.coefficients, [peer.intercept_, *peer.coef_], atol=1e-6)


@pytest.mark.usefixtures("solver")
def test_poisson_regression_agrees_with_scikit_learn():
    x, y, weight, _ = problem(Outcome.POISSON, 1)
    fit = fit_linear(x, y, weight, None, Outcome.POISSON, l2=2.0, tolerance=TIGHT)
    peer = PoissonRegressor(alpha=2.0 / weight.sum(), solver="newton-cholesky", tol=1e-10)
    peer.fit(x.toarray()[:, 1:], y, weight)
    np.testing.assert_allclose(fit.coefficients, [peer.intercept_, *peer.coef_], atol=1e-6)


@pytest.mark.usefixtures("solver")
def test_elastic_net_agrees_with_scikit_learn_for_normal_outcomes():
    x, y, _, _ = problem(Outcome.NORMAL, 2)
    fit = fit_linear(x, y, None, None, Outcome.NORMAL, l2=4.0, l1=12.0, tolerance=TIGHT)
    peer = ElasticNet(alpha=16.0 / 300, l1_ratio=12.0 / 16.0, tol=1e-14, max_iter=100_000)
    peer.fit(x.toarray()[:, 1:], y)
    np.testing.assert_allclose(fit.coefficients, [peer.intercept_, *peer.coef_], atol=1e-6)


@pytest.mark.usefixtures("solver")
def test_elastic_net_agrees_with_scikit_learn_for_bernoulli_outcomes():
    x, y, weight, _ = problem(Outcome.BERNOULLI, 2)
    x.data = np.clip(x.data, -2.0, 2.0)
    fit = fit_linear(x, y, weight, l2=3.0, l1=5.0, tolerance=TIGHT)
    peer = LogisticRegression(C=1 / 8.0, l1_ratio=5.0 / 8.0, solver="saga", tol=1e-12, max_iter=100_000)
    peer.fit(x.toarray()[:, 1:], y, weight)
    np.testing.assert_allclose(fit.coefficients, [*peer.intercept_, *peer.coef_[0]], atol=1e-6)
    assert fit.coefficients[0] != 0.0


@pytest.mark.usefixtures("solver")
def test_separated_classes_are_reported_and_do_not_diverge():
    x = csr_array(np.column_stack([np.ones(40), np.linspace(-1, 1, 40)]))
    y = (x.toarray()[:, 1] > 0).astype(float)
    fit = fit_linear(x, y, l2=0.0)
    assert not fit.converged
    assert "separate" in fit.reason
    assert np.isfinite(fit.coefficients).all()
    shrunk = fit_linear(x, y, l2=1e-3)
    assert shrunk.converged, shrunk.reason


@pytest.mark.usefixtures("solver")
@pytest.mark.parametrize("outcome", [Outcome.BERNOULLI, Outcome.POISSON])
def test_responses_without_any_event_are_reported(outcome):
    x, y, _, _ = problem(outcome, 0)
    fit = fit_linear(x, np.zeros_like(y), outcome=outcome, l2=1.0)
    assert not fit.converged
    assert fit.coefficients[0] < -10.0


@pytest.mark.usefixtures("solver")
@pytest.mark.parametrize("outcome", Outcome)
def test_duplicated_and_collinear_columns_reach_the_minimum_without_any_penalty(outcome):
    x, y, weight, offset = problem(outcome, 4)
    dense = x.toarray()
    doubled = csr_array(np.column_stack([dense, dense[:, 2:4], dense[:, 1] + dense[:, 5], np.zeros(len(y))]))
    fit = fit_linear(doubled, y, weight, offset, outcome, l2=0.0, tolerance=1e-12)
    plain = fit_linear(x, y, weight, offset, outcome, l2=0.0, tolerance=1e-12)
    assert fit.converged, fit.reason
    assert fit.loss_trace[-1] == pytest.approx(plain.loss_trace[-1], rel=1e-9)
    assert np.abs(fit.coefficients).max() < 100.0


@pytest.mark.usefixtures("solver")
def test_large_counts_are_fitted_from_a_cold_start():
    x, _, _, _ = problem(Outcome.POISSON, 5)
    x.data = np.clip(x.data, -3, 3)
    truth = np.array([14.0, 0.3, -0.2, 0.1, 0.2, -0.1, 0.05, 0.1])
    y = np.round(np.exp(x @ truth))
    for intercept_column in (0, None):
        fit = fit_linear(
            x, y, outcome=Outcome.POISSON, l2=0.0, intercept_column=intercept_column, tolerance=1e-12
        )
        assert fit.converged, fit.reason
        np.testing.assert_allclose(fit.coefficients, truth, atol=1e-4)


def test_an_adjustment_moves_the_minimum_as_a_prior_mean_would():
    x, y, weight, offset = problem(Outcome.BERNOULLI, 6)
    p = x.shape[1]
    precision, mean = np.full(p, 5.0), np.linspace(-1, 1, p)
    fit = fit_linear(
        x,
        y,
        weight,
        offset,
        l2=precision,
        adjustment=-precision * mean,
        intercept_column=None,
        tolerance=TIGHT,
    )
    moved = fit_linear(x, y, weight, offset + x @ mean, l2=precision, intercept_column=None, tolerance=TIGHT)
    np.testing.assert_allclose(fit.coefficients, mean + moved.coefficients, atol=1e-8)


def test_a_warm_start_at_the_minimum_needs_no_more_than_a_step():
    x, y, weight, offset = problem(Outcome.POISSON, 7)
    fit = fit_linear(x, y, weight, offset, Outcome.POISSON, l2=1.0, tolerance=TIGHT)
    again = fit_linear(x, y, weight, offset, Outcome.POISSON, l2=1.0, start=fit.coefficients)
    assert again.converged
    assert again.steps <= 1
    np.testing.assert_allclose(again.coefficients, fit.coefficients, atol=1e-8)


def test_each_step_is_reported():
    x, y, weight, offset = problem(Outcome.BERNOULLI, 8)
    seen = []
    fit = fit_linear(x, y, weight, offset, l2=1.0, on_step=seen.append)
    assert [step.number for step in seen] == list(range(1, fit.steps + 1))
    assert [step.loss for step in seen] == list(fit.loss_trace[1:])


def test_too_few_steps_are_said_not_to_have_converged():
    x, y, weight, offset = problem(Outcome.POISSON, 9)
    fit = fit_linear(x, y, weight, offset, Outcome.POISSON, l2=1.0, max_steps=1, tolerance=TIGHT)
    assert not fit.converged
    assert "max_steps" in fit.reason


def test_rows_that_name_a_column_twice_mean_the_sum():
    twice = csr_array(
        (np.array([1.0, 0.5, 0.5, 1.0]), np.array([0, 1, 1, 0]), np.array([0, 3, 4])), shape=(2, 2)
    )
    once = csr_array(np.array([[1.0, 1.0], [1.0, 0.0]]))
    y = np.array([1.0, 0.0])
    a, b = fit_linear(twice, y, l2=1.0), fit_linear(once, y, l2=1.0)
    np.testing.assert_array_equal(a.coefficients, b.coefficients)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"y": np.full(300, 2.0)}, DataError, "row 0 is 2.0"),
        ({"y": np.zeros(3)}, DataError, "y: expected 300 values"),
        ({"weight": np.full(300, -1.0)}, DataError, "weight"),
        ({"offset": np.full(300, np.nan)}, DataError, "offset: entry 0"),
        ({"l2": -1.0}, ConfigError, "l2"),
        ({"l2": np.ones(3)}, ConfigError, "l2: expected a number or 8 numbers"),
        ({"l1": float("nan")}, ConfigError, "l1"),
        ({"intercept_column": 8}, ConfigError, "intercept_column"),
        ({"start": np.zeros(3)}, DataError, "start"),
        ({"tolerance": 0.0}, ConfigError, "tolerance"),
    ],
)
def test_wrong_arguments_are_refused_by_name(change, error, message):
    x, y, weight, offset = problem(Outcome.BERNOULLI, 0)
    arguments = {"y": y, "weight": weight, "offset": offset, "l2": 1.0} | change
    with pytest.raises(error, match=message):
        fit_linear(x, **arguments)


def test_a_wrong_index_is_refused_before_anything_is_read():
    x = csr_array(np.eye(3))
    x.indices[1] = 7
    with pytest.raises(DataError, match="indices"):
        fit_linear(x, np.zeros(3), l2=1.0)


def test_a_prior_that_outweighs_a_single_row_costs_no_more_steps_than_one_that_does_not():
    precision = np.full(3, 1e3)
    fit = fit_linear(
        csr_array(np.array([[1.0, 0.4, -1.3]])),
        np.array([2.0]),
        outcome=Outcome.NORMAL,
        l2=precision,
        start=np.ones(3),
        adjustment=-precision,
    )
    assert fit.converged
    assert fit.steps <= 3
