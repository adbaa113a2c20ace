"""Mixed models against the published estimates of lme4 and MixedModels.jl."""

import functools
from pathlib import Path

import numpy as np
import pytest
from benchmarks import crossed_effects, reference_estimates, reference_models

from nearline.batch.mixed_fit import MixedFit

pytestmark = pytest.mark.data

ONE_FACTOR = [
    "sleepstudy_ri",
    "sleepstudy_corr",
    "sleepstudy_zerocorr",
    "dyestuff",
    "dyestuff2",
    "cbpp",
    "contraception",
]


@functools.cache
def fitted(directory: Path, name: str) -> MixedFit:
    return reference_models.one_factor_models(directory)[name].fit()


@pytest.mark.parametrize("name", ONE_FACTOR)
def test_minus_twice_log_likelihood_is_the_published_one(data_directory, name):
    reference = reference_models.published(data_directory)[name]
    objective = reference.get("objective", reference.get("objective_laplace"))
    fit = fitted(data_directory, name)
    assert fit.converged
    assert fit.minus_twice_log_likelihood == pytest.approx(objective, abs=1e-3)


@pytest.mark.parametrize("name", ONE_FACTOR)
def test_coefficients_are_the_published_ones(data_directory, name):
    reference = reference_models.published(data_directory)[name]
    beta = reference.get("beta_rechecked", reference.get("beta"))
    np.testing.assert_allclose(fitted(data_directory, name).coefficients, beta, rtol=1e-3)


@pytest.mark.parametrize("name", [name for name in ONE_FACTOR if name not in {"cbpp", "contraception"}])
def test_standard_errors_are_the_published_ones(data_directory, name):
    reference = reference_models.published(data_directory)[name]
    np.testing.assert_allclose(fitted(data_directory, name).standard_errors, reference["se"], rtol=1e-3)


@pytest.mark.parametrize("name", ONE_FACTOR)
def test_relative_factor_is_the_published_one(data_directory, name):
    reference = reference_models.published(data_directory)[name]
    theta = np.asarray(reference.get("theta", reference.get("theta_laplace")))
    factor = fitted(data_directory, name).relative_factor
    entries = np.diag(factor) if len(theta) == len(factor) else factor.T[np.triu_indices(len(factor))]
    np.testing.assert_allclose(entries, theta, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["sleepstudy_ri", "sleepstudy_zerocorr", "dyestuff", "dyestuff2"])
def test_noise_is_the_published_one(data_directory, name):
    reference = reference_models.published(data_directory)[name]
    assert fitted(data_directory, name).noise_std == pytest.approx(reference["sigma"], rel=1e-3)


@pytest.mark.parametrize("name", ["sleepstudy_corr", "sleepstudy_zerocorr", "dyestuff"])
def test_random_effect_stds_are_the_published_ones(data_directory, name):
    reference = reference_models.published(data_directory)[name]
    np.testing.assert_allclose(fitted(data_directory, name).random_std, reference["re_sd"], rtol=1e-3)


def test_sleepstudy_correlation_and_first_subject_are_the_published_ones(data_directory):
    reference = reference_models.published(data_directory)["sleepstudy_corr"]
    fit = fitted(data_directory, "sleepstudy_corr")
    assert fit.groups[0] == 308
    assert fit.random_correlation[1, 0] == pytest.approx(reference["re_corr"], abs=1e-3)
    assert fit.modes[0, 0] == pytest.approx(reference["ranef_S308_first"], rel=1e-3)
    np.testing.assert_allclose(fit.mode_covariance[0], reference["condVar_S308"], rtol=1e-3)


def test_dyestuff2_is_singular(data_directory):
    fit = fitted(data_directory, "dyestuff2")
    assert fit.is_singular
    assert fit.random_std[0] == 0.0
    assert np.all(fit.modes == 0.0)


def test_cbpp_log_likelihood_has_the_binomial_coefficients(data_directory):
    reference = reference_models.published(data_directory)["cbpp"]
    fit = fitted(data_directory, "cbpp")
    assert -fit.minus_twice_log_likelihood / 2.0 == pytest.approx(reference["loglik"], abs=1e-3)
    np.testing.assert_allclose(fit.coefficients[:2], reference["beta"], rtol=1e-3)


def test_contraception_modes_are_near_those_with_coefficients_fitted_at_the_mode(data_directory):
    # The published modes are of the fit that does not search beta on the Laplace likelihood: near, not equal.
    modes = reference_models.published(data_directory)["contraception"]["first9_blups_fast"]
    group = reference_models.one_factor_models(data_directory)["contraception"].group
    fit = fitted(data_directory, "contraception")
    in_order_of_rows = fit.groups[np.argsort(np.unique(group, return_index=True)[1])]
    ours = fit.modes[np.searchsorted(fit.groups, in_order_of_rows[: len(modes)]), 0]
    np.testing.assert_allclose(ours, modes, atol=0.02)


def cells(page: str) -> list[str]:
    """The cells of every table of the page, in order."""
    return [cell.strip() for line in page.splitlines() if line.startswith("|") for cell in line.split("|")]


def test_page_of_reference_estimates_is_what_its_script_writes(data_directory):
    committed = reference_estimates.PAGE.read_text()
    page = committed
    for name, table in reference_estimates.tables(data_directory).items():
        page = reference_estimates.insert(page, name, table)
    for ours, theirs in zip(cells(page), cells(committed), strict=True):
        if ours != theirs:  # the last digit may differ between machines
            unit = 1.0 if not ours.endswith("%") else 100.0
            given, expected = (float(text.rstrip("%")) / unit for text in (ours, theirs))
            assert given == pytest.approx(expected, rel=2e-4, abs=1.5e-3)


def test_independent_beliefs_about_crossed_effects_are_too_sure_by_a_known_amount(data_directory):
    lines = crossed_effects.lines(data_directory)
    penicillin = {line.quantity: line.ours / line.published for line in lines if line.model == "penicillin"}
    assert 0.97 < penicillin["std of plate"] < 1.0
    assert 0.97 < penicillin["std of sample"] < 1.0
    assert penicillin["std of noise"] == pytest.approx(1.0, abs=0.01)
    assert 0.6 < penicillin["variance of a belief, plate"] < 0.7
    pastes = {line.quantity: line.ours / line.published for line in lines if line.model == "pastes"}
    assert pastes["std of both effects together"] == pytest.approx(1.0, abs=0.001)
    assert pastes["std of batch"] < 0.05


def test_exact_spread_of_crossed_effects_is_the_published_one(data_directory):
    reference = reference_models.published(data_directory)["penicillin"]
    model = crossed_effects.models(data_directory)["penicillin"]
    std = tuple(np.asarray(reference["theta"]) * reference["sigma"])
    _, plate, sample = crossed_effects.exact_spread(model, std, reference["sigma"])
    assert plate[0] == pytest.approx(reference["condVar_first_plate"], rel=1e-5)
    assert sample[-1] == pytest.approx(reference["condVar_last_sample"], rel=1e-5)
    objective = crossed_effects.minus_twice_log_likelihood(model, std, reference["sigma"])
    assert objective == pytest.approx(reference["objective"], abs=1e-5)
