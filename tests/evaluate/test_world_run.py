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


COLD = WorldSettings(
    visits=1500, hours=10.0, users=20, items=30, new_items=50, history=6000, examination=(1.0, 0.8, 0.6)
)
"""Fifty advertisers appear, five an hour, to an audience that is known."""
FRESH, STALE, LEARNED_OFTEN = (
    ArmSettings("level 3"),
    ArmSettings("level 0", level=0),
    ArmSettings("level 2", level=2),
)


@pytest.fixture(scope="module")
def cold_start(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cold-start")
    oracles = (("oracle", 0), ("oracle after 20", 20))
    return [run(COLD, seed, folder, (FRESH, STALE, LEARNED_OFTEN), oracles) for seed in (1, 2, 3)]


def test_level_3_earns_nine_tenths_of_what_is_known_after_twenty_impressions(cold_start):
    fresh, stale = (share_of(cold_start, arm, "oracle after 20") for arm in ("level 3", "level 0"))
    assert fresh.value >= 0.9
    assert stale.value < fresh.value - 0.05
