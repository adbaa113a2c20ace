"""Bootstrap intervals: their weights, their coverage and their cost."""

import time

import numpy as np
import pytest

from nearline.errors import DataError
from nearline.evaluate.bootstrap import bootstrap, estimates, resampled_weights
from nearline.evaluate.measures import Measures
from nearline.posterior.outcomes import Outcome

ANY = [(-np.inf, np.inf)]


def weighted_mean_of(values):
    return lambda weight: (weight @ values[:, None]) / weight.sum(axis=1, keepdims=True)


def test_a_resample_draws_as_many_rows_as_there_are():
    weight = np.ones(500)
    draws = np.concatenate(list(resampled_weights(weight, np.random.default_rng(0), 300)))
    assert draws.shape == (300, 500)
    assert np.all(draws.sum(axis=1) == 500.0)
    assert draws.var() == pytest.approx(1.0, abs=0.02)


def test_rows_of_an_entity_are_drawn_together_and_keep_their_weights():
    rng = np.random.default_rng(1)
    codes, weight = rng.integers(-5, 5, 80), rng.uniform(0.5, 2.0, 80)
    for block in resampled_weights(weight, rng, 20, codes):
        for counts in block / weight:
            per_entity = [np.unique(np.round(counts[codes == code], 9)) for code in np.unique(codes)]
            assert all(found.size == 1 for found in per_entity)
            assert sum(found[0] for found in per_entity) == pytest.approx(np.unique(codes).size)


def test_the_spread_of_resampled_means_is_their_standard_error():
    rng = np.random.default_rng(2)
    y = rng.normal(size=2000)
    replicates = bootstrap(weighted_mean_of(y), np.ones(2000), rng, resamples=800)
    assert replicates.std() == pytest.approx(y.std() / np.sqrt(2000.0), rel=0.1)


def test_intervals_hold_the_truth_as_often_as_they_say_when_rows_of_an_entity_depend():
    rng = np.random.default_rng(3)
    held = {"entity": 0, "row": 0}
    for _ in range(150):
        codes = np.repeat(np.arange(60), 10)
        y = rng.normal(size=60)[codes] + rng.normal(size=600)
        for name, unit in (("entity", codes), ("row", None)):
            statistic = weighted_mean_of(y)
            replicates = bootstrap(statistic, np.ones(600), rng, resamples=200, entity_codes=unit)
            (found,) = estimates(np.array([y.mean()]), replicates, level=0.9, ranges=ANY)
            held[name] += found.low <= 0.0 <= found.high
    assert 0.82 <= held["entity"] / 150 <= 0.97
    assert held["row"] / 150 < 0.7


def test_the_interval_holds_its_value_where_resampling_is_biased():
    rng = np.random.default_rng(4)
    p = rng.random(2000)
    y = (rng.random(2000) < p).astype(np.float64)
    measures = Measures.prepare(Outcome.BERNOULLI, y, p)
    column = measures.names.index("ece")
    value = measures.of(np.ones((1, 2000)))[0, [column]]
    replicates = bootstrap(measures.of, np.ones(2000), rng)[:, [column]]
    (found,) = estimates(value, replicates, level=0.95, ranges=[(0.0, 1.0)])
    assert replicates.mean() > value[0]
    assert 0.0 <= found.low < found.value < found.high


def test_the_same_generator_gives_the_same_resamples():
    statistic = weighted_mean_of(np.arange(50.0))
    first, second = (bootstrap(statistic, np.ones(50), np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first, second)


def test_a_single_entity_has_no_interval():
    codes = np.zeros(50, dtype=np.int64)
    values = np.array([24.5])
    replicates = bootstrap(
        weighted_mean_of(np.arange(50.0)), np.ones(50), np.random.default_rng(6), entity_codes=codes
    )
    (found,) = estimates(values, replicates, level=0.95, ranges=ANY)
    assert found.value == 24.5
    assert np.isnan(found.low)
    assert np.isnan(found.high)


def test_resamples_without_both_classes_are_left_out_of_the_interval():
    y, p = np.array([1.0, 0.0, 0.0, 0.0, 0.0]), np.array([0.9, 0.1, 0.2, 0.3, 0.95])
    measures = Measures.prepare(Outcome.BERNOULLI, y, p)
    column = [measures.names.index("auc")]
    replicates = bootstrap(measures.of, np.ones(5), np.random.default_rng(7))[:, column]
    assert np.isnan(replicates).any()
    (found,) = estimates(measures.of(np.ones((1, 5)))[0, column], replicates, level=0.95, ranges=[(0.0, 1.0)])
    assert 0.0 <= found.low <= found.value <= found.high <= 1.0


def test_nothing_to_resample_is_an_error():
    with pytest.raises(DataError, match="at least one row"):
        bootstrap(weighted_mean_of(np.empty(0)), np.empty(0), np.random.default_rng(0))
    with pytest.raises(DataError, match="resamples: expected 1 or more"):
        bootstrap(weighted_mean_of(np.ones(3)), np.ones(3), np.random.default_rng(0), resamples=0)


@pytest.mark.parametrize("ties", [False, True])
def test_two_hundred_resamples_of_all_metrics_of_twenty_thousand_rows_cost_under_a_second(ties):
    rng = np.random.default_rng(8)
    p = rng.random(20_000)
    p = np.round(p, 3) if ties else p
    y = (rng.random(20_000) < p).astype(np.float64)
    codes = rng.integers(0, 943, 20_000)
    started = time.process_time()
    bootstrap(Measures.prepare(Outcome.BERNOULLI, y, p).of, np.ones(20_000), rng, entity_codes=codes)
    assert time.process_time() - started < 1.0
