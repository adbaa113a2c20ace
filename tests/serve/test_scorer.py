"""What is ranked, scored and logged, held to the model itself."""

import threading

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from served import BAGS, NOW_MS, clock, learn, live_store, model

from nearline.errors import BusyError, LogError, ModelError, RequestError
from nearline.events import Impression, MemoryLog, decode_events, to_examples
from nearline.events.partition import partitions_of
from nearline.posterior.forgetting import Forgetting
from nearline.posterior.outcomes import Outcome
from nearline.serve import (
    Candidate,
    CandidateMatrix,
    FeedbackItem,
    KeptCandidates,
    KeptFeatures,
    PolicyChoice,
    Ranking,
    RankRequest,
    Scorer,
    ScoreRequest,
    ScorerSettings,
    Scores,
)
from nearline.store.embedded import EmbeddedStore
from nearline.store.generations import Status
from nearline.store.seeding import with_records
from nearline.testing import ManualClock

number = st.floats(-3, 3).map(lambda x: round(x, 3))


def features(bag, *, sure=True):
    keys = [*BAGS[bag], f"unknown-{bag}", "price=", "w1"]
    return st.dictionaries(st.sampled_from(keys), number, min_size=int(sure), max_size=4) | st.lists(
        number, max_size=2
    )


@st.composite
def requests(draw):
    """Requests whose candidates bring their features, some with shared ones in the same bag."""
    names = draw(st.lists(st.sampled_from([f"m{i}" for i in range(6)]), min_size=1, max_size=8))
    shared = draw(
        st.fixed_dictionaries({}, optional={"context": features("context"), "other": features("context")})
    )
    candidates = []
    for name in names:
        own = draw(
            st.fixed_dictionaries(
                {}, optional={"of_item": features("of_item"), "context": features("context")}
            )
        )
        if "context" in shared and "context" in own:
            if isinstance(shared["context"], list) or isinstance(own["context"], list):
                del own["context"]
            else:
                own["context"] = {k: v for k, v in own["context"].items() if k not in shared["context"]}
        entities = draw(st.fixed_dictionaries({}, optional={"user": st.sampled_from(["u1", "u2"])}))
        candidates.append(Candidate(name, own, entities, draw(number)))
    entities = draw(st.fixed_dictionaries({}, optional={"user": st.sampled_from(["u1", "u9"])}))
    return RankRequest(candidates, entities, shared, k=draw(st.integers(1, 9)), offset=draw(number))


def truth(store, impressions, now_ms=None):
    """What the model with all records says of these impressions, by `GameModel.score`."""
    game = store.model(store.live())
    parts = []
    for one in game.random:
        names = [n for p in range(store.partitions) for n in store.names(store.live(), one.name, p)]
        parts.append(with_records(one, names, store.get_many(store.live(), one.name, names)))
    game = msgspec_replace(game, tuple(parts))
    bags = {bag for part in game.random for bag in part.bags} | set(game.fixed.bags)
    examples, _ = to_examples(impressions, np.zeros(len(impressions)), bags=bags, kinds=["user", "item"])
    return game.score(examples)


def msgspec_replace(game, random):
    from dataclasses import replace

    return replace(game, random=random)


@pytest.mark.parametrize("wide", [0, 200])
@pytest.mark.parametrize("outcome", list(Outcome))
def test_what_is_shown_is_what_the_model_says_of_what_is_logged(outcome, wide):
    store = live_store(model(outcome, wide))
    for seed, (name, entity) in enumerate(
        [
            ("per-user", "u1"),
            ("per-item", "m1"),
            ("per-item", "m2"),
            ("per-user-time", "u2"),
            ("per-user", "u2"),
        ]
    ):
        learn(store, name, entity, seed)
    log = MemoryLog()
    with Scorer(store, log, clock=clock()) as scorer:

        @settings(max_examples=30)
        @given(request=requests())
        def holds(request):
            before = log.end()
            ranking = scorer.rank(request)
            shown = decode_events(log.read(before, 100).records)
            assert [one.id for one in shown] == [one.impression for one in ranking.ranked]
            assert len(shown) == min(request.k, len(request.candidates))
            expected = truth(store, shown)
            for i, (one, event) in enumerate(zip(ranking.ranked, shown, strict=True)):
                assert isinstance(event, Impression)
                assert event.entities.get("item") == one.id
                np.testing.assert_allclose(one.linear, expected.linear[i], atol=1e-9)
                np.testing.assert_allclose(one.std, expected.std[i], atol=1e-9)
                said = one.probability if outcome is Outcome.BERNOULLI else one.mean
                np.testing.assert_allclose(said, expected.mean[i], rtol=1e-9)
                assert set(one.contributions) == set(expected.contributions)
                for part, value in one.contributions.items():
                    np.testing.assert_allclose(value, expected.contributions[part][i], atol=1e-9)
                np.testing.assert_allclose(event.fixed, one.contributions["fixed"])
                for name, (mean, _) in event.contributions.items():
                    np.testing.assert_allclose(mean, one.contributions[name], atol=1e-9)
                np.testing.assert_allclose(
                    sum(variance for _, variance in event.contributions.values())
                    + (0.5 if outcome is Outcome.NORMAL else 0.0),
                    one.std**2,
                    atol=1e-9,
                )
            scores = [one.score for one in ranking.ranked]
            assert scores == sorted(scores, reverse=True)

        holds()


