"""Metrics: names that Prometheus takes, and what is measured of a worker is what was declared."""

import re

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from nearline.observe.exporter import Exporter
from nearline.observe.metrics import METRICS, OF_WORKERS
from nearline.stream.effect_learner import LearnCounts
from nearline.stream.joined import JoinCounts
from nearline.stream.measured import freshness_seconds, measured
from nearline.stream.worker import Standing

COUNTS = JoinCounts(received=21, learned=10, duplicate=1, late=2, dead=3, unanswered=0, waiting=5)
LEARNED = LearnCounts(rows=12, learned=9, taken_back=1, set_aside=0, waiting=2, batches=4)
STANDING = Standing(3, LEARNED, 7, COUNTS, 11, turns=2, turn_seconds=0.5, learned_ms=9_000)


def page(standing):
    registry = CollectorRegistry()
    registry.register(Exporter(lambda: measured(standing, 10_000)))
    return generate_latest(registry).decode()


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_is_declared_in_full(metric):
    assert re.fullmatch(r"nearline_[a-z_]+", metric.name)
    assert metric.label not in {"entity", "user", "item"}
    assert metric.unit != "seconds" or "seconds" in metric.name
    assert metric.meaning.endswith(".")
    assert metric.when_it_moves.endswith(".")


def test_names_differ():
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_what_is_measured_is_what_was_declared():
    samples = measured(STANDING, 10_000)
    assert {sample.metric for sample in samples} == set(OF_WORKERS)
    assert all(sample.label_value in (sample.metric.values or (None,)) for sample in samples)


def test_prometheus_gets_the_numbers():
    lines = set(page(STANDING).splitlines())
    assert {
        'nearline_events_total{fate="late"} 2.0',
        "nearline_events_waiting 5.0",
        "nearline_lag_events 11.0",
        "nearline_lag_rows 7.0",
        'nearline_rows_total{fate="taken_back"} 1.0',
        "nearline_mini_batches_total 4.0",
        "nearline_freshness_seconds 1.0",
        "nearline_turn_seconds_count 2.0",
        "nearline_turn_seconds_sum 0.5",
        "nearline_generation 3.0",
    } <= lines
    assert "# TYPE nearline_turn_seconds summary" in lines


def test_who_does_not_join_says_nothing_of_events():
    said = page(Standing(1, LEARNED, 0))
    assert "nearline_events" not in said
    assert "nearline_lag_events" not in said
    assert "freshness" not in said
    assert freshness_seconds(Standing(1, LEARNED, 0), 10) is None
