"""What the pages say, against the log it comes from."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from shop import CANDIDATES, EMOJI, HOSTILE, Shop, predictions

from nearline.batch.gate import Verdict
from nearline.dashboard import tables
from nearline.dashboard.entities import LATELY, drifters, newcomers
from nearline.dashboard.entity import entity
from nearline.dashboard.event_tail import EventTail
from nearline.dashboard.generations import listed
from nearline.dashboard.letters import newest_letters
from nearline.dashboard.overview import overview
from nearline.dashboard.quality import Judged, Level, judge, over_time
from nearline.dashboard.row_tail import RowTail, ServedRows
from nearline.dashboard.standing import standing
from nearline.dashboard.traffic import delays_over_time, feedback_delays, recent_rate, traffic
from nearline.dashboard.watched import Watched
from nearline.errors import ModelError
from nearline.events.dead_letters import DeadLetter, encode_dead_letter
from nearline.events.impression import Feedback, Impression
from nearline.events.wire import decode_event, decode_events, encode_event
from nearline.model.belief import describe
from nearline.posterior.outcomes import Outcome
from nearline.store.generations import Status
from nearline.store.seeding import with_records
from nearline.stream.drift import Figures, Predicted
from nearline.stream.join_settings import JoinSettings
from nearline.stream.learner import DEAD_KEY, PROGRESS_KEY, Progress
from nearline.stream.worker import Worker, WorkerSettings


def logged(shop):
    """All impressions of the log by id, in order, and the feedback to each."""
    events = decode_events(shop.log.read(0, shop.log.end()).records)
    shown = {one.id: one for one in events if isinstance(one, Impression)}
    return shown, {one.impression: one for one in events if isinstance(one, Feedback)}


def log_loss(y, p):
    return -np.mean(y * np.log(p) + (1 - y) * np.log1p(-p))


def test_every_example_is_there_once_with_its_label(shop, look):
    shown, feedback = logged(shop)
    closed = look.standing.joined.high_ms - 5_000  # the window of the shop
    assert sorted(look.rows.ids) == sorted(name for name, one in shown.items() if one.time_ms <= closed)
    labels = dict(zip(look.rows.ids, look.rows.predicted.y, strict=True))
    assert labels == {name: float(name in feedback) for name in labels}
    assert np.all(np.diff(look.rows.known_ms) >= 0)


def test_levels_are_what_the_parts_said_when_they_served(shop, look):
    shown, _ = logged(shop)
    rows = [shown[look.rows.ids[i]] for i in look.judged.index]
    without = [tuple(one.contributions) for one in rows]
    expected = {
        "shared model alone": [predictions(one, *names) for one, names in zip(rows, without, strict=True)],
        "without per-user": [predictions(one, "per-user") for one in rows],
        "without per-item": [predictions(one, "per-item") for one in rows],
        "all parts, as served": [predictions(one) for one in rows],
    }
    assert [level.name for level in look.judged.levels] == list(expected)
    for level in look.judged.levels:
        np.testing.assert_allclose(level.response, expected[level.name], rtol=1e-12)
        loss = log_loss(look.judged.y, np.array(expected[level.name]))
        assert look.judged.loss(level) == pytest.approx(loss)
        observed = look.judged.y.sum() / sum(expected[level.name])
        assert look.judged.calibration(level) == pytest.approx(observed)


def test_the_points_of_a_line_add_up_to_the_whole(look):
    groups = over_time(look.judged)
    assert groups.rows.sum() == len(look.judged.index)
    assert len(groups.rows) > 1
    for level in look.judged.levels:
        assert groups.rows @ groups.loss[level.name] / groups.rows.sum() == pytest.approx(
            look.judged.loss(level)
        )


def test_rows_that_no_generation_served_are_not_judged(look):
    nobody = replace(look.rows, generation=np.zeros(len(look.rows), np.int64))
    judged = judge(nobody, Outcome.BERNOULLI, 1.0)
    assert len(judged.index) == len(over_time(judged).rows) == 0


@pytest.mark.parametrize("most", [30, 64])
def test_the_tail_is_bounded_and_keeps_the_last_rows(shop, look, most):
    number, store = look.generation, shop.store
    tail = RowTail(shop.rows, look.model, number, store.partitions, most)
    last = tail.refresh()
    assert len(last) <= most
    assert tail.refresh() is last
    assert look.rows.ids[-1] in last.ids
    events = EventTail(shop.log, most).refresh()
    assert max(len(events.impressions), len(events.feedback)) <= most
    assert events.impressions[-1].id == look.events.impressions[-1].id


def test_what_was_read_bit_by_bit_is_what_is_read_at_once(tmp_path):
    shop = Shop(tmp_path)
    deployment = shop.deployment()
    bit_by_bit = EventTail(shop.log, 40)
    tail = RowTail(shop.rows, shop.store.model(1), 1, 2, 10_000)
    deployment.rows.close()  # a worker opens it too, and a process opens it once
    for _ in range(3):
        shop.open_for(6)
        bit_by_bit.refresh()
        tail._log = shop.deployment().rows
        tail.refresh()
        shop.rows.close()
    rows = shop.deployment().rows
    whole = RowTail(rows, shop.store.model(1), 1, 2, 10_000).refresh()
    assert tail.rows.ids == whole.ids
    np.testing.assert_array_equal(tail.rows.predicted.y, whole.predicted.y)
    names = [one.id for one in EventTail(shop.log, 40).refresh().impressions]
    assert [one.id for one in bit_by_bit.events.impressions][-len(names) :] == names
    shop.close()


def test_a_corrected_example_counts_once_with_its_last_label(new_shop):
    new_shop.rows.close()
    settings = WorkerSettings(JoinSettings(window_ms=1_000, correct_within_ms=60_000))
    worker = Worker(new_shop.folder, new_shop.log, new_shop.store, settings, clock=new_shop.clock)
    at = new_shop.clock.now_ms()
    one = new_shop.request(EMOJI)[0]
    later = Impression("later", at + 5_000, {})
    events = [one, later, Feedback(one.id, at + 9_000, 1.0), replace_time(later, at + 20_000)]
    new_shop.log.append([encode_event(event) for event in events])
    while worker.turn():
        pass
    assert worker.standing().joined.corrected == 1
    worker.close()
    look = Watched(new_shop.deployment(), clock=new_shop.clock).look()
    assert look.rows.ids == [one.id]
    assert look.rows.predicted.y.tolist() == [1.0]


def replace_time(one, time_ms):
    return Impression(f"{one.id}-again", time_ms, {})


def test_the_fates_add_up(look):
    (fates,) = [one for one in overview(look).tables if one.id == "fates"]
    *parts, total = [int(row[1].replace(",", "")) for row in fates.rows]
    assert sum(parts) == total == look.standing.joined.counts.received > 0
    assert look.standing.joined.counts.dead == 3


def test_lag_is_what_is_not_joined_and_not_learned(shop, look):
    ahead = [encode_event(Impression(f"ahead-{i}", shop.clock.now_ms(), {})) for i in range(7)]
    before = standing(shop.deployment_open, look.generation)
    shop.log.append(ahead)
    after = standing(shop.deployment_open, look.generation)
    assert (before.events_left, before.rows_left) == (0, 0)
    assert (after.events_left, after.rows_left) == (7, 0)
    assert after.join_process is not None  # the worker was this process
    assert sum(one.counts.learned for one in after.partitions) == 2 * len(look.rows)
    assert after.learned_ms == look.rows.known_ms.max()


def test_traffic_counts_every_event_of_whole_stretches(look):
    found = traffic(look.events)
    times = look.events.shown_ms // 1000
    inside = (times >= found.seconds[0]) & (times < found.seconds[-1] + found.width_s)
    assert found.impressions.sum() * found.width_s == pytest.approx(np.count_nonzero(inside))
    assert np.all(np.diff(found.seconds) == found.width_s)


def test_the_rate_is_that_of_the_last_minute(look):
    times = np.concatenate([look.events.shown_ms, look.events.given_ms])
    now_ms = look.now_ms
    expected = np.count_nonzero((times > now_ms - 60_000) & (times <= now_ms)) / 60
    assert recent_rate(look.events, now_ms) == pytest.approx(expected)
    assert recent_rate(look.events, now_ms + 10**9) == 0.0


def test_delays_are_from_feedback_to_the_clock_of_the_worker(shop, look):
    _, feedback = logged(shop)
    joined = dict(zip(look.rows.ids, look.rows.joined_ms.tolist(), strict=True))
    expected = [(joined[name] - one.time_ms) / 1000 for name, one in feedback.items() if name in joined]
    found = feedback_delays(look.events, look.rows)
    assert sorted(found.seconds) == pytest.approx(sorted(expected))
    assert len(found.seconds) > 10


def test_delays_over_time_are_quantiles_of_the_rows_written_in_each_stretch(look):
    delays = feedback_delays(look.events, look.rows)
    found = delays_over_time(delays)
    seen = 0
    for second, median, most in zip(found.seconds, found.median, found.most, strict=True):
        some = delays.seconds[
            (delays.joined_ms // 1000 - second >= 0) & (delays.joined_ms // 1000 - second < found.width_s)
        ]
        assert (median, most) == pytest.approx(np.quantile(some, (0.5, 0.95)))
        seen += len(some)
    assert seen == len(delays.seconds) > 0


def test_an_entity_is_what_the_store_believes_of_it(shop, look):
    found = entity(look, shop.store, HOSTILE)
    (known,) = found.known
    effect = look.model.effect("per-user")
    record = with_records(effect, [HOSTILE], shop.store.get_many(1, "per-user", [HOSTILE]))
    assert known.document == describe(record, HOSTILE, 20)
    assert known.versions[-1]["version"] == shop.store.get_many(1, "per-user", [HOSTILE]).version[0]
    first = known.document["coefficients"][0]
    assert known.moved[0] == (first["feature"], known.moved[0][1])
    assert known.moved[0][1][-1] == first["mean"]
    assert len({len(means) for _, means in known.moved}) == 1
    assert len(found.examples) > 5
    for example in found.examples:
        assert example.impression.entities["user"] == HOSTILE
        assert example.expected == pytest.approx(predictions(example.impression))
        assert sum(example.parts.values()) == pytest.approx(
            example.impression.fixed + sum(mean for mean, _ in example.impression.contributions.values())
        )


def test_the_last_ranking_is_the_whole_request_in_the_order_of_the_log(shop, look):
    ranking = entity(look, shop.store, EMOJI).ranking
    shown, _ = logged(shop)
    last = [one for one in shown.values() if one.entities.get("user") == EMOJI][-1]
    request = last.id.partition("/")[0]
    assert [one.impression.id for one in ranking] == [
        name for name in shown if name.startswith(request + "/")
    ]
    assert [one.rank for one in ranking] == list(range(1, CANDIDATES + 1))
    assert [one.expected for one in ranking] == pytest.approx(
        [predictions(one.impression) for one in ranking]
    )


def test_a_name_nobody_has_heard_is_unknown(shop, look):
    assert not entity(look, shop.store, "nobody").is_known
    assert not entity(look, shop.store, "").is_known


def test_newcomers_have_the_fewest_rows(shop, look):
    found = [one for one in newcomers(look, shop.store) if one.effect == "per-user"]
    learned = {name: int(shop.store.get_many(1, "per-user", [name]).rows[0]) for name in shop.users}
    seen = {name for name in look.rows.entities["user"] if name is not None}
    assert [one.rows_learned for one in found] == sorted(learned[name] for name in seen)[:10]
    assert {one.name: one.rows_learned for one in found}.items() <= learned.items()


def made_up(losses):
    """Rows of entities whose losses, in the order they were shown, are given by name."""
    names = [name for name, mine in losses.items() for _ in mine]
    loss = np.array([one for mine in losses.values() for one in mine])
    count = np.arange(len(names), dtype=np.int64)
    ones, none = np.ones(len(names)), np.zeros(len(names))
    predicted = Predicted(ones, ones, none, {}, {})
    rows = ServedRows(
        [f"i{i}" for i in count],
        [b""] * len(names),
        count,
        count,
        count,
        count,
        {"user": names, "item": names},
        predicted,
    )
    return rows, Judged(count, count, ones, ones, (Level("all", ones, loss),))


def test_drifters_are_those_whose_last_rows_are_worse_beyond_chance(look):
    rng = np.random.default_rng(1)
    calm = 0.3 + 0.05 * rng.random(40)
    losses = {
        "worse": [*calm, *(1.5 + 0.05 * rng.random(LATELY))],
        "better": [*(1.5 + 0.05 * rng.random(40)), *calm[:LATELY]],
        "same": [*calm, *calm[:LATELY]],
        "short": [0.3] * 9 + [2.0] * LATELY,
        "a little": [0.3] * 40 + [0.35] * LATELY,
    }
    rows, judged = made_up(losses)
    found = drifters(replace(look, rows=rows, judged=judged))
    assert {(one.kind, one.name) for one in found} == {("user", "worse"), ("item", "worse")}
    assert found[0].lately - found[0].before == pytest.approx(1.2, abs=0.05)
    assert found[0].standard_errors > 3


def test_dead_letters_come_newest_first_from_the_join_and_from_partitions(new_shop):
    deployment = new_shop.deployment_open
    with new_shop.store.writing(1, 1) as txn:
        for position in (3, 12_345, 123_456):
            key = DEAD_KEY + b"%020d/per-user" % position
            txn.put_state(key, encode_dead_letter(DeadLetter(position, "no label", b"\xff" * 900, position)))
        txn.put_state(PROGRESS_KEY, msgspec.msgpack.encode(Progress(130_000)))
    found = newest_letters(deployment, 1)
    assert [one.position for one in found] == [123_456]  # of the last 100,000 rows; 12,345 is before them
    assert (found[0].place, found[0].is_event, found[0].is_cut) == ("partition 1", False, True)
    assert found[0].excerpt == "ff" * 300


def test_dead_letters_of_the_join_have_their_reasons(shop, look):
    found = newest_letters(shop.deployment_open, look.generation)
    assert len(found) == 3
    assert [one.time_ms for one in found] == sorted((one.time_ms for one in found), reverse=True)
    (unreadable,) = [one for one in found if not one.is_event]
    assert bytes.fromhex(unreadable.excerpt) == b"\x01<script>alert(2)</script>"
    assert decode_event(shop.log.read(unreadable.position - 2, 1).records[0]).impression  # feedback before it


def test_the_verdict_of_the_gate_is_in_words(new_shop):
    store = new_shop.store
    verdicts = {
        "passed": Verdict(Figures(500, 0.61, 1.0, {}), Figures(500, 0.62, 1.0, {}), 0.01),
        "refused": Verdict(Figures(500, 0.70, 1.0, {}), Figures(500, 0.62, 1.0, {}), 0.01),
        "nothing to judge by": Verdict(None, None, 0.01),
    }
    for verdict in verdicts.values():
        number = store.create(store.model(1), created_ms=0, level=2).number
        status = Status.REFUSED if verdict.passes is False else Status.CANDIDATE
        store.mark(number, status, metrics=verdict.as_metrics())
    *made, first = listed(store)
    assert [one.verdict.partition(":")[0] for one in reversed(made)] == list(verdicts)
    assert [one.can_switch for one in reversed(made)] == [True, False, True]
    assert (first.verdict, first.can_switch) == ("no gate: published", False)


def test_without_a_live_generation_there_is_nothing_to_see(new_shop, monkeypatch):
    generations = new_shop.store.generations()
    monkeypatch.setattr(type(new_shop.store), "generations", lambda _: generations.__class__())
    with pytest.raises(ModelError, match="no generation is live"):
        Watched(new_shop.deployment_open).look()


def test_a_deployment_without_rows_has_numbers_too(new_shop):
    live = overview(Watched(new_shop.deployment_open, clock=new_shop.clock).look())
    assert {one.id: one.text for one in live.numbers}["loss"] == "\u2013"
    assert all(chart.x == () for chart in live.charts)


def test_a_look_is_at_most_a_second_old(new_shop):
    watched = Watched(new_shop.deployment_open, clock=new_shop.clock)
    first = watched.look()
    new_shop.clock.advance(999)
    assert watched.look() is first
    new_shop.clock.advance(1)
    assert watched.look() is not first


def test_a_link_leads_to_the_entity_whatever_its_name():
    assert tables.entity_link("a&b=c/d?#\"'<é>").href == "entity?name=a%26b%3Dc%2Fd%3F%23%22%27%3C%C3%A9%3E"