def test_kept_features_given_ones_and_matrices_are_scored_and_logged_alike():
    store, log = live_store(), MemoryLog()
    learn(store, "per-user", "u1")
    of = {f"m{i}": {"price": float(i), "genre=news": 1.0} for i in range(5)}
    ask = {"entities": {"user": "u1"}, "features": {"context": {"hour": 2.0}}, "k": 5, "id": "r"}
    with Scorer(store, log, clock=clock()) as scorer:
        scorer.keep({name: KeptFeatures({"of_item": one}) for name, one in of.items()})
        keys = ["price", "genre=news"]
        matrix = CandidateMatrix(
            list(of), {"of_item": np.array([list(one.values()) for one in of.values()])}, {"of_item": keys}
        )
        answers = [
            scorer.answer(RankRequest(list(of), **ask)),
            scorer.answer(
                RankRequest([Candidate(name, {"of_item": one}) for name, one in of.items()], **ask)
            ),
            scorer.answer(RankRequest([], **ask), matrix),
            scorer.answer(
                RankRequest(["m0", "m1", *(Candidate(n, {"of_item": of[n]}) for n in list(of)[2:])], **ask)
            ),
        ]
    first = answers[0]
    for other in answers[1:]:
        assert other.ranking == first.ranking
        assert decode_events(other.records) == decode_events(first.records)


@pytest.mark.parametrize("kind", ["memory", "embedded"])
def test_an_answer_is_as_fresh_as_the_last_commit(kind, tmp_path):
    if kind == "memory":
        store = live_store()
    else:
        store = EmbeddedStore(tmp_path / "s", partitions_of, partitions=3)
        store.switch(store.create(model(), created_ms=0).number, force=True)
    request = ScoreRequest([Candidate("m1", {"of_item": {"price": 1.0}})], {"user": "u1"})
    with Scorer(store, MemoryLog(), clock=clock()) as scorer:
        before = scorer.score(request).scored[0]
        for seed in range(5):
            version = learn(store, "per-user", "u1", seed)
            after = scorer.score(request).scored[0]
            assert after.versions == {"user": version, "item": 0}
            assert after.linear != before.linear
            before = after
        for i in range(300):  # beyond what a feed of changes reaches back
            learn(store, "per-user", f"other-{i}")
        learn(store, "per-item", "m1")
        assert scorer.score(request).scored[0].versions == {"user": 5, "item": 1}
    store.close()


def test_beliefs_are_read_once_until_they_change():
    store = live_store()
    request = ScoreRequest([Candidate(f"m{i}") for i in range(20)], {"user": "u1"})
    with Scorer(store, MemoryLog(), clock=clock()) as scorer:
        scorer.score(request)
        effects = scorer.serving.beliefs.effects
        assert [one.misses for one in effects] == [1, 20, 1]
        scorer.score(request)
        learn(store, "per-item", "m3")
        learn(store, "per-item", "elsewhere")
        scorer.score(request)
        assert [one.misses for one in effects] == [1, 21, 1]


def test_a_small_cache_serves_more_entities_than_it_holds():
    store = live_store()
    for i in range(0, 9_000, 3):
        learn(store, "per-item", f"m{i}", seed=i)
    with Scorer(store, MemoryLog(), ScorerSettings(entities=1), clock=clock()) as scorer:
        for begin in range(0, 9_000, 500):
            names = [f"m{i}" for i in range(begin, begin + 500)]
            scored = scorer.score(ScoreRequest([Candidate(name) for name in names])).scored
            assert [one.versions["item"] for one in scored] == [
                int(i % 3 == 0) for i in range(begin, begin + 500)
            ]


