"""Rows as the join makes them, read as examples."""

import numpy as np
import pytest
from deployed import model_of
from hypothesis import given
from hypothesis import strategies as st

from nearline.events.impression import Feedback, Impression
from nearline.events.wire import encode_events
from nearline.posterior.outcomes import Outcome
from nearline.stream.chunks import ChunkReader
from nearline.stream.join import Join
from nearline.stream.join_routes import Route
from nearline.stream.join_settings import JoinSettings
from nearline.stream.join_state import MemoryJoinState
from nearline.stream.joined import decode_rows

WEIGHTS = st.floats(0.0, 100.0)


@pytest.mark.filterwarnings("ignore::nearline.stream.join_settings.EarlyLabelsWarning")
@given(WEIGHTS, WEIGHTS)
@pytest.mark.parametrize("learn_at", ["close", "feedback"])
def test_an_example_weighs_its_impression_times_its_feedback(learn_at, shown, answered):
    events = [
        Impression("a", 0, {"user": "u"}, weight=shown),
        Feedback("a", 5, 1.0, weight=answered),
        Impression("b", 1_000, {"user": "u"}),
    ]
    join = Join(JoinSettings(window_ms=40, learn_at=learn_at), Route())
    joined = join.push(1, encode_events(events), MemoryJoinState())
    rows = decode_rows(joined.rows[0])
    chunk, dead = ChunkReader(model_of(Outcome.BERNOULLI), 1).read(np.arange(1), rows)
    assert not dead
    assert chunk.examples.weight[0] == shown * answered
