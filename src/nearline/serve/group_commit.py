"""Records of many requests -> one append to the event log, after which all of them are answered.

An append waits for the disk, however many records it has. So one thread appends whatever came in while the last append
went on, and then says so to those who wait.
"""

import threading
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Final, TypeAlias, final

from nearline.errors import BusyError, LogError
from nearline.events.log import EventLog
from nearline.serve.logs import LOGGER

Done: TypeAlias = Callable[[LogError | None], None]
"""Called once, from another thread: with None when the records are on disk, with the error if they are not there."""

_AT_ONCE: Final = 10_000
"""Records of one append."""


@final
class GroupCommit:
    """Appends records for many threads.

    What `done` was told of without an error is in the log, also after the process was killed. What it was told of with
    an error is not in the log.

    Parameters
    ----------
    waiting : records that may wait; more are refused, never dropped.
    """

    def __init__(self, log: EventLog, waiting: int = 100_000) -> None:
        self._log, self._most = log, waiting
        self._waiting: list[tuple[Sequence[bytes], Done]] = []
        self._records = 0
        self._changed = threading.Condition()
        self._closing = False
        self.appends, self.appended, self.append_seconds = 0, 0, 0.0
        self._thread = threading.Thread(target=self._run, name="nearline-log", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Records that are not on disk yet."""
        return self._records

    def require_room(self, records: int) -> None:
        """Raise a `BusyError` if so many more cannot be taken."""
        if self._closing:
            raise BusyError("the event log is being closed")
        if self._records + records > self._most:
            raise BusyError(
                f"{self._records} events wait to be written, the most there may be is {self._most}"
            )

    def submit(self, records: Sequence[bytes], done: Done) -> None:
        """Append these, and call `done` when they are on disk.

        Raises
        ------
        BusyError
            Too many wait already, or it is closed; these were not taken.
        """
        with self._changed:
            self.require_room(len(records))
            self._waiting.append((records, done))
            self._records += len(records)
            if len(self._waiting) == 1:
                self._changed.notify()

    def append(self, records: Sequence[bytes]) -> None:
        """Append these and wait until they are on disk; raises the `LogError` if they are not in the log."""
        finished = threading.Event()
        errors: list[LogError | None] = []

        def done(error: LogError | None) -> None:
            errors.append(error)
            finished.set()

        self.submit(records, done)
        finished.wait()
        if (error := errors[0]) is not None:
            raise error

    def close(self) -> None:
        """Take no more, and return when all that wait are answered."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while some := self._next():
            error = self._append(some)
            with self._changed:
                self._records -= sum(len(records) for records, _ in some)
            for _, done in some:
                try:
                    done(error)
                except Exception:  # noqa: BLE001 - whatever it is, the others wait too
                    LOGGER.exception("what was to be done after an append failed")

    def _next(self) -> list[tuple[Sequence[bytes], Done]]:
        """What waits, up to a bound; nothing once it is closed and nothing waits."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            count, end = 0, 0
            while end < len(self._waiting) and (end == 0 or count < _AT_ONCE):
                count += len(self._waiting[end][0])
                end += 1
            some, self._waiting = self._waiting[:end], self._waiting[end:]
            return some

    def _append(self, some: Sequence[tuple[Sequence[bytes], Done]]) -> LogError | None:
        records = [record for records, _ in some for record in records]
        begin = perf_counter()
        try:
            self._log.append(records)
        except LogError as error:
            return error
        except Exception as error:  # noqa: BLE001 - of a log that is not ours; whoever waits is told, and the next may do
            return _told(error)
        self.appends += 1
        self.appended += len(records)
        self.append_seconds += perf_counter() - begin
        return None


def _told(error: Exception) -> LogError:
    failure = LogError(f"the event log failed: {error!r}")
    failure.__cause__ = error
    return failure
