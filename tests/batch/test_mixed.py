from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from nearline.batch.marginal import Factor, GroupedRows, LaplaceMarginal, NormalMarginal
from nearline.batch.mixed import fit_mixed_model
from nearline.errors import DataError
from nearline.posterior import Gaussian, Outcome, group_rows, outcomes, reference, update_many
from nearline.posterior.blocks import share
from nearline.posterior.prior import initial_prior, maximise, moments
from nearline.posterior.update import Labels

NON_NORMAL = [Outcome.BERNOULLI, Outcome.POISSON]
FACTORS = {
    "positive": np.array([[0.8, 0.0], [0.3, 0.5]]),
    "with a zero on the diagonal": np.array([[0.0, 0.0], [0.3, 0.5]]),
    "diagonal": np.diag([0.8, 0.4]),
}


def respond(rng, outcome, eta, noise=0.7):
    match outcome:
        case Outcome.BERNOULLI:
            return (rng.random(len(eta)) < outcomes.mean(outcome, eta)).astype(float)
        case Outcome.NORMAL:
            return eta + noise * rng.normal(size=len(eta))
        case Outcome.POISSON:
            return rng.poisson(outcomes.mean(outcome, eta)).astype(float)


def draw(seed, outcome, *, groups=30, mean_rows=12, factor=FACTORS["positive"]):
    """Rows of the model that is fitted: beta (0.3, -0.5), covariance L L'; and the random effects drawn."""
    rng = np.random.default_rng(seed)
    group = rng.permutation(np.repeat(np.arange(groups), rng.integers(3, 2 * mean_rows - 2, groups)))
    x = np.column_stack([np.ones(len(group)), rng.normal(size=len(group))])
    z = np.column_stack([np.ones(len(group)), rng.normal(size=len(group))])[:, : len(factor)]
    b = rng.normal(size=(groups, len(factor))) @ factor.T
    eta = x @ [0.3, -0.5] + np.sum(z * b[group], axis=1)
    return x, z, respond(rng, outcome, eta), group, b


def simulate(seed, outcome, **sizes):
    """Arguments of `fit_mixed_model`."""
    return draw(seed, outcome, **sizes)[:4]


def grouped(x, z, y, group, weight=None, offset=None):
    order = np.argsort(group, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(group))])
    weight = np.ones(len(y)) if weight is None else weight
    offset = np.zeros(len(y)) if offset is None else offset
    return GroupedRows(x[order], z[order], y[order], weight[order], offset[order], start)


def same_estimates(a, b, rtol=1e-3):
    assert a.minus_twice_log_likelihood == pytest.approx(b.minus_twice_log_likelihood, abs=1e-5)
    np.testing.assert_allclose(a.coefficients, b.coefficients, rtol=rtol, atol=1e-4)
    np.testing.assert_allclose(a.covariance, b.covariance, rtol=10 * rtol, atol=1e-4)


def central_difference(function, at, step=1e-5):
    slope = np.zeros_like(at)
    for place in np.ndindex(at.shape):
        up, down = at.copy(), at.copy()
        up[place] += step
        down[place] -= step
        slope[place] = (function(up) - function(down)) / (2.0 * step)
    return slope


