"""Feature functions: what is computed is kept by version and key, expected where there was no time."""

import numpy as np
import pytest
from served import clock, live_store, model

from nearline.errors import RequestError
from nearline.events import MemoryLog, decode_events
from nearline.serve import Candidate, FeatureFunction, RankRequest, Scorer, ScoreRequest


class Counted:
    """Computes the price of a candidate, and remembers of which."""

    def __init__(self):
        self.asked = []

    def __call__(self, name, entities, features):
        self.asked.append(name)
        return {"price": float(name[1:]) / 10, "genre=news": 1.0}


def names(count):
    return [Candidate(f"m{i}") for i in range(count)]


def test_computed_features_are_scored_and_logged_as_given_ones_and_computed_once():
    compute, log = Counted(), MemoryLog()
    given = [Candidate(f"m{i}", {"of_item": {"price": i / 10, "genre=news": 1.0}}) for i in range(5)]
    function = FeatureFunction("of_item", compute)
    with Scorer(live_store(), log, functions=[function], clock=clock()) as scorer:
        computed = scorer.rank(RankRequest(names(5), {"user": "u1"}, id="r"))
        again = scorer.rank(RankRequest(names(5), {"user": "u1"}, id="r"))
    with Scorer(live_store(), log, clock=clock()) as scorer:
        plain = scorer.rank(RankRequest(given, {"user": "u1"}, id="r"))
    assert computed == again == plain
    assert compute.asked == ["m0", "m1", "m2", "m3", "m4"]
    events = decode_events(log.read(0, 99).records)
    assert events[:5] == events[5:10] == events[10:]


def test_a_coarser_key_shares_what_was_computed():
    compute = Counted()
    function = FeatureFunction("of_item", compute, key=lambda name, entities, features: int(name[1:]) // 4)
    with Scorer(live_store(), MemoryLog(), functions=[function], clock=clock()) as scorer:
        scorer.score(ScoreRequest(names(8)))
    assert compute.asked == ["m0", "m4"]


def test_another_version_is_computed_before_it_serves():
    compute, store = Counted(), live_store()
    function = FeatureFunction("of_item", compute, version=lambda generation: generation)
    with Scorer(store, MemoryLog(), functions=[function], clock=clock()) as scorer:
        scorer.score(ScoreRequest(names(4)))
        store.switch(store.create(model(), created_ms=1).number, force=True)
        scorer.follow()
        assert compute.asked == ["m0", "m1", "m2", "m3"] * 2
        assert scorer.caches[0].misses == 4
        scorer.score(ScoreRequest(names(4)))
    assert compute.asked == ["m0", "m1", "m2", "m3"] * 2


def test_what_is_not_computed_in_time_is_expected_with_a_wider_std():
    compute, late = Counted(), [False]
    function = FeatureFunction("of_item", compute)
    seconds = iter(np.arange(0.0, 1e6))
    with Scorer(
        live_store(),
        MemoryLog(),
        functions=[function],
        clock=clock(),
        seconds=lambda: next(seconds) if late[0] else 0.0,
    ) as scorer:
        scorer.score(ScoreRequest(names(5), {"user": "u1"}))
        late[0] = True
        reply = scorer.score(
            ScoreRequest([Candidate("m2"), Candidate("m90")], {"user": "u1"}, deadline_ms=1.0)
        )
        late[0] = False
        known = scorer.score(ScoreRequest([Candidate("m2")], {"user": "u1"})).scored[0]
    assert "of_item" in reply.partial
    assert compute.asked[-1] != "m90"
    two, ninety = reply.scored
    np.testing.assert_allclose(two.linear, known.linear)  # m2 has the mean of what was computed
    np.testing.assert_allclose(ninety.linear, two.linear)
    assert ninety.std > two.std


def test_features_that_are_computed_are_not_given_too():
    function = FeatureFunction("of_item", Counted())
    given = Candidate("m1", {"of_item": {"price": 1.0}})
    with Scorer(live_store(), MemoryLog(), functions=[function], clock=clock()) as scorer:
        for request in (ScoreRequest([given]), ScoreRequest(names(1), {}, {"of_item": {"price": 1.0}})):
            with pytest.raises(RequestError, match="the server computes"):
                scorer.score(request)
