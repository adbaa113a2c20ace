"""Level 3 on public streams reaches what was asked of it; the long ones where NEARLINE_SOAK is 1."""

import os
from pathlib import Path

import numpy as np
import pytest
from benchmarks.streams import AGAINST, BARS, load_stream, ratings, trained, training_settings

from nearline.evaluate.metrics import auc, log_loss
from nearline.evaluate.online import OnlineLevel, OnlineSettings
from nearline.evaluate.replay import replay
from nearline.posterior.forgetting import Forgetting

pytestmark = pytest.mark.data
soak = pytest.mark.skipif(os.environ.get("NEARLINE_SOAK") != "1", reason="minutes long: set NEARLINE_SOAK=1")

CHOSEN: dict[str, tuple[dict[str, float], dict[str, float]]] = {
    "talkingdata": ({}, {}),
    "hotel_bookings": ({"agent": 0.1, "country": 0.1}, {}),
    "tennis_wta": ({"player_1": 0.1}, {"player_1": 2.0}),
    "movietweetings": ({}, {}),
    "movielens100k": ({"user": 0.1}, {}),
    "assistments": ({"skill": 0.1}, {}),
}
"""Time constants as parts of the time the stream takes, and spreads, by the first half of each stream."""


@pytest.mark.parametrize(
    "name",
    [
        "hotel_bookings",
        pytest.param("talkingdata", marks=soak),
        pytest.param("tennis_wta", marks=soak),
        pytest.param("movietweetings", marks=soak),
        pytest.param("movielens100k", marks=soak),
        pytest.param("assistments", marks=soak),
    ],
)
def test_the_second_half_is_predicted_as_well_as_was_asked(name: str, data_directory: Path) -> None:
    stream, mapping = load_stream(name, data_directory)
    half = len(stream) // 2
    model = trained(stream, training_settings(mapping), half)
    span = float(stream.time_ms[-1] - stream.time_ms[0])
    constants, spread = CHOSEN[name]
    rules = {effect: Forgetting(time_constant_ms=part * span) for effect, part in constants.items()}
    settings = OnlineSettings(rules, spread, AGAINST.get(name, {}))
    predicted = replay(stream, [OnlineLevel(stream, model, settings)])["level 3"][half:]
    y = stream.examples.response[half:]
    least, most = BARS[name]
    assert np.isfinite(predicted).all()
    assert auc(y, predicted) >= least
    assert most is None or log_loss(y, predicted) <= most


@soak
def test_ratings_are_predicted_as_well_as_was_asked(data_directory: Path) -> None:
    found = ratings(data_directory)
    assert found["mae"] <= 0.7486
    assert found["rmse"] <= 0.9445
