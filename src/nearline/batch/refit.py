"""The row log, and the generation that serves -> a new generation, caught up and judged, while the old one goes on.

The steps, in this order::

    train      from every example up to a cut of the row log, warm from the live generation's model
    seed       entities' evidence at the cut into a generation in training
    catch up   the rows from the cut on, by the stream's own learner, judged before they are learned
    conclude   refused, or switched to in one instant

Until the switch only this process writes to the new generation; after it, only the workers do, each from the position
that it finds there. So no row is lost and none learned twice, and the generation that served is never written to here.
Killed at any instant, it leaves the live generation as it was and a generation in training, for `prune` to delete.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias, final

from nearline.batch.descent import Training, fit_game
from nearline.batch.entities_of_rows import seed_partition
from nearline.batch.from_rows import (
    Cut,
    RowRange,
    cut_at,
    cut_before_last,
    examples_up_to,
    read_range,
    standing_up_to,
)
from nearline.batch.gate import Judge, Verdict, judged_rows
from nearline.batch.settings import TrainingSettings
from nearline.clock import Clock, SystemClock
from nearline.errors import ConfigError
from nearline.model.game import GameModel
from nearline.store.generations import Status
from nearline.store.seam import ModelStore
from nearline.stream.drift_watch import RowLog
from nearline.stream.joined import decode_rows
from nearline.stream.learner import PROGRESS_KEY, Learner, LearnSettings, progress_of

Decision: TypeAlias = Literal["switched", "refused", "kept", "undecided"]


@final
@dataclass(frozen=True, slots=True)
class RefitSettings:
    """How a generation is made from the row log.

    Attributes
    ----------
    training : the model and how to train it; its effects are those of the live generation.
    learn : as the workers learn.
    level : 1 trains everything, 2 the random effects and their priors.
    positions : of the row log, for each partition, to train up to; None cuts it by `held_back`.
    held_back : about this share of the rows was shown after the cut; they are caught up with, and judged by.
    judged : share of the impressions caught up with that the gate looks at.
    margin : the loss of the candidate on them may be higher by so much than what was served.
    at_once : rows of a partition that are learned at once; few, so that predictions are not stale.
    within : it is caught up when at most so many rows are left.
    switch : whether a candidate that passes is switched to.
    """

    training: TrainingSettings
    learn: LearnSettings = field(default_factory=LearnSettings)
    level: int = 2
    positions: tuple[int, ...] | None = None
    held_back: float = 0.1
    judged: float = 0.5
    margin: float = 0.002
    at_once: int = 1_000
    within: int = 1_000
    switch: bool = True

    def __post_init__(self) -> None:
        for name, good, expected in (
            ("level", self.level in {1, 2}, "1 or 2"),
            ("held_back", 0.0 <= self.held_back < 1.0, "0 or more, below 1"),
            ("judged", 0.0 < self.judged <= 1.0, "above 0, up to 1"),
            ("margin", self.margin >= 0.0, "0 or more"),
            ("at_once", self.at_once >= 1, "1 or more"),
            ("within", self.within >= 0, "0 or more"),
        ):
            if not good:
                raise ConfigError(f"refit.{name}: expected {expected}, got {getattr(self, name)}")


@final
@dataclass(frozen=True, slots=True, eq=False)
class Refitted:
    """What became of a refit.

    Attributes
    ----------
    generation : the new one.
    decision : "switched"; "refused" by the gate; "kept" as a candidate, since no switch was asked for or somebody else
        switched meanwhile; "undecided", a candidate that there was nothing to judge by.
    verdict : the gate's.
    examples : trained on. caught_up : rows learned from the cut on, those of all partitions together.
    """

    generation: int
    decision: Decision
    verdict: Verdict
    examples: int
    caught_up: int


def refit(
    store: ModelStore,
    log: RowLog,
    settings: RefitSettings,
    *,
    clock: Clock | None = None,
    watch: Callable[[int, int], None] | None = None,
) -> Refitted:
    """Make a new generation and, if the gate lets it pass, switch to it.

    `watch` is told, turn by turn, how many rows are caught up and how many are left.

    Raises
    ------
    DataError
        No row to train on.
    ConfigError
        The settings do not fit the live generation.
    ModelError
        No generation is live.
    """
    work = Refit(store, log, settings, clock=clock)
    while work.turn():
        if watch is not None:
            watch(work.caught_up, work.left())
    return work.conclude()


@final
class Refit:
    """A refit in turns: training when it is made, then catching up turn by turn, then the conclusion."""

    def __init__(
        self, store: ModelStore, log: RowLog, settings: RefitSettings, *, clock: Clock | None = None
    ) -> None:
        self._store, self._log, self._settings = store, log, settings
        serving = store.generations().serving()
        self._replaced = serving.number
        ranges = [read_range(log, partition) for partition in range(store.partitions)]
        cut = self._cut(ranges)
        training = self._train(ranges, cut)
        now_ms = (clock or SystemClock()).now_ms()
        created = store.create(
            training.model,
            created_ms=now_ms,
            level=settings.level,
            positions=cut.positions,
            single=serving.single,
        )
        self.generation = created.number
        for partition, (rows, reached) in enumerate(zip(ranges, cut.positions, strict=True)):
            stands = standing_up_to(rows, reached)
            seed_partition(store, self.generation, partition, training.model, stands, reached, settings.learn)
        model = store.model(self.generation)
        rows_judged = judged_rows(ranges, cut, model, settings.judged)
        self._judge = Judge(store, self.generation, model, rows_judged, settings.learn)
        self._learners = [self._learner(model, partition) for partition in range(store.partitions)]
        self.caught_up = 0

    def _cut(self, ranges: list[RowRange]) -> Cut:
        if self._settings.positions is None:
            return cut_before_last(ranges, self._settings.held_back)
        if len(self._settings.positions) != len(ranges):
            raise ConfigError(
                f"refit.positions: expected one for each of {len(ranges)} partitions, got {self._settings.positions}"
            )
        return cut_at(ranges, self._settings.positions)

    def _train(self, ranges: list[RowRange], cut: Cut) -> Training:
        live = self._store.model(self._replaced)
        training = _fitting(self._settings, live)
        examples = examples_up_to(ranges, cut, live)
        self._examples = len(examples)
        return fit_game(examples, training, start=live)

    def _learner(self, model: GameModel, partition: int) -> Learner:
        progress = progress_of(self._store.state(self.generation, partition, PROGRESS_KEY))
        partitions = self._store.partitions
        return Learner(model, self.generation, partition, partitions, self._settings.learn, progress)

    def left(self) -> int:
        """How many rows of the row log are not caught up with, those of all partitions together."""
        ends = (self._log.end(partition) for partition in range(self._store.partitions))
        return sum(end - learner.taken_to for end, learner in zip(ends, self._learners, strict=True))

    def turn(self) -> bool:
        """Catch up with some rows, all partitions up to the same time; whether there is more to do."""
        windows = self._windows()
        if not windows:
            self._judge.predict_up_to(None)
            return False
        self._judge.predict_up_to(max(latest for _, _, latest in windows.values()))
        for partition, (first, rows, _) in windows.items():
            with self._store.writing(self.generation, partition) as txn:
                self._learners[partition].step(txn, first, rows)
            self.caught_up += len(rows)
        return self._judge.left > 0 or self.left() > self._settings.within

    def _windows(self) -> Mapping[int, tuple[int, list[bytes], int]]:
        """The rows to learn next, by partition: first position, rows, latest time."""
        read = {}
        horizon: int | None = None
        for partition, learner in enumerate(self._learners):
            batch = self._log.read(learner.taken_to, self._settings.at_once, partition)
            if not len(batch):
                continue
            times = decode_rows(batch.records).time_ms
            read[partition] = batch, times
            if len(batch) == self._settings.at_once:
                latest = int(times.max())
                horizon = latest if horizon is None else min(horizon, latest)
        windows = {}
        for partition, (batch, times) in read.items():
            count = len(times)
            if horizon is not None and (times > horizon).any():
                count = int((times > horizon).argmax())
            if count:
                windows[partition] = batch.first, list(batch.records[:count]), int(times[:count].max())
        return windows

    def conclude(self) -> Refitted:
        """Refuse the generation, or switch to it; nothing is written to it afterwards."""
        verdict = self._judge.verdict(self._settings.margin)
        passes, metrics = verdict.passes, verdict.as_metrics()
        status = Status.REFUSED if passes is False else Status.CANDIDATE
        self._store.mark(self.generation, status, metrics=metrics)
        decision: Decision = "refused" if passes is False else "undecided" if passes is None else "kept"
        if passes and self._settings.switch and self._store.live() == self._replaced:
            self._store.switch(self.generation)
            decision = "switched"
        return Refitted(self.generation, decision, verdict, self._examples, self.caught_up)


def _fitting(settings: RefitSettings, live: GameModel) -> TrainingSettings:
    """The settings of the training, once they are known to fit the live generation."""
    training = settings.training
    forms = sorted((effect.name, effect.kind) for effect in training.random)
    if (known := sorted((effect.name, effect.kind) for effect in live.random)) != forms:
        raise ConfigError(
            f"random_effects: expected {known} (name, entity) as in the live generation, got {forms}: the row log "
            "is made for these"
        )
    if settings.level == 2:
        return replace(training, fixed=replace(training.fixed, locked=True))
    return training