def test_what_is_forgotten_widens_as_time_passes():
    store, time = live_store(), clock()
    learn(store, "per-user", "u1")
    how = ScorerSettings(forgetting={"per-user": Forgetting(time_constant_ms=10_000)})
    request = ScoreRequest([Candidate("m1")], {"user": "u1"})
    with Scorer(store, MemoryLog(), how, clock=time) as scorer:
        stds = []
        for _ in range(4):
            stds.append(scorer.score(request).scored[0].std)
            time.advance(5_000)
        time.advance(10_000_000)
        nobody = scorer.score(ScoreRequest([Candidate("m1")], {"user": "nobody"})).scored[0]
        gone = scorer.score(request).scored[0]
    assert stds == sorted(stds)
    assert stds[0] < stds[-1]
    np.testing.assert_allclose(gone.std, nobody.std)
    np.testing.assert_allclose(gone.linear, nobody.linear)


def test_after_the_deadline_what_is_missing_has_the_prior_and_the_reply_says_so():
    store = live_store()
    for i in range(200):
        learn(store, "per-item", f"m{i}", seed=i)
    passed = iter([0.0, 0.0, 0.0, *[9.0] * 100])  # the end is set, the user is read, one chunk of items is
    request = RankRequest([Candidate(f"m{i}") for i in range(200)], {"user": "u1"}, deadline_ms=5.0, k=200)
    with Scorer(store, MemoryLog(), clock=clock(), seconds=lambda: next(passed)) as scorer:
        late = scorer.answer(request).ranking
        whole = scorer.answer(msgspec.structs.replace(request, deadline_ms=None)).ranking
    assert late.partial == ["per-item", "per-user-time"]
    assert whole.partial == []
    versions = {one.id: one.versions["item"] for one in late.ranked}
    assert sum(versions.values()) == 64
    std = {one.id: one.std for one in whole.ranked}
    missing = [one for one in late.ranked if versions[one.id] == 0]
    assert all(one.std > std[one.id] for one in missing)


def test_a_new_generation_serves_by_itself_and_a_rollback_too():
    store = live_store()
    learn(store, "per-user", "u1")
    request = RankRequest([Candidate("m1")], {"user": "u1"})
    with Scorer(store, MemoryLog(), clock=clock()) as scorer:
        assert scorer.answer(request).ranking.generation == 1
        second = store.create(model(), created_ms=1).number
        store.mark(second, Status.CANDIDATE)
        store.switch(second)
        assert scorer.answer(request).ranking.generation == 2
        store.rollback()
        assert scorer.answer(request).ranking.generation == 1


def test_a_scorer_that_follows_reads_the_busiest_before_it_switches():
    store = live_store()
    request = ScoreRequest([Candidate("m1")], {"user": "u1"})
    with Scorer(store, MemoryLog(), clock=clock()) as scorer:
        scorer.score(request)
        second = store.create(model(), created_ms=1).number
        store.switch(second, force=True)
        scorer.follow()
        assert scorer.generation == 2
        before = [one.misses for one in scorer.serving.beliefs.effects]
        scorer.score(request)
        assert [one.misses for one in scorer.serving.beliefs.effects] == before == [1, 1, 1]


def test_without_a_live_generation_there_is_nothing_to_serve():
    from nearline.store.memory import MemoryStore

    with pytest.raises(ModelError, match="no generation is live"):
        Scorer(MemoryStore(partitions_of), MemoryLog())


def test_a_request_asked_again_shows_duplicates():
    store, log = live_store(), MemoryLog()
    request = RankRequest(
        [Candidate(f"m{i}") for i in range(9)], {"user": "u1"}, id="r1", policy="thompson", k=3
    )
    with Scorer(store, log, clock=clock()) as scorer:
        first, second = scorer.rank(request), scorer.rank(request)
    assert first == second
    events = decode_events(log.read(0, 100).records)
    assert events[:3] == events[3:]


