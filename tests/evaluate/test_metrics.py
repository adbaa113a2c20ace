"""Metrics against scikit-learn, against slow obvious versions, and as properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from nearline import evaluate as ev
from nearline.errors import DataError

BERNOULLI = [
    ev.log_loss,
    ev.auc,
    ev.aupr,
    ev.expected_calibration_error,
    ev.observed_over_expected,
    ev.rmse,
    ev.mae,
]
ALL = [*BERNOULLI, ev.poisson_deviance]


@st.composite
def weighted_rows(draw, *, soft=False):
    """Labels of both classes, probabilities with many ties, and weights."""
    size = draw(st.integers(2, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    y = rng.random(size) if soft else (rng.random(size) < 0.4).astype(np.float64)
    y[:2] = 0.0, 1.0
    return y, rng.integers(1, 20, size) / 20.0, rng.integers(1, 5, size).astype(np.float64)


@settings(max_examples=60, deadline=None)
@given(weighted_rows())
def test_metrics_are_those_of_scikit_learn(rows):
    y, p, w = rows
    assert ev.log_loss(y, p, w) == pytest.approx(oracle.log_loss(y, p, sample_weight=w))
    assert ev.auc(y, p, w) == pytest.approx(oracle.roc_auc_score(y, p, sample_weight=w))
    assert ev.aupr(y, p, w) == pytest.approx(oracle.average_precision_score(y, p, sample_weight=w))
    assert ev.rmse(y, p, w) == pytest.approx(oracle.root_mean_squared_error(y, p, sample_weight=w))
    assert ev.mae(y, p, w) == pytest.approx(oracle.mean_absolute_error(y, p, sample_weight=w))
    deviance = oracle.mean_poisson_deviance(3.0 * y, p, sample_weight=w)
    assert ev.poisson_deviance(3.0 * y, p, w) == pytest.approx(deviance)


@pytest.mark.parametrize("metric", ALL)
@settings(max_examples=30, deadline=None)
@given(rows=weighted_rows(soft=True))
def test_a_row_of_weight_2_is_the_row_twice(metric, rows):
    y, p, w = rows
    repeated = np.repeat(np.arange(y.size), w.astype(int))
    assert metric(y, p, w) == pytest.approx(metric(y[repeated], p[repeated]), abs=1e-12)


@pytest.mark.parametrize("metric", ALL)
@settings(max_examples=30, deadline=None)
@given(rows=weighted_rows(soft=True), seed=st.integers(0, 1000))
def test_the_order_of_rows_does_not_matter(metric, rows, seed):
    y, p, w = rows
    shuffled = np.random.default_rng(seed).permutation(y.size)
    assert metric(y, p, w) == pytest.approx(metric(y[shuffled], p[shuffled], w[shuffled]), abs=1e-12)


@pytest.mark.parametrize("metric", ALL)
@settings(max_examples=30, deadline=None)
@given(rows=weighted_rows())
def test_a_row_of_weight_0_is_no_row(metric, rows):
    y, p, w = rows
    extended = metric(np.r_[y, 1.0], np.r_[p, 0.31], np.r_[w, 0.0])
    assert extended == pytest.approx(metric(y, p, w), abs=1e-12)


@pytest.mark.parametrize("metric", [ev.auc, ev.aupr])
@settings(max_examples=30, deadline=None)
@given(rows=weighted_rows())
def test_ranking_metrics_do_not_see_an_increasing_map_of_the_score(metric, rows):
    y, p, w = rows
    assert metric(y, np.log(p) * 7.0 - 3.0, w) == pytest.approx(metric(y, p, w))


@settings(max_examples=30, deadline=None)
@given(weighted_rows(soft=True))
def test_a_soft_label_is_part_of_a_positive_and_part_of_a_negative(rows):
    y, p, w = rows
    labels = np.r_[np.ones_like(y), np.zeros_like(y)]
    split = np.r_[w * y, w * (1.0 - y)]
    for metric in (ev.log_loss, ev.auc, ev.aupr, ev.expected_calibration_error):
        assert metric(y, p, w) == pytest.approx(metric(labels, np.r_[p, p], split), abs=1e-12)


def test_weighted_rmse_divides_by_the_sum_of_the_weights():
    y, prediction = np.array([0.0, 10.0]), np.array([1.0, 8.0])
    assert ev.rmse(y, prediction, np.array([4.0, 4.0])) == ev.rmse(y, prediction)
    assert ev.rmse(y, prediction, np.array([1.0, 3.0])) == pytest.approx(np.sqrt(13.0 / 4.0))


def test_calibration_error_of_equal_mass_bins_is_the_mean_gap_of_sorted_chunks():
    rng = np.random.default_rng(3)
    p = rng.random(1000)
    y = (rng.random(1000) < p**2).astype(np.float64)
    chunks = np.argsort(p).reshape(10, 100)
    gaps = [abs(y[chunk].mean() - p[chunk].mean()) for chunk in chunks]
    assert ev.expected_calibration_error(y, p) == pytest.approx(np.mean(gaps))


def test_calibration_error_of_equal_width_bins_is_the_mean_gap_weighted_by_mass():
    rng = np.random.default_rng(4)
    p, w = rng.beta(1, 3, 1000), rng.random(1000)
    y = (rng.random(1000) < p**2).astype(np.float64)
    slow = 0.0
    for low in np.arange(10) / 10:
        inside = (p >= low) & (p < low + 0.1)
        if inside.any():
            gap = np.average(y[inside], weights=w[inside]) - np.average(p[inside], weights=w[inside])
            slow += abs(gap) * w[inside].sum() / w.sum()
    found = ev.expected_calibration_error(y, p, w, binning="equal width")
    assert found == pytest.approx(slow)


def test_a_constant_prediction_has_the_calibration_error_of_its_mean_and_an_auc_of_a_half():
    y, p = np.array([0.0, 1.0, 1.0, 1.0]), np.full(4, 0.5)
    assert ev.expected_calibration_error(y, p) == pytest.approx(0.25)
    assert ev.auc(y, p) == 0.5


def test_auc_is_nan_with_one_class_and_average_precision_without_positives():
    p = np.array([0.2, 0.9, 0.4])
    assert np.isnan(ev.auc(np.zeros(3), p))
    assert np.isnan(ev.auc(np.ones(3), p))
    assert np.isnan(ev.aupr(np.zeros(3), p))
    assert ev.aupr(np.ones(3), p) == 1.0


def test_impossible_outcomes_give_a_large_finite_log_loss_and_an_infinite_deviance():
    assert 30.0 < ev.log_loss(np.array([1.0]), np.array([0.0])) < 40.0
    assert ev.poisson_deviance(np.array([1.0, 0.0]), np.zeros(2)) == np.inf
    assert ev.poisson_deviance(np.zeros(2), np.zeros(2)) == 0.0


def test_observed_over_expected_is_nan_where_nothing_is_expected():
    assert np.isnan(ev.observed_over_expected(np.array([0.0]), np.array([0.0])))
    assert ev.observed_over_expected(np.array([3.0, 1.0]), np.array([1.0, 1.0])) == 2.0


def test_intervals_of_a_true_predictive_distribution_hold_their_level():
    rng = np.random.default_rng(5)
    std = rng.uniform(0.5, 2.0, 20_000)
    y = std * rng.normal(size=20_000)
    for level in (0.5, 0.8, 0.95):
        assert ev.interval_coverage(y, np.zeros_like(y), std, level=level) == pytest.approx(level, abs=0.012)


@pytest.mark.parametrize("metric", ALL)
def test_nothing_to_measure_is_an_error(metric):
    with pytest.raises(DataError, match="at least one row"):
        metric(np.empty(0), np.empty(0))
    with pytest.raises(DataError, match="weight"):
        metric(np.ones(2), np.full(2, 0.5), np.zeros(2))


@pytest.mark.parametrize(
    ("y", "p", "w", "message"),
    [
        ([1.0, 0.0], [0.5], [1.0, 1.0], "one shape"),
        ([1.0, np.nan], [0.5, 0.5], [1.0, 1.0], "y: expected finite numbers, got nan in row 1"),
        ([1.0, 0.0], [0.5, np.inf], [1.0, 1.0], "prediction: expected finite"),
        ([1.0, 0.0], [0.5, 0.5], [1.0, -1.0], "weight: expected none below zero"),
        ([1.0, 2.0], [0.5, 0.5], [1.0, 1.0], "2.0 in row 1 is no Bernoulli outcome"),
        ([1.0, 0.0], [0.5, 1.5], [1.0, 1.0], "not the linear predictor"),
    ],
)
def test_rows_that_cannot_be_measured_are_named(y, p, w, message):
    with pytest.raises(DataError, match=message):
        ev.log_loss(np.array(y), np.array(p), np.array(w))


def test_wrong_options_are_named():
    y, p = np.array([0.0, 1.0]), np.array([0.2, 0.4])
    with pytest.raises(DataError, match="bins: expected 1 or more"):
        ev.expected_calibration_error(y, p, bins=0)
    with pytest.raises(DataError, match="prediction std"):
        ev.interval_coverage(y, p, np.array([1.0, -1.0]))
    with pytest.raises(DataError, match="Poisson rate"):
        ev.poisson_deviance(y, -p)