@pytest.mark.parametrize("factor", FACTORS.values(), ids=FACTORS.keys())
def test_normal_gradient_is_that_of_finite_differences(factor):
    marginal = NormalMarginal.of(grouped(*simulate(1, Outcome.NORMAL)))
    slope = central_difference(lambda at: marginal.at(at).value, factor)
    np.testing.assert_allclose(marginal.at(factor).factor_gradient, slope, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("factor", FACTORS.values(), ids=FACTORS.keys())
@pytest.mark.parametrize("outcome", NON_NORMAL)
def test_laplace_gradient_is_that_of_finite_differences(outcome, factor):
    rng = np.random.default_rng(2)
    x, z, y, group = simulate(2, outcome)
    rows = grouped(x, z, y, group, rng.uniform(0.5, 2.0, len(y)), 0.3 * rng.normal(size=len(y)))
    marginal, beta = LaplaceMarginal.of(rows, outcome, 1), np.array([0.2, -0.4])
    solution = marginal.at(beta, factor)
    by_beta = central_difference(lambda at: marginal.at(at, factor).value, beta)
    by_factor = central_difference(lambda at: marginal.at(beta, at).value, factor)
    np.testing.assert_allclose(solution.beta_gradient, by_beta, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(solution.factor_gradient, by_factor, rtol=1e-5, atol=1e-4)


def test_normal_likelihood_is_the_density_of_the_marginal_normal_distribution():
    x, z, y, group = simulate(3, Outcome.NORMAL)
    fit = fit_mixed_model(x, z, y, group, Outcome.NORMAL)
    log_density = 0.0
    for g in range(group.max() + 1):
        own = group == g
        noise = fit.noise_std**2 * np.eye(own.sum())
        spread = z[own] @ fit.covariance @ z[own].T + noise
        log_density += multivariate_normal(x[own] @ fit.coefficients, spread).logpdf(y[own])
    assert fit.minus_twice_log_likelihood == pytest.approx(-2.0 * log_density, rel=1e-10)


@pytest.mark.parametrize("outcome", NON_NORMAL)
def test_laplace_likelihood_is_that_of_the_slow_reference(outcome):
    x, z, y, group = simulate(4, outcome, groups=8)
    beta, factor = np.array([0.2, -0.4]), FACTORS["positive"]
    marginal = LaplaceMarginal.of(grouped(x, z, y, group), outcome, 1)
    prior = Gaussian(np.zeros(2), np.linalg.inv(factor @ factor.T))
    expected = marginal.constant - 8 * np.linalg.slogdet(prior.precision)[1]
    for g in range(8):
        own = group == g
        o = x[own] @ beta
        belief = reference.update(prior, z[own], y[own], outcome, offset=o)
        expected += 2.0 * reference.objective(
            belief.mean, prior, z[own], y[own], np.ones(own.sum()), o, outcome
        )
        expected += np.linalg.slogdet(belief.precision)[1]
    assert marginal.at(beta, factor).value == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_estimates_recover_the_truth_they_were_drawn_from(outcome):
    # Laplace's approximation makes variances of Bernoulli outcomes too small when groups have a dozen rows.
    *rows, b = draw(5, outcome, groups=400, mean_rows=60)
    fit = fit_mixed_model(*rows, outcome)
    assert fit.converged
    assert np.all(np.abs(fit.coefficients - [0.3, -0.5]) < 3.5 * fit.standard_errors)
    assert np.corrcoef(fit.modes[:, 0], b[:, 0])[0, 1] > 0.9
    np.testing.assert_allclose(fit.covariance, b.T @ b / len(b), rtol=0.1, atol=0.02)
    if outcome is Outcome.NORMAL:
        assert fit.noise_std == pytest.approx(0.7, rel=0.03)


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("outcome", NON_NORMAL)
def test_fixed_point_of_the_population_prior_is_the_direct_maximum(outcome, columns):
    x, z, y, group = simulate(6, outcome, groups=80)
    z, offset = z[:, :columns], x @ [0.3, -0.5]
    rows, labels = group_rows(z, group, 80), Labels(y, offset=offset)
    prior = initial_prior(rows)
    for _ in range(800):
        beliefs = update_many(rows, labels, share(prior), outcome).beliefs
        prior = maximise(moments(rows, labels, beliefs, prior.mean, outcome), prior, estimate_mean=False)
    fit = fit_mixed_model(x[:, :0], z, y, group, outcome, offset=offset)
    np.testing.assert_allclose(fit.covariance, prior.covariance, rtol=1e-4)
    np.testing.assert_allclose(fit.modes, beliefs.mean.reshape(80, columns), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("outcome", list(Outcome))
@settings(max_examples=8)
@given(seed=st.integers(0, 1000))
def test_weight_two_is_the_row_twice(outcome, seed):
    x, z, y, group = simulate(seed, outcome, groups=12)
    twice = np.random.default_rng(seed).random(len(y)) < 0.4
    weighted = fit_mixed_model(x, z, y, group, outcome, weight=1.0 + twice)
    repeated = fit_mixed_model(*(np.concatenate([a, a[twice]]) for a in (x, z, y, group)), outcome)
    same_estimates(weighted, repeated)


@pytest.mark.parametrize("outcome", list(Outcome))
@settings(max_examples=8)
@given(seed=st.integers(0, 1000))
def test_order_of_rows_and_names_of_groups_do_not_matter(outcome, seed):
    x, z, y, group = simulate(seed, outcome, groups=12)
    rng = np.random.default_rng(seed)
    order, names = rng.permutation(len(y)), rng.permutation([f"group {g}" for g in range(12)])
    fit = fit_mixed_model(x, z, y, group, outcome)
    other = fit_mixed_model(x[order], z[order], y[order], names[group[order]], outcome)
    same_estimates(fit, other)
    place = np.searchsorted(other.groups, names[fit.groups])
    np.testing.assert_allclose(other.modes[place], fit.modes, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("outcome", NON_NORMAL)
def test_number_of_threads_changes_nothing(outcome):
    rows = simulate(7, outcome)
    one, four = (fit_mixed_model(*rows, outcome, threads=threads) for threads in (1, 4))
    np.testing.assert_array_equal(one.modes, four.modes)
    assert one.minus_twice_log_likelihood == four.minus_twice_log_likelihood


@pytest.mark.parametrize("outcome", list(Outcome))
def test_an_offset_moves_the_coefficients_by_as_much(outcome):
    x, z, y, group = simulate(8, outcome)
    fit = fit_mixed_model(x, z, y, group, outcome)
    moved = fit_mixed_model(x, z, y, group, outcome, offset=x @ [1.0, 0.5])
    np.testing.assert_allclose(moved.coefficients, fit.coefficients - [1.0, 0.5], atol=1e-3)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_units_of_the_features_change_only_the_units_of_the_estimates(outcome):
    x, z, y, group = simulate(9, outcome)
    unit = np.array([1.0, 1e4])
    fit, scaled = (
        fit_mixed_model(x, z, y, group, outcome),
        fit_mixed_model(x * unit, z / unit, y, group, outcome),
    )
    same_estimates(
        fit,
        replace(
            scaled,
            coefficients=scaled.coefficients * unit,
            relative_factor=scaled.relative_factor / unit[:, None],
        ),
    )


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_variance_of_zero_is_found_and_not_mistaken(outcome, covariance):
    # Slopes that do not vary: their variance is estimated as 0, or small, and costs no likelihood.
    x, z, y, group = simulate(10, outcome, groups=40, factor=np.diag([0.8, 0.0]))
    fit = fit_mixed_model(x, z, y, group, outcome, covariance=covariance)
    without = fit_mixed_model(x, z[:, :1], y, group, outcome)
    assert fit.converged
    assert fit.random_std[1] < 0.4
    assert fit.minus_twice_log_likelihood <= without.minus_twice_log_likelihood + 1e-6


@settings(max_examples=50)
@given(seed=st.integers(0, 10_000))
def test_no_point_of_a_grid_is_likelier_than_the_estimate(seed):
    # Few rows of small effects: estimates lie on the bound as often as not.
    x, z, y, group = simulate(seed, Outcome.NORMAL, groups=6, mean_rows=4, factor=np.array([[0.2]]))
    fit = fit_mixed_model(x, z, y, group, Outcome.NORMAL)
    marginal = NormalMarginal.of(grouped(x, z, y, group))
    grid = [marginal.at(np.array([[entry]])).value for entry in np.geomspace(1e-3, 10.0, 40)]
    zero = marginal.at(np.zeros((1, 1))).value
    assert fit.minus_twice_log_likelihood <= min(*grid, zero) + 1e-6


def test_relative_factor_entries_run_down_the_columns_as_in_lme4():
    factor = Factor(3, full=True)
    matrix = factor.matrix(np.arange(1.0, 7.0))
    np.testing.assert_array_equal(matrix, [[1.0, 0.0, 0.0], [2.0, 4.0, 0.0], [3.0, 5.0, 6.0]])
    np.testing.assert_array_equal(factor.entries(matrix), np.arange(1.0, 7.0))
    np.testing.assert_array_equal(factor.lower_bounds == 0.0, [True, False, False, True, False, True])


def test_summary_names_every_estimate():
    fit = fit_mixed_model(*simulate(11, Outcome.NORMAL), Outcome.NORMAL)
    text = fit.summary(fixed=["intercept", "age"], random=["base", "slope"])
    for part in (
        "intercept",
        "age",
        "base",
        "slope",
        "(noise)",
        "std. error",
        "30 groups",
        "-2 log likelihood",
    ):
        assert part in text
    assert f"{fit.coefficients[1]:.5g}" in text
    assert "Singular" not in text


def test_summary_says_what_went_wrong():
    fit = fit_mixed_model(*simulate(11, Outcome.NORMAL), Outcome.NORMAL)
    text = replace(fit, converged=False, relative_factor=np.zeros((2, 2))).summary()
    assert "NOT CONVERGED" in text
    assert "Singular" in text
    assert "nan" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.ones((40, 2))}, "x: column 1 is a combination"),
        ({"x": np.ones((39, 1))}, "x: expected 2 dimension"),
        ({"z": np.zeros((40, 1))}, "z: column 0 is 0"),
        ({"z": np.ones((40, 0))}, "one column of z"),
        ({"y": np.full(40, np.nan)}, "y: row 0"),
        ({"y": np.full(40, 2.0), "outcome": Outcome.BERNOULLI}, "y: row 0 .* Bernoulli"),
        ({"weight": np.full(40, -1.0)}, "weight: row 0"),
        ({"group": np.arange(40)}, "every row is a group of its own"),
    ],
)
def test_rows_that_cannot_be_used_are_refused_with_the_reason(change, message):
    given = {"x": np.ones((40, 1)), "z": np.ones((40, 1)), "y": np.arange(40.0), "group": np.arange(40) // 4}
    with pytest.raises(DataError, match=message):
        fit_mixed_model(**{**given, "outcome": Outcome.NORMAL, **change})