@pytest.mark.parametrize(
    ("policy", "name"),
    [
        ("greedy", "greedy"),
        (PolicyChoice("epsilon-greedy", epsilon=0.5), "epsilon-greedy"),
        (PolicyChoice("ucb", width=2.0), "ucb"),
        (PolicyChoice("thompson", draws=50), "thompson"),
    ],
)
def test_propensities_are_logged_as_replied(policy, name):
    store, log = live_store(), MemoryLog()
    with Scorer(store, log, clock=clock()) as scorer:
        ranking = scorer.rank(
            RankRequest([Candidate(f"m{i}") for i in range(9)], {"user": "u1"}, policy=policy, k=4)
        )
    events = decode_events(log.read(0, 100).records)
    assert {event.policy for event in events} == {ranking.policy} == {name}
    assert [event.propensity for event in events] == [one.propensity for one in ranking.ranked]
    assert all(0.0 < one.propensity <= 1.0 for one in ranking.ranked)


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("policy", ["greedy", PolicyChoice("thompson", draws=9)])
@settings(max_examples=15)
@given(
    names=st.lists(st.text(min_size=1, max_size=40), min_size=3, max_size=6, unique=True),
    seed=st.integers(0, 9),
)
def test_the_json_of_an_answer_says_what_the_answer_does(outcome, policy, names, seed):
    store = live_store(model(outcome))
    learn(store, "per-item", names[0], seed)
    candidates = [Candidate(name) for name in names]
    with Scorer(store, MemoryLog(), clock=clock()) as scorer:
        answer = scorer.answer(RankRequest(candidates, {"user": "u1"}, policy=policy, k=2))
        believed = scorer.believe(ScoreRequest(candidates, {"user": "u1"}))
        assert msgspec.json.decode(answer.json(), type=Ranking) == answer.ranking
        assert msgspec.json.decode(believed.json(), type=Scores) == believed.scores()


