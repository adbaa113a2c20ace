"""The greedy ranking in one call: what the policy shows of what is believed of every candidate."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from served import clock, learn, live_store, model

from nearline.bandit import Greedy
from nearline.events import MemoryLog
from nearline.posterior.forgetting import Forgetting
from nearline.posterior.outcomes import Outcome
from nearline.serve import Candidate, KeptFeatures, RankRequest, Scorer, ScorerSettings
from nearline.serve.chosen import highest, ranked

number = st.floats(-3, 3).map(lambda x: round(x, 2))
of_item = st.dictionaries(st.sampled_from(["price", "genre=news", "unknown"]), number, max_size=3)
of_context = st.dictionaries(st.sampled_from(["hour", "device=phone", "unknown"]), number, max_size=3)


@st.composite
def requests(draw):
    """Requests with candidates by id, with features of their own, or both; some twice."""
    names = draw(st.lists(st.sampled_from([f"m{i}" for i in range(8)]), min_size=1, max_size=12))
    by_id = draw(st.sampled_from([True, False, None]))
    candidates = [
        name
        if by_id or (by_id is None and draw(st.booleans()))
        else Candidate(name, {"of_item": draw(of_item)}, offset=draw(number))
        for name in names
    ]
    users = draw(st.fixed_dictionaries({}, optional={"user": st.sampled_from(["u1", "u9"])}))
    return RankRequest(candidates, users, {"context": draw(of_context)}, offset=draw(number))


@pytest.mark.parametrize("outcome", list(Outcome))
def test_one_call_ranks_and_explains_as_policy_and_beliefs_do(outcome):
    store = live_store(model(outcome))
    for seed, (name, entity) in enumerate(
        [("per-user", "u1"), ("per-item", "m1"), ("per-item", "m2"), ("per-user-time", "u1")]
    ):
        learn(store, name, entity, seed)
    with Scorer(store, MemoryLog(), clock=clock()) as scorer:
        kept = {
            f"m{i}": KeptFeatures({"of_item": {"price": i / 4 - 1, "genre=news": i % 2}}) for i in range(8)
        }
        scorer.keep(kept)

        @settings(max_examples=60)
        @given(request=requests(), k=st.integers(0, 12))
        def holds(request, k):
            serving = scorer.serving
            about = scorer._asked(request, None, serving, {})
            ranking, parts, partial = ranked(serving, about, Greedy(), "r", k, 0, lambda: False)
            found = highest(serving, about, k)
            assert found is not None
            assert (found[2], partial) == ((), ())
            assert found[0].candidates.tolist() == ranking.candidates.tolist()
            for one in ("scores", "propensities", "standard_errors"):
                np.testing.assert_array_equal(getattr(found[0], one), getattr(ranking, one))
            for one in ("offset", "fixed", "linear", "std", "expected"):
                np.testing.assert_array_equal(getattr(found[1], one), getattr(parts, one))
            assert found[1].versions == parts.versions
            for (name, mean, variance), (of, expected, spread) in zip(
                found[1].effects, parts.effects, strict=True
            ):
                assert name == of
                np.testing.assert_array_equal(mean, expected)
                np.testing.assert_array_equal(variance, spread)

        holds()


def test_of_equal_scores_the_earlier_place_goes_first_and_the_shown_were_asked_for():
    store = live_store()
    request = RankRequest([Candidate(name) for name in ("a", "b", "a", "c")])
    with Scorer(store, MemoryLog(), clock=clock()) as scorer:
        scorer.rank(request)
        effect = scorer.serving.beliefs.effects[1]
        asked = effect.tables[4]
        asked[:] = False
        hits, misses = effect.hits, effect.misses
        assert [one.id for one in scorer.rank(request).ranked] == ["a", "b", "a", "c"]
        assert int(asked.sum()) == 3
        assert (effect.hits - hits, effect.misses - misses) == (4, 0)


@pytest.mark.parametrize("why", ["not read", "wide", "forgets"])
def test_beliefs_that_are_not_at_hand_are_left_to_the_general_way(why):
    store = live_store(model(wide=200 if why == "wide" else 0))
    how = ScorerSettings(
        forgetting={"per-user": Forgetting(time_constant_ms=60_000)} if why == "forgets" else {}
    )
    request = RankRequest([Candidate("a"), Candidate("b")], {"user": "u1"})
    with Scorer(store, MemoryLog(), how, clock=clock()) as scorer:
        if why != "not read":
            scorer.rank(request)
        about = scorer._asked(request, None, scorer.serving, {})
        assert highest(scorer.serving, about, 2) is None
        assert len(scorer.rank(request).ranked) == 2
