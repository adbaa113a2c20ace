"""Arms side by side on the visits of one world -> what each showed, got, expected and knew, visit by visit."""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from nearline.arrays import Floats, Ints
from nearline.evaluate.world import World
from nearline.evaluate.world_arms import Arm, Shown

LEARN_HOURS = 1 / 60
"""How often arms are given time to learn, in hours of the world."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class ArmRecord:
    """What became of an arm, visit by visit.

    Attributes
    ----------
    clicks : int64[visits], of all positions.
    expected : float64[visits], the clicks to be expected of what it showed, by the truth.
    predicted : float64[visits], the clicks that the arm itself expected.
    age_ms : float64[visits], the time since which it had learned nothing that was shown.
    """

    clicks: Ints
    expected: Floats
    predicted: Floats
    age_ms: Floats


@final
@dataclass(frozen=True, slots=True, eq=False)
class WorldRun:
    """Arms in one world; `best` float64[visits] are the clicks that whoever knows the truth would expect."""

    best: Floats
    arms: Mapping[str, ArmRecord]


def run_world(world: World, arms: Sequence[Arm], learn_hours: float = LEARN_HOURS) -> WorldRun:
    """Let every arm show something at every visit and hear of its own clicks, each after its delay."""
    learn_ms = max(1, round(learn_hours * world.settings.hour_ms))
    visits = world.settings.visits
    best = np.empty(visits)
    records = [_Recorder(arm, visits) for arm in arms]
    due_ms = world.start_ms + learn_ms
    for visit in world.visits():
        if visit.time_ms >= due_ms:
            for record in records:
                record.hear_until(visit.time_ms)
                record.arm.learn(visit.time_ms)
            due_ms += ((visit.time_ms - due_ms) // learn_ms + 1) * learn_ms
        best[visit.number] = visit.expected(visit.best()).sum()
        for record in records:
            record.hear_until(visit.time_ms)
            shown = record.arm.show(visit)
            clicked = visit.clicks(shown.places)
            record.click(shown, clicked.nonzero()[0], visit.time_ms + visit.delay_ms[shown.places])
            n = visit.number
            record.clicks[n] = clicked.sum()
            record.expected[n] = visit.expected(shown.places).sum()
            record.predicted[n] = shown.predicted.sum()
            record.age_ms[n] = visit.time_ms - record.arm.known_until_ms()
    return WorldRun(best, {record.arm.name: record.taken() for record in records})


@final
class _Recorder:
    """An arm, the clicks that are on their way to it, and what is written down of it."""

    def __init__(self, arm: Arm, visits: int) -> None:
        self.arm = arm
        self.clicks = np.zeros(visits, dtype=np.int64)
        self.expected, self.predicted, self.age_ms = np.empty((3, visits))
        self._coming: list[tuple[int, str]] = []

    def click(self, shown: Shown, which: Ints, times: Ints) -> None:
        """Some of what is shown will have been clicked at these times."""
        for i in which.tolist() if shown.impressions else ():
            heapq.heappush(self._coming, (int(times[i]), shown.impressions[i]))

    def hear_until(self, now_ms: int) -> None:
        """Tell the arm of the clicks up to now."""
        while self._coming and self._coming[0][0] <= now_ms:
            time_ms, impression = heapq.heappop(self._coming)
            self.arm.hear(impression, time_ms)

    def taken(self) -> ArmRecord:
        """What was written down."""
        return ArmRecord(self.clicks, self.expected, self.predicted, self.age_ms)
