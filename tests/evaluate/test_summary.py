"""The table of metrics: what is in it, for whom, and as JSON."""

import json

import numpy as np
import pytest

from nearline import evaluate as ev
from nearline.errors import DataError
from nearline.evaluate.catalogue import METRICS, label, meaning
from nearline.evaluate.measures import Measures
from nearline.posterior.outcomes import Outcome

ROWS = 3000


def world(seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 80, ROWS)
    effects = rng.normal(size=80)
    probability = 1.0 / (1.0 + np.exp(-effects[codes]))
    y = (rng.random(ROWS) < probability).astype(np.float64)
    training_rows = np.array([0, 3, 5, 6, 50, 51, 400, 0])[codes % 8]
    return y, probability, rng.uniform(0.5, 2.0, ROWS), {"user": ev.EntitySizes(codes, training_rows)}


def evaluated(**options):
    y, probability, weight, entities = world()
    return ev.evaluate(
        y, probability, weight, Outcome.BERNOULLI, entities, np.random.default_rng(1), resamples=50, **options
    )


def test_the_values_are_those_of_the_metrics():
    y, p, w, entities = world()
    overall = evaluated().overall
    assert overall.find("log_loss").estimate.value == pytest.approx(ev.log_loss(y, p, w))
    assert overall.find("auc").estimate.value == pytest.approx(ev.auc(y, p, w))
    assert overall.find("aupr").estimate.value == pytest.approx(ev.aupr(y, p, w))
    assert overall.find("ece").estimate.value == pytest.approx(ev.expected_calibration_error(y, p, w))
    ratio = ev.observed_over_expected(y, p, w)
    assert overall.find("observed_over_expected").estimate.value == pytest.approx(ratio)
    within = ev.per_entity_auc(y, p, w, entities["user"].codes)
    assert overall.find("per_entity_auc", "user").estimate.value == pytest.approx(within.value)
    assert overall.find("per_entity_auc", "user").entities == within.entities
    assert overall.find("rmse") is None


def test_every_interval_holds_its_value():
    found = evaluated()
    for group in (found.overall, *found.groups):
        for result in group.metrics:
            assert result.estimate.low <= result.estimate.value <= result.estimate.high, result


def test_rows_are_grouped_by_the_training_rows_of_their_entity():
    y, p, w, entities = world()
    found = evaluated()
    sizes = entities["user"].training_rows
    expected = [sizes == 0, (sizes >= 1) & (sizes <= 5), (sizes >= 6) & (sizes <= 50), sizes > 50]
    assert [group.group for group in found.groups] == ["new", "1-5", "6-50", "more than 50"]
    for group, own in zip(found.groups, expected, strict=True):
        assert group.rows == own.sum()
        assert group.entities == np.unique(entities["user"].codes[own]).size
        assert group.find("log_loss").estimate.value == pytest.approx(ev.log_loss(y[own], p[own], w[own]))


def test_an_empty_group_is_in_the_table_without_metrics():
    y, p, w, entities = world()
    seen = {"user": ev.EntitySizes(entities["user"].codes, np.full(ROWS, 9))}
    found = ev.evaluate(y, p, w, Outcome.BERNOULLI, seen, np.random.default_rng(1), resamples=5)
    assert [(group.rows, len(group.metrics) > 0) for group in found.groups] == [
        (0, False),
        (0, False),
        (ROWS, True),
        (0, False),
    ]


def test_gain_is_positive_where_the_model_is_better_whichever_way_the_metric_runs():
    worse = evaluated(baseline=np.full(ROWS, 0.5)).overall
    for name in ("log_loss", "auc", "aupr"):
        gain = worse.find(name).gain
        assert 0.0 < gain.low < gain.value < gain.high, name
    assert worse.find("observed_over_expected").gain is None
    assert worse.find("precision_at_k", "user").gain is not None


def test_gain_over_itself_is_exactly_nothing():
    _, probability, _, _ = world()
    for result in evaluated(baseline=probability).overall.metrics:
        if result.gain is not None:
            assert (result.gain.value, result.gain.low, result.gain.high) == (0.0, 0.0, 0.0)