CANDIDATE = [Candidate("m1")]


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        (RankRequest([]), "$.candidates"),
        (RankRequest([Candidate("m")] * 1_001), "$.candidates"),
        (RankRequest(["nobody"]), "$.candidates[0]"),
        (RankRequest([Candidate("x" * 300)]), "$.candidates"),
        (RankRequest([Candidate("ä" * 200)]), "$.candidates"),
        (
            RankRequest([Candidate("m", {"f": {f"x{i}": 1.0 for i in range(1_001)}})]),
            "$.candidates[0].features",
        ),
        (
            RankRequest([Candidate("m", {"of_item": {"price": np.inf}})]),
            "$.candidates[0].features.of_item.price",
        ),
        (
            RankRequest([Candidate("m", {"b": {"x": 1.0}})], {}, {"b": {"x": 1.0}}),
            "$.candidates[0].features.b.x",
        ),
        (RankRequest([Candidate("m", {"b": [1.0]})], {}, {"b": {"x": 1.0}}), "$.candidates[0].features.b"),
        (RankRequest(CANDIDATE, policy="best"), "$.policy.name"),
        (RankRequest(CANDIDATE, policy=PolicyChoice("ucb", epsilon=0.1)), "$.policy.epsilon"),
        (RankRequest(CANDIDATE, id="x" * 201), "$.id"),
        (RankRequest(CANDIDATE, time_ms=NOW_MS + 60_001), "$.time_ms"),
        (RankRequest(CANDIDATE, resolves_ms=NOW_MS - 1), "$.resolves_ms"),
        (RankRequest(CANDIDATE, {"user": "x" * 257}), "$.entities.user"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_its_path_and_not_logged(request_, path):
    log = MemoryLog()
    with Scorer(live_store(), log, clock=clock()) as scorer, pytest.raises(RequestError) as refused:
        scorer.rank(request_)
    assert refused.value.path == path
    assert log.end() == 0


@pytest.mark.parametrize(
    ("item", "path"),
    [
        (FeedbackItem("i1", 2.0), "label"),
        (FeedbackItem("i1", np.nan), "label"),
        (FeedbackItem("i1", 1.0, weight=-1.0), "weight"),
        (FeedbackItem("", 1.0), "impression"),
        (FeedbackItem("i1", 1.0, id="x" * 300), "id"),
        (FeedbackItem("i1", 1.0, time_ms=NOW_MS + 70_000), "time_ms"),
    ],
)
def test_feedback_that_is_none_is_refused_with_its_path(item, path):
    log = MemoryLog()
    with Scorer(live_store(), log, clock=clock()) as scorer, pytest.raises(RequestError) as refused:
        scorer.feedback([FeedbackItem("i0", 1.0), item])
    assert refused.value.path == f"$.feedback[1].{path}"
    assert log.end() == 0


def test_kept_candidates_are_there_after_a_restart_and_for_another_process_after_a_reload(tmp_path):
    one = KeptCandidates(tmp_path / "c")
    one.put({f"m{i}": KeptFeatures({"f": {"x": float(i)}}, {"author": "a"}) for i in range(5)})
    one.put({"m1": KeptFeatures({"f": [7.0]})})
    assert one.delete("m4")
    assert not one.delete("m4")
    one.close()
    again = KeptCandidates(tmp_path / "c")
    assert len(again) == 4
    assert again.get("m1") == KeptFeatures({"f": [7.0]})
    assert again.get("m0") == KeptFeatures({"f": {"x": 0.0}}, {"author": "a"})
    assert again.get("m4") is None
    again.close()


def test_a_candidate_that_was_deleted_or_put_anew_is_served_so():
    with Scorer(live_store(), MemoryLog(), clock=clock()) as scorer:
        scorer.keep(
            {"a": KeptFeatures({"of_item": {"price": 1.0}}), "b": KeptFeatures({"of_item": {"price": 2.0}})}
        )
        first = scorer.score(ScoreRequest(["a", "b"])).scored
        scorer.forget("a")
        with pytest.raises(RequestError, match="no features are kept of 'a'"):
            scorer.score(ScoreRequest(["a", "b"]))
        scorer.keep(
            {"c": KeptFeatures({"of_item": {"price": 1.0}}), "b": KeptFeatures({"of_item": {"price": 1.0}})}
        )
        second = scorer.score(ScoreRequest(["c", "b"])).scored
    assert first[0].linear == second[0].linear == second[1].linear != first[1].linear


class SlowLog:
    """A log whose appends wait until they are let through."""

    def __init__(self):
        self.log, self.gate, self.appends, self.begun = MemoryLog(), threading.Event(), [], threading.Event()
        self.fails = False

    def append(self, records, partition=0):
        self.begun.set()
        assert self.gate.wait(10)
        if self.fails:
            raise LogError("the disk is full")
        self.appends.append(len(records))
        return self.log.append(records, partition)


def test_concurrent_requests_share_an_append_and_none_is_answered_before():
    log = SlowLog()
    with Scorer(live_store(), log, ScorerSettings(k=1), clock=clock()) as scorer:
        answered = []
        threads = [
            threading.Thread(target=lambda: answered.append(scorer.rank(RankRequest([Candidate("m1")]))))
            for _ in range(20)
        ]
        threads[0].start()
        assert log.begun.wait(10)
        for thread in threads[1:]:
            thread.start()
        while scorer.commit.waiting < 20:
            threading.Event().wait(0.001)
        assert answered == []
        log.gate.set()
        for thread in threads:
            thread.join()
    assert log.appends == [1, 19]
    assert len({one.ranked[0].impression for one in answered}) == 20


def test_when_too_much_waits_requests_are_refused_and_what_waits_is_not_lost():
    log = SlowLog()
    with Scorer(live_store(), log, ScorerSettings(k=1), waiting=3, clock=clock()) as scorer:
        done = []
        for i in range(3):
            scorer.commit.submit([b"%d" % i], done.append)
        with pytest.raises(BusyError):
            scorer.rank(RankRequest([Candidate("m1")]))
        with pytest.raises(BusyError):
            scorer.commit.submit([b"3"], done.append)
        log.gate.set()
    assert done == [None] * 3
    assert list(log.log.read(0, 9).records) == [b"0", b"1", b"2"]


def test_a_log_that_cannot_be_written_gives_no_answer():
    log = SlowLog()
    log.fails = True
    log.gate.set()
    with Scorer(live_store(), log, clock=clock()) as scorer, pytest.raises(LogError, match="disk is full"):
        scorer.rank(RankRequest([Candidate("m1")]))


def test_the_clock_by_which_impressions_are_dated_is_the_given_one():
    log = MemoryLog()
    with Scorer(live_store(), log, clock=ManualClock(5_000)) as scorer:
        scorer.rank(RankRequest([Candidate("m1")], resolves_ms=9_000))
        scorer.rank(RankRequest([Candidate("m1")], time_ms=4_000))
    first, second = decode_events(log.read(0, 9).records)
    assert (first.time_ms, first.resolves_ms, second.time_ms) == (5_000, 9_000, 4_000)
