"""The loop closed: what freshness and exploration earn in a world whose truth is known."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nearline.bandit import Candidates
from nearline.evaluate.world import World, WorldSettings
from nearline.evaluate.world_arms import Arm, ArmSettings, DeployedArm, Oracle
from nearline.evaluate.world_history import trained
from nearline.evaluate.world_logs import judge_by_logs
from nearline.evaluate.world_results import share_of, summaries
from nearline.evaluate.world_run import WorldRun, run_world
from nearline.posterior.blocks import pack
from nearline.serve import PolicyChoice

THOMPSON = PolicyChoice("thompson", draws=1)


def run(settings: WorldSettings, seed: int, folder: Path, arms, oracles=(), learn_hours=1 / 12) -> WorldRun:
    world = World(settings, seed)
    model = trained(world)
    with ExitStack() as stack:
        made: list[Arm] = [Oracle(world, after, name) for name, after in oracles]
        for arm in arms:
            made.append(deployed := DeployedArm(arm, world, model, folder / f"{seed}" / arm.name))
            stack.callback(deployed.close)
        return run_world(world, made, learn_hours)


COLD = WorldSettings(visits=2000, hours=10.0, users=10, items=10, new_items=50, history=3000)
"""Fifty advertisers appear, five an hour, to an audience that is known."""


@pytest.fixture(scope="module")
def cold_start(tmp_path_factory):
    arms = ArmSettings("level 3"), ArmSettings("level 0", level=0)
    folder = tmp_path_factory.mktemp("cold-start")
    return [run(COLD, seed, folder, arms, (("oracle", 0), ("after 20", 20))) for seed in (1, 2)]


def test_level_3_earns_nine_tenths_of_what_is_known_after_twenty_impressions(cold_start):
    fresh, stale = (
        np.array([share_of([one], arm, "after 20").value for one in cold_start])
        for arm in ("level 3", "level 0")
    )
    assert np.all(fresh >= 0.9)
    assert np.all(stale < fresh - 0.02)
    assert stale.mean() < 0.9
    missed = {
        arm: np.mean([(one.best - one.arms[arm].expected)[-500:].mean() for one in cold_start])
        for arm in ("level 3", "level 0")
    }
    assert missed["level 0"] > 1.4 * missed["level 3"]  # at the end most of what can be shown is new


def test_what_is_expected_of_what_is_shown_is_what_comes(cold_start):
    for arm in ("oracle", "level 3"):
        clicks = sum(one.arms[arm].clicks.sum() for one in cold_start)
        expected = sum(one.arms[arm].expected.sum() for one in cold_start)
        assert abs(clicks - expected) < 4 * np.sqrt(expected), arm


def test_level_3_knows_what_was_shown_a_window_and_a_turn_ago_and_level_0_only_the_history(cold_start):
    fresh, stale = (cold_start[0].arms[arm].age_ms / 60_000 for arm in ("level 3", "level 0"))
    assert 10.0 <= np.median(fresh) <= 10.0 + 2 * 5.0
    assert np.median(stale) == pytest.approx(300, abs=20)


STANDING_STILL = WorldSettings(visits=2400, hours=6.0, users=10, items=20, history=300)


def flattens(runs, arm: str) -> bool:
    """Whether an arm misses far less at a visit of the last quarter than at one of the first."""
    of_arm = next(one for one in summaries(runs) if one.name == arm)
    return of_arm.regret[-1].value < 0.6 * of_arm.regret[0].value


@pytest.fixture(scope="module")
def exploring(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exploring")
    return [run(STANDING_STILL, seed, folder, [ArmSettings("thompson", THOMPSON)]) for seed in (1, 2)]


def inverted(candidates: Candidates, request: int, count: int = 1, first: int = 0, draws=Candidates.draws):
    """Draws with the precision for the covariance: whoever is known best is explored most."""

    def turned(blocks):
        inverse = [pack(np.linalg.inv(blocks.belief(e).precision)) for e in range(blocks.entities)]
        return replace(blocks, precision=np.concatenate(inverse))

    terms = [one.arrays() for one in candidates.effects]
    effects = tuple(replace(one, beliefs=turned(one.beliefs), factors=None) for one in terms)
    return draws(replace(candidates, effects=effects), request, count, first)


def test_the_regret_of_thompson_sampling_flattens(exploring):
    assert flattens(exploring, "thompson")


def test_draws_with_the_precision_for_the_covariance_fail_that_test(exploring, tmp_path, monkeypatch):
    monkeypatch.setattr(Candidates, "draws", inverted)
    faulty = [run(replace(STANDING_STILL, visits=600), 1, tmp_path, [ArmSettings("thompson", THOMPSON)])]
    assert not flattens(faulty, "thompson")
    wrong = summaries(faulty)[0].regret[-1].value
    assert wrong > 3 * summaries(exploring)[0].regret[-1].value


SHORT = replace(STANDING_STILL, visits=240, hours=3.0)


def test_arms_that_do_the_same_become_the_same_whoever_else_is_there(tmp_path):
    twins = [ArmSettings("one"), ArmSettings("other")]
    both = run(SHORT, 4, tmp_path / "both", [*twins, ArmSettings("thompson", THOMPSON)])
    alone = run(SHORT, 4, tmp_path / "alone", twins[:1])
    for record in ("clicks", "expected", "predicted", "age_ms"):
        one, other = (getattr(both.arms[arm], record) for arm in ("one", "other"))
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(one, getattr(alone.arms["one"], record))
    assert not np.array_equal(both.arms["one"].expected, both.arms["thompson"].expected)


def test_level_2_knows_nothing_new_until_it_is_refitted(tmp_path):
    arms = [ArmSettings("level 0", level=0), ArmSettings("level 2", level=2, refit_hours=1.5)]
    found = run(SHORT, 5, tmp_path, arms)
    never, refitted = (found.arms[arm] for arm in ("level 0", "level 2"))
    ages = refitted.age_ms / 60_000
    at = int(np.flatnonzero(np.diff(ages) < 0)[0]) + 1
    np.testing.assert_array_equal(refitted.predicted[:at], never.predicted[:at])
    assert not np.array_equal(refitted.predicted[at:], never.predicted[at:])
    assert ages[at - 1] > 85
    assert ages[at] < 20
    np.testing.assert_array_equal(ages[:at], never.age_ms[:at] / 60_000)


@pytest.mark.parametrize(
    "policy", [PolicyChoice("epsilon-greedy", epsilon=0.3), PolicyChoice("thompson", draws=100)]
)
def test_estimates_from_logs_hold_the_true_value(policy, tmp_path):
    world = World(replace(SHORT, visits=1000, candidates=5, history=600), 6)
    model = trained(world)
    with ExitStack() as stack:
        arms = [
            DeployedArm(ArmSettings(name, choice, level=0), world, model, tmp_path / name)
            for name, choice in (("logging", policy), ("target", PolicyChoice("greedy")))
        ]
        for arm in arms:
            stack.callback(arm.close)
        judged = judge_by_logs(world, *arms)
    assert judged.truth > judged.logged
    for name, estimate in judged.estimates.items():
        assert estimate.low <= judged.truth <= estimate.high, name
        assert estimate.low > 0.0
