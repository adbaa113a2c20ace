"""A world is the same for everybody who acts in it, and its clicks are what its truth says."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from nearline.errors import ConfigError
from nearline.evaluate.world import HOUR_MS, World, WorldSettings

SMALL = WorldSettings(
    visits=400, hours=4.0, users=12, items=8, new_items=9, candidates=5, examination=(1.0, 0.6)
)


def flat(visits):
    return [
        (v.number, v.time_ms, v.user, v.device, *v.candidates, *v.probability, *v.chance, *v.delay_ms)
        for v in visits
    ]


def test_the_same_seed_is_the_same_world_and_another_seed_another():
    first = flat(World(SMALL, 3).visits())
    assert first == flat(World(SMALL, 3).visits())
    assert first != flat(World(SMALL, 4).visits())
    assert flat(World(SMALL, 3).history()) == flat(World(SMALL, 3).history())


def test_visits_come_in_order_and_the_history_is_over_before_they_begin():
    world = World(SMALL, 1)
    visits, history = list(world.visits()), list(world.history())
    assert [v.number for v in visits] == list(range(400))
    times = [v.time_ms for v in history + visits]
    assert times == sorted(times)
    assert history[-1].time_ms < world.start_ms - HOUR_MS // 2
    assert world.start_ms <= visits[0].time_ms <= visits[-1].time_ms < world.start_ms + 4 * HOUR_MS


def test_candidates_differ_and_new_ones_appear_every_hour_and_stay():
    world = World(SMALL, 1)
    seen: list[set[int]] = [set() for _ in range(4)]
    for visit in world.visits():
        assert len(set(visit.candidates.tolist())) == 5
        seen[(visit.time_ms - world.start_ms) // HOUR_MS] |= set(visit.candidates.tolist())
    known = set(range(8))
    for hour, new in enumerate(({8, 9, 10}, {11, 12}, {13, 14}, {15, 16})):
        known |= new
        assert seen[hour] <= known, hour
    assert not any(world.is_new(visit.candidates).any() for visit in world.history())
    assert set().union(*seen) == set(range(17))


def test_clicks_come_as_often_as_the_truth_says():
    world = World(replace(SMALL, visits=6000, intercept=-1.5), 2)
    for shown in ([0, 1], [3, 2]):
        expected, clicked = zip(
            *((v.expected(np.array(shown)), v.clicks(np.array(shown))) for v in world.visits()), strict=True
        )
        p, y = np.array(expected), np.array(clicked)
        z = (y - p).sum(axis=0) / np.sqrt((p * (1 - p)).sum(axis=0))
        assert np.all(np.abs(z) < 4)


def test_who_shows_the_same_gets_the_same_and_a_better_position_never_loses_a_click():
    for visit in World(SMALL, 1).visits():
        first, second = visit.clicks(np.array([2, 0]))[0], visit.clicks(np.array([0, 2]))[1]
        assert first == visit.clicks(np.array([2, 4]))[0]
        assert first >= second


def test_nobody_expects_more_clicks_than_who_knows_the_truth():
    for visit in list(World(SMALL, 5).visits())[:50]:
        every = [visit.expected(np.array(order)).sum() for order in permutations(range(5), 2)]
        assert visit.expected(visit.best()).sum() == max(every)


def test_the_click_rates_are_those_of_advertising():
    rates = np.concatenate([v.probability for v in World(WorldSettings(visits=2000), 1).visits()])
    assert 0.03 < rates.mean() < 0.20
    assert np.quantile(rates, 0.1) > 0.005


def odds(visits):
    """The log odds of each pair of user and item on each device, as they were in the order of time."""
    found: dict[tuple[int, int, int], list[tuple[int, float]]] = {}
    for v in visits:
        for item, p in zip(v.candidates.tolist(), v.probability.tolist(), strict=True):
            found.setdefault((v.user, v.device, item), []).append((v.time_ms, p))
    return found


def test_without_drift_the_truth_stands_still_and_with_drift_it_moves():
    still = odds(World(SMALL, 1).visits())
    assert all(len({p for _, p in times}) == 1 for times in still.values())
    moving = odds(World(replace(SMALL, item_days=0.5), 1).visits())
    assert any(len({p for _, p in times}) > 1 for times in moving.values())


def test_a_sudden_change_comes_at_half_time_and_changes_that_share_of_the_items():
    world = World(replace(SMALL, visits=3000, changed=0.5), 1)
    half = world.start_ms + 2 * HOUR_MS
    changed, same = set(), set()
    for (_, _, item), times in odds(world.visits()).items():
        before, after = ({p for t, p in times if (t < half) is early} for early in (True, False))
        assert len(before) <= 1
        assert len(after) <= 1
        if before and after:
            (same if before == after else changed).add(item)
    assert not changed & same
    assert 2 <= len(changed) <= len(changed | same) - 2


@pytest.mark.parametrize(
    "wrong", [{"items": 4}, {"examination": ()}, {"examination": (1.0,) * 6}, {"changed": 1.5}]
)
def test_a_world_that_cannot_be_is_refused_by_name(wrong):
    with pytest.raises(ConfigError, match=f"world.{next(iter(wrong))}: expected"):
        replace(SMALL, **wrong)
