"""What a deployment need not keep: events that are joined, and rows that every generation has learned."""

from typing import final

from nearline.clock import Clock
from nearline.events.log import EventLog
from nearline.store.generations import Status
from nearline.store.seam import ModelStore
from nearline.stream.joined_log import JoinedLog
from nearline.stream.learner import PROGRESS_KEY, progress_of

EVERY_MS = 60_000


@final
class Retention:
    """Removes, now and then, what was appended longer ago than `keep_ms`, and is needed by nobody.

    Rows are needed by every generation that was not refused, from the position on that it has learned to: one that
    served before may be switched back to, and goes on where it was. Pruning it lets them go.
    """

    def __init__(
        self,
        log: EventLog,
        rows: JoinedLog,
        store: ModelStore,
        clock: Clock,
        *,
        keep_ms: int,
        every_ms: int = EVERY_MS,
    ) -> None:
        self._log, self._rows, self._store, self._clock = log, rows, store, clock
        self._keep_ms, self._every_ms = keep_ms, every_ms
        self._done_ms: int | None = None

    def turn(self) -> int:
        """Remove what can go if it is time to; how many records went, events and rows together."""
        now_ms = self._clock.now_ms()
        if self._done_ms is not None and now_ms - self._done_ms < self._every_ms:
            return 0
        self._done_ms = now_ms
        before_ms = now_ms - self._keep_ms
        removed = self._log.trim(self._rows.progress().position, appended_before_ms=before_ms)
        for partition in range(self._store.partitions):
            removed += self._rows.trim(self._learned_to(partition), partition, appended_before_ms=before_ms)
        return removed

    def _learned_to(self, partition: int) -> int:
        """The position up to which no generation needs the rows any more."""
        known = self._store.generations().known
        needed = [one.number for one in known if one.status is not Status.REFUSED]
        states = [self._store.state(number, partition, PROGRESS_KEY) for number in needed]
        return min((progress_of(state).resume_after for state in states), default=0)
