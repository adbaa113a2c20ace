"""The loop of a worker process: events out of the log, joined, learned, and into the store.

Worker 0 of N joins; worker i learns the partitions p with p mod N = i. The workers share nothing but the folder, and a
turn ends in commits that contain how far they are, so any of them may be killed at any instant and started again, in
any number, without a row lost or learned twice.

This is the one module of the stream that does I/O, by way of the log, the joined log and the store.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Protocol, final

import msgspec

from nearline.clock import Clock, SystemClock
from nearline.errors import ConfigError
from nearline.events.impression import Tick
from nearline.events.log import EventLog
from nearline.events.wire import encode_event
from nearline.store.seam import ModelStore
from nearline.stream.effect_learner import LearnCounts
from nearline.stream.join import Join
from nearline.stream.join_routes import route_by_entity
from nearline.stream.join_settings import JoinSettings
from nearline.stream.join_state import Progress as JoinProgress
from nearline.stream.joined import JoinCounts, row_time_ms
from nearline.stream.joined_log import JoinedLog
from nearline.stream.learner import PROGRESS_KEY, Learner, LearnSettings, Progress, progress_of
from nearline.stream.roles import Role


@final
@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How workers work.

    Attributes
    ----------
    join, learn : how events become examples, and examples beliefs.
    at_once : the most events, or rows of a partition, that one turn takes; it changes nothing but the speed.
    poll_ms : how often an idle worker looks for more.
    tick_after_ms : with no event for so long, event time goes on by the clock, by ticks written to the log; so
        attribution windows close although traffic stops. None: it waits for the next event.
    """

    join: JoinSettings
    learn: LearnSettings = field(default_factory=LearnSettings)
    at_once: int = 10_000
    poll_ms: int = 20
    tick_after_ms: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("at_once", self.at_once), ("poll_ms", self.poll_ms)):
            if value < 1:
                raise ConfigError(f"worker.{name}: expected 1 or more, got {value}")


class Wish(Protocol):
    """A wish to stop: a `threading.Event`, or what signals set."""

    def is_set(self) -> bool:
        """Whether it is there."""
        ...

    def wait(self, timeout: float, /) -> bool:
        """Wait for it so long; whether it is there."""
        ...


@final
class Standing(msgspec.Struct, frozen=True):
    """How a worker stands.

    Attributes
    ----------
    generation : the one it learns into.
    joined : where every event went; None unless this worker joins. joined_to : the last position joined.
    events_left : in the log, not joined yet.
    learned : what became of the rows of its partitions. rows_left : in the row log, not learned yet.
    turns, turn_seconds : turns with something to do since this process began, and what they took in all.
    learned_ms : event time of the last row this process has taken; -1 before the first.
    """

    generation: int
    learned: LearnCounts
    rows_left: int
    joined: JoinCounts | None = None
    events_left: int = 0
    turns: int = 0
    turn_seconds: float = 0.0
    learned_ms: int = -1
    joined_to: int = 0


