"""Who chooses what to show in a simulated world: deployments that learn from their own feedback, and oracles.

A deployment is nearline itself: the service's scorer, the event log, and the worker that joins and learns, in one
process and on the world's clock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal, Protocol, final

import numpy as np

from nearline.arrays import Floats, Ints
from nearline.batch.refit import Refit, RefitSettings
from nearline.evaluate.world import Visit, World, item_name, user_name
from nearline.evaluate.world_history import TRAINING
from nearline.evaluate.world_start import begin
from nearline.events.log import MemoryLog
from nearline.events.partition import partitions_of
from nearline.model.game import GameModel
from nearline.posterior.forgetting import Forgetting
from nearline.serve import Candidate, FeedbackItem, PolicyChoice, Ranking, RankRequest, Scorer, ScorerSettings
from nearline.store.memory import MemoryStore
from nearline.stream.join_settings import JoinSettings
from nearline.stream.learner import LearnSettings
from nearline.stream.minibatch_settings import MiniBatchSettings
from nearline.stream.worker import Worker, WorkerSettings

NEVER_DUE: Final = MiniBatchSettings(rows=1 << 40, max_waiting=1 << 40)
"""Rows wait for ever: the stream is joined, and not learned."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """What somebody shows at a visit, first to last.

    Attributes
    ----------
    places : int64[k], of the candidates.
    predicted : float64[k], the probability of a click that is expected of each; NaN of who expects nothing.
    propensity : float64[k], the probability with which each was put where it is.
    impressions : their ids, which feedback names; none where nobody listens to feedback.
    """

    places: Ints
    predicted: Floats
    propensity: Floats
    impressions: Sequence[str] = ()


class Arm(Protocol):
    """Somebody who chooses what to show."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    def show(self, visit: Visit) -> Shown:
        """Choose what to show at a visit, not knowing what is for judging alone, unless it is an oracle."""
        ...

    def hear(self, impression: str, time_ms: int) -> None:
        """Somebody has clicked."""
        ...

    def learn(self, now_ms: int) -> None:
        """Learn what there is to be learned."""
        ...

    def known_until_ms(self) -> int:
        """What was shown up to then is learned, in milliseconds since 1970 (UTC)."""
        ...


@final
@dataclass(frozen=True, slots=True)
class ArmSettings:
    """How a deployment serves and learns.

    Attributes
    ----------
    name : what it is called.
    policy : how it chooses.
    level : 0 learns nothing; 2 refits all random effects, prior included, now and then; 3 learns from the stream.
    refit_hours : how long a refit of level 2 is after the one before, in hours of the world.
    window_hours : of attribution.
    forgetting : by random effect; one that is not there forgets nothing.
    """

    name: str
    policy: PolicyChoice = field(default_factory=lambda: PolicyChoice("greedy"))
    level: Literal[0, 2, 3] = 3
    refit_hours: float = 2.0
    window_hours: float = 1 / 6
    forgetting: Mapping[str, Forgetting] = field(default_factory=dict)


