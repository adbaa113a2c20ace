"""Arms side by side on the visits of one world -> what each showed, got, expected and knew, visit by visit."""

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, final

import numpy as np

from nearline.arrays import Floats, Ints
from nearline.evaluate.world import Visit, World
from nearline.evaluate.world_arms import Arm

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


Pace: TypeAlias = Callable[[Visit, Callable[[], "WorldRun"]], bool]
"""Called before each visit, with what gives the run up to then; whether to go on."""


def run_world(
    world: World, arms: Sequence[Arm], learn_hours: float = LEARN_HOURS, pace: Pace | None = None
) -> WorldRun:
    """Let every arm show something at every visit and hear of its own clicks, each after its delay.

    Returns what became of the visits there were until the last one, or until `pace` wanted no more.
    """
    learn_ms = max(1, round(learn_hours * world.settings.hour_ms))
    best = np.empty(world.settings.visits)
    records = [_Recorder(arm, len(best)) for arm in arms]
    due_ms, done = world.start_ms + learn_ms, 0

    def so_far() -> WorldRun:
        return WorldRun(best[:done], {record.arm.name: record.taken(done) for record in records})

    for visit in world.visits():
        if pace is not None and not pace(visit, so_far):
            break
        if visit.time_ms >= due_ms:
            for record in records:
                record.hear_until(visit.time_ms)
                record.arm.learn(visit.time_ms)
            due_ms += ((visit.time_ms - due_ms) // learn_ms + 1) * learn_ms
        best[visit.number] = visit.expected(visit.best()).sum()
        for record in records:
            record.hear_until(visit.time_ms)
            record.show(visit)
        done += 1
    return so_far()


@final
class _Recorder:
    """An arm, the clicks that are on their way to it, and what is written down of it."""

    def __init__(self, arm: Arm, visits: int) -> None:
        self.arm = arm
        self.clicks = np.zeros(visits, dtype=np.int64)
        self.expected, self.predicted, self.age_ms = np.empty((3, visits))
        self._coming: list[tuple[int, str]] = []

    def show(self, visit: Visit) -> None:
        """Let the arm show something, and write down what becomes of it."""
        shown, n = self.arm.show(visit), visit.number
        clicked = visit.clicks(shown.places)
        self.clicks[n] = clicked.sum()
        self.expected[n] = visit.expected(shown.places).sum()
        self.predicted[n] = shown.predicted.sum()
        self.age_ms[n] = visit.time_ms - self.arm.known_until_ms()
        for i in clicked.nonzero()[0].tolist() if shown.impressions else ():
            time_ms = visit.time_ms + int(visit.delay_ms[shown.places[i]])
            heapq.heappush(self._coming, (time_ms, shown.impressions[i]))

    def hear_until(self, now_ms: int) -> None:
        """Tell the arm of the clicks up to now."""
        while self._coming and self._coming[0][0] <= now_ms:
            time_ms, impression = heapq.heappop(self._coming)
            self.arm.hear(impression, time_ms)

    def taken(self, visits: int) -> ArmRecord:
        """What was written down of so many visits."""
        return ArmRecord(
            self.clicks[:visits], self.expected[:visits], self.predicted[:visits], self.age_ms[:visits]
        )
