"""Level 3 on public streams reaches what was asked of it; the long ones where NEARLINE_SOAK is 1.

Level 3 forgets as benchmarks/streams.json says that the first half of each stream has chosen.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from benchmarks.ratings import ratings
from benchmarks.streams import HERE, chosen_for, load_stream, settings_of, trained, training_settings
from benchmarks.streams_page import BARS, RATINGS_BAR

from nearline.evaluate.metrics import auc, log_loss
from nearline.evaluate.online import OnlineLevel
from nearline.evaluate.replay import replay

pytestmark = pytest.mark.data
soak = pytest.mark.skipif(os.environ.get("NEARLINE_SOAK") != "1", reason="minutes long: set NEARLINE_SOAK=1")
RECORDED = json.loads((HERE / "streams.json").read_text())
MEASURED = [name for name in BARS if "time_constants" in RECORDED.get(name, {})]


@pytest.mark.parametrize(
    "name", [name if name == "hotel_bookings" else pytest.param(name, marks=soak) for name in MEASURED]
)
def test_the_second_half_is_predicted_as_well_as_was_asked(name: str, data_directory: Path) -> None:
    stream, mapping = load_stream(name, data_directory)
    half = len(stream) // 2
    model = trained(stream, training_settings(mapping), half)
    settings = settings_of(name, stream, RECORDED[name])
    predicted = replay(stream, [OnlineLevel(stream, model, settings)])["level 3"][half:]
    y = stream.examples.response[half:]
    least, most = BARS[name]
    assert np.isfinite(predicted).all()
    assert auc(y, predicted) >= least
    assert most is None or log_loss(y, predicted) <= most


@soak
def test_the_first_half_chooses_what_is_recorded(data_directory: Path) -> None:
    stream, mapping = load_stream("hotel_bookings", data_directory)
    found = chosen_for(
        "hotel_bookings", stream, trained(stream, training_settings(mapping), len(stream) // 2)
    )
    for key in ("time_constants", "spreads"):
        assert found[key] == RECORDED["hotel_bookings"][key]


@soak
def test_ratings_are_predicted_as_well_as_was_asked(data_directory: Path) -> None:
    found = ratings(data_directory)
    for metric, bar in RATINGS_BAR.items():
        assert found[metric] <= bar