@final
class DeployedArm:
    """A deployment of its own, whose model was trained on the world's history, which its log has too."""

    def __init__(self, settings: ArmSettings, world: World, model: GameModel, folder: Path) -> None:
        self.name = settings.name
        self._settings, self._world = settings, world
        self._window_ms = round(settings.window_hours * world.settings.hour_ms)
        self._refit_every_ms = round(settings.refit_hours * world.settings.hour_ms)
        self._clock = _WorldClock(world.start_ms)
        self._log, self._store = MemoryLog(), MemoryStore(partitions_of)
        join = JoinSettings(self._window_ms)
        begin(world, model, self._log, self._store, folder, join)
        minibatch = MiniBatchSettings(rows=1) if settings.level == 3 else NEVER_DUE
        self._learn_settings = LearnSettings(settings.forgetting, MiniBatchSettings(rows=1))
        learn = replace(self._learn_settings, minibatch=minibatch)
        self._worker = Worker(folder, self._log, self._store, WorkerSettings(join, learn), clock=self._clock)
        scoring = ScorerSettings(
            policy=settings.policy, k=len(world.settings.examination), forgetting=settings.forgetting
        )
        self._scorer = Scorer(self._store, self._log, scoring, clock=self._clock)
        self._refit_ms = self._known_ms = world.start_ms

    def show(self, visit: Visit) -> Shown:
        """Choose what to show at a visit; its impressions are in the log."""
        self._clock.now = visit.time_ms
        answer = self._scorer.answer(rank_request(self._world, visit))
        self._log.append(answer.records)
        return shown_of(answer.ranking, visit)

    def hear(self, impression: str, time_ms: int) -> None:
        """Somebody has clicked."""
        self._clock.now = max(self._clock.now, time_ms)
        self._log.append(self._scorer.feedback_records([FeedbackItem(impression, 1.0, time_ms)]))

    def learn(self, now_ms: int) -> None:
        """Let the worker do all that there is to do, and refit if it is time to."""
        if self._settings.level == 0:
            return
        self._clock.now = now_ms
        while self._worker.turn():
            pass
        if self._settings.level == 2:
            if now_ms - self._refit_ms < self._refit_every_ms:
                return
            self._refit(now_ms)
        if (learned_ms := self._worker.standing().learned_ms) >= 0:
            self._known_ms = learned_ms - self._window_ms

    def _refit(self, now_ms: int) -> None:
        self._refit_ms = now_ms
        rows = self._worker.row_log
        settings = RefitSettings(TRAINING, self._learn_settings, level=2, positions=(rows.end(0),))
        work = Refit(self._store, rows, settings, clock=self._clock)
        while work.turn():
            pass
        work.conclude()
        self._store.switch(work.generation)

    def known_until_ms(self) -> int:
        """What was shown up to then is learned."""
        return self._known_ms

    def close(self) -> None:
        """Let go of files and threads."""
        self._scorer.close()
        self._worker.close()


@final
class _WorldClock:
    """Stands at the time of the world."""

    def __init__(self, now_ms: int) -> None:
        self.now = now_ms

    def now_ms(self) -> int:
        """Milliseconds since 1970 (UTC)."""
        return self.now


def rank_request(world: World, visit: Visit) -> RankRequest:
    """What a service is asked at a visit."""
    candidates: list[str | Candidate] = [
        Candidate(item_name(item), world.features_of_item(item)) for item in visit.candidates.tolist()
    ]
    return RankRequest(
        candidates,
        {"user": user_name(visit.user)},
        world.features_of_visitor(visit),
        id=f"visit-{visit.number}",
        time_ms=visit.time_ms,
    )


def shown_of(ranking: Ranking, visit: Visit) -> Shown:
    """What a service answered."""
    place = {item_name(item): i for i, item in enumerate(visit.candidates.tolist())}
    return Shown(
        np.array([place[one.id] for one in ranking.ranked], dtype=np.int64),
        np.array([one.probability for one in ranking.ranked], dtype=np.float64),
        np.array([one.propensity for one in ranking.ranked]),
        [one.impression for one in ranking.ranked],
    )


@final
class Oracle:
    """Knows the truth about everything there was at the beginning, and what appeared once it has shown it often enough.

    Until then it takes the population's mean for the truth.

    Parameters
    ----------
    after : how often it shows something new before it knows it.
    """

    def __init__(self, world: World, after: int = 0, name: str = "oracle") -> None:
        self.name = name
        self._world, self._after, self._now_ms = world, after, world.start_ms
        self._shown = np.zeros(world.item_count, dtype=np.int64)

    def show(self, visit: Visit) -> Shown:
        """Show what it takes for the best."""
        self._now_ms = visit.time_ms
        known = ~self._world.is_new(visit.candidates) | (self._shown[visit.candidates] >= self._after)
        taken_for = np.where(known, visit.probability, visit.unknown)
        places = np.argsort(-taken_for, kind="stable")[: len(visit.examination)]
        self._shown[visit.candidates[places]] += 1
        return Shown(places, taken_for[places] * visit.examination, np.ones(len(places)))

    def hear(self, impression: str, time_ms: int) -> None:
        """It needs no feedback."""

    def learn(self, now_ms: int) -> None:
        """It has nothing to learn."""

    def known_until_ms(self) -> int:
        """It knows what is."""
        return self._now_ms