def test_intervals_resample_the_first_entity_type_unless_told_otherwise():
    y, p, w, entities = world()
    both = {**entities, "film": ev.EntitySizes(np.arange(ROWS) % 7, np.full(ROWS, 9))}
    rng = np.random.default_rng
    assert ev.evaluate(y, p, w, Outcome.BERNOULLI, both, rng(0), resamples=5).resampled_by == "user"
    by_film = ev.evaluate(y, p, w, Outcome.BERNOULLI, both, rng(0), resamples=5, resampled_by="film")
    assert by_film.resampled_by == "film"
    assert ev.evaluate(y, p, w, Outcome.BERNOULLI, {}, rng(0), resamples=5).resampled_by is None


def test_normal_outcomes_have_errors_and_coverage_when_a_std_is_given():
    rng = np.random.default_rng(2)
    y, prediction, std = rng.normal(size=2000), np.zeros(2000), np.ones(2000)
    plain = ev.evaluate(y, prediction, None, Outcome.NORMAL, {}, rng, resamples=20)
    assert [result.metric for result in plain.overall.metrics] == ["rmse", "mae"]
    found = ev.evaluate(
        y, prediction, None, Outcome.NORMAL, {}, rng, resamples=20, prediction_std=std, baseline=y + 2.0
    )
    names = [result.metric for result in found.overall.metrics]
    assert names == ["rmse", "mae", "coverage_50", "coverage_80", "coverage_95"]
    assert found.overall.find("coverage_80").estimate.value == pytest.approx(0.8, abs=0.03)
    assert found.overall.find("coverage_80").gain is None
    assert found.overall.find("rmse").gain.value == pytest.approx(2.0 - ev.rmse(y, prediction))


def test_poisson_outcomes_have_deviance_error_and_calibration():
    rng = np.random.default_rng(3)
    rate = rng.gamma(2.0, 1.0, 2000)
    found = ev.evaluate(
        rng.poisson(rate).astype(float), rate, None, Outcome.POISSON, {}, rng, resamples=20
    ).overall
    assert [result.metric for result in found.metrics] == [
        "poisson_deviance",
        "rmse",
        "observed_over_expected",
    ]
    assert found.find("observed_over_expected").estimate.value == pytest.approx(1.0, abs=0.1)


def test_the_json_holds_every_number_and_null_where_one_is_undefined():
    y, p, _, _ = world()
    one_class = ev.evaluate(
        np.ones_like(y), p, None, Outcome.BERNOULLI, {}, np.random.default_rng(0), resamples=5
    )
    table = json.loads(json.dumps(one_class.to_dict(), allow_nan=False))
    by_name = {entry["metric"]: entry for entry in table["metrics"]}
    assert by_name["auc"] == {"metric": "auc", "value": None, "low": None, "high": None}
    assert by_name["log_loss"]["low"] < by_name["log_loss"]["value"] < by_name["log_loss"]["high"]
    full = json.loads(json.dumps(evaluated(baseline=p).to_dict(), allow_nan=False))
    assert full["interval"] == {"level": 0.95, "resamples": 50, "resampled_by": "user"}
    assert [group["training_rows"] for group in full["groups"]] == ["new", "1-5", "6-50", "more than 50"]
    assert {entry["metric"] for entry in full["metrics"]} >= {"auc", "per_entity_auc", "precision_at_k"}


def test_every_measured_metric_is_in_the_catalogue_with_a_label_and_a_meaning():
    y = np.array([0.0, 1.0])
    for outcome in Outcome:
        for name in Measures.prepare(outcome, y, np.full(2, 0.5), np.ones(2)).names:
            assert METRICS[name].label
    assert label("precision_at_k", entity_type="user", k=5) == "Precision at 5 within user"
    assert "5 rows" in meaning("precision_at_k", entity_type="user", k=5)
    assert label("of my own") == "of my own"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baseline": np.ones(3)}, "baseline: expected 3000 finite numbers"),
        ({"prediction_std": np.full(ROWS, np.nan)}, "prediction std"),
        ({"resampled_by": "advert"}, "no entity type 'advert'"),
    ],
)
def test_wrong_inputs_are_named(options, message):
    with pytest.raises(DataError, match=message):
        evaluated(**options)


def test_entity_sizes_are_checked_once():
    with pytest.raises(DataError, match="one shape"):
        ev.EntitySizes(np.array([1, 2]), np.array([1]))
    y, p, w, _ = world()
    sizes = {"user": ev.EntitySizes(np.array([1, 2]), np.array([1, 1]))}
    with pytest.raises(DataError, match=r"entities\.user: expected 3000 rows"):
        ev.evaluate(y, p, w, Outcome.BERNOULLI, sizes, np.random.default_rng(0))