@final
class Worker:
    """Joins, if it is worker 0, and learns the partitions that are its own.

    Parameters
    ----------
    folder : where the joined log and the locks are.
    log, store : the events, and the records.
    index, workers : which worker this is, from 0, and how many there are.
    clock : moves event time where no event does.

    Raises
    ------
    ConfigError
        Another process has one of its jobs.
    ModelError
        The store has no live generation.
    """

    def __init__(
        self,
        folder: Path,
        log: EventLog,
        store: ModelStore,
        settings: WorkerSettings,
        *,
        index: int = 0,
        workers: int = 1,
        clock: Clock | None = None,
    ) -> None:
        if not 0 <= index < workers:
            raise ConfigError(f"worker: expected an index from 0 to {workers - 1}, got {index}")
        self._log, self._store, self._settings = log, store, settings
        self._clock = clock or SystemClock()
        self._partitions = tuple(range(index, store.partitions, workers))
        self._generation = store.generations().serving().number
        self._roles: list[Role] = []
        self._joined: JoinedLog | None = None
        try:
            for (
                partition
            ) in self._partitions:  # one by one: what was taken is given back if another is refused
                self._roles.append(Role(folder / "roles", f"learn-{partition}"))
            if index == 0:
                self._roles.append(Role(folder / "roles", "join"))
            self._join = self._join_of(self._generation) if index == 0 else None
            self._joined = JoinedLog(folder / "joined")
        except BaseException:
            self.close()
            raise
        self._learners: dict[int, Learner] = {}
        self._learned: dict[int, Progress] = {}
        self._join_progress = self._joined.progress()
        self._last_event_ms = self._clock.now_ms()
        self._turns, self._turn_seconds, self._learned_ms = 0, 0.0, -1

    def _join_of(self, generation: int) -> Join:
        """A join that sends impressions to who learns them in a generation; what it remembers lies in the folder."""
        kinds = {effect.name: effect.kind for effect in self._store.model(generation).random}
        return Join(self._settings.join, route_by_entity(kinds, self._store.partitions))

    def turn(self) -> bool:
        """Take what there is, up to the bounds, and commit it; whether there was anything."""
        begin = perf_counter()
        if (live := self._store.live()) is not None and live != self._generation:
            self._generation = live
            self._learners.clear()
            if self._join is not None:
                self._join = self._join_of(live)
        was_busy = self._join_some() if self._join is not None else False
        for partition in self._partitions:
            was_busy |= self._learn_some(partition)
        if was_busy:
            self._turns += 1
            self._turn_seconds += perf_counter() - begin
        return was_busy

    def run(self, stop: Wish, watch: Callable[[Standing], None] | None = None, *, once: bool = False) -> None:
        """Take turns until `stop` is set, or once there is nothing left; the turn under way is finished first."""
        while not stop.is_set():
            was_busy = self.turn()
            if watch is not None:
                watch(self.standing())
            if not was_busy and once:
                return
            if not was_busy:
                stop.wait(self._settings.poll_ms / 1000)

    def standing(self) -> Standing:
        """How it stands."""
        assert self._joined is not None  # noqa: S101 - open until it is closed
        progress = [self._progress(partition) for partition in self._partitions]
        learned = LearnCounts()
        for one in progress:
            learned = learned.plus(one.counts)
        ends = [self._joined.end(partition) for partition in self._partitions]
        rows_left = sum(end - one.position for end, one in zip(ends, progress, strict=True))
        joined = None if self._join is None else self._join_progress
        return Standing(
            self._generation,
            learned,
            rows_left,
            None if joined is None else joined.counts,
            0 if joined is None else self._log.end() - joined.position,
            self._turns,
            self._turn_seconds,
            self._learned_ms,
            0 if joined is None else joined.position,
        )

    @property
    def joins(self) -> bool:
        """Whether it joins."""
        return self._join is not None

    @property
    def row_log(self) -> JoinedLog:
        """The row log, for others in this process to read: a process opens it once."""
        assert self._joined is not None  # noqa: S101 - open until it is closed
        return self._joined

    def close(self) -> None:
        """Give back the jobs; nothing is lost."""
        if self._joined is not None:
            self._joined.close()
            self._joined = None
        while self._roles:
            self._roles.pop().close()

    def _join_some(self) -> bool:
        assert self._joined is not None and self._join is not None  # noqa: S101, PT018 - asked of the one who joins
        events = self._log.read(self._join_progress.position, self._settings.at_once)
        if not len(events):
            self._tick(self._join_progress)
            return False
        now_ms = self._clock.now_ms()
        self._joined.join(self._join, events, now_ms)
        self._join_progress = self._joined.progress()
        self._last_event_ms = now_ms
        return True

    def _tick(self, progress: JoinProgress) -> None:
        """Move event time by as much as the clock has moved since the last event."""
        now_ms, after_ms = self._clock.now_ms(), self._settings.tick_after_ms
        if after_ms is None or progress.high_ms < 0 or now_ms - self._last_event_ms < after_ms:
            return
        self._log.append([encode_event(Tick(progress.high_ms + now_ms - self._last_event_ms))])

    def _learn_some(self, partition: int) -> bool:
        assert self._joined is not None  # noqa: S101 - open until it is closed
        learner = self._learner(partition)
        rows = self._joined.read(learner.taken_to, self._settings.at_once, partition)
        if not len(rows):
            return False
        try:
            with self._store.writing(self._generation, partition) as txn:
                self._learned[partition] = learner.step(txn, rows.first, rows.records)
        except BaseException:
            del self._learners[partition]  # it may hold what was not committed
            raise
        self._learned_ms = max(self._learned_ms, row_time_ms(rows.records[-1]))
        return True

    def _learner(self, partition: int) -> Learner:
        if partition not in self._learners:
            progress = progress_of(self._store.state(self._generation, partition, PROGRESS_KEY))
            self._learned[partition] = progress
            self._learners[partition] = Learner(
                self._store.model(self._generation),
                self._generation,
                partition,
                self._store.partitions,
                self._settings.learn,
                progress,
            )
        return self._learners[partition]

    def _progress(self, partition: int) -> Progress:
        self._learner(partition)
        return self._learned[partition]
