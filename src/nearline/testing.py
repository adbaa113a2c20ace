"""Stand-ins for tests of one's own: a clock moved by hand, a log that crashes, a store that breaks its promise."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, final

from nearline.events.log import Batch, EventLog
from nearline.store.records import Records
from nearline.store.seam import ModelStore, Writing


@final
class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self, now_ms: int = 0) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        """Milliseconds since 1970 (UTC)."""
        return self._now_ms

    def set(self, now_ms: int) -> None:
        """Make it this time."""
        self._now_ms = now_ms

    def advance(self, by_ms: int) -> None:
        """Let so many milliseconds pass."""
        self._now_ms += by_ms


class Crash(BaseException):
    """What a crash of the process is in a test: no ``except Exception`` can hold it."""


@final
class CrashingLog:
    """An `EventLog` that crashes once, at the n-th record, and then works on.

    Parameters
    ----------
    log : what it stands before.
    read_at : the position at whose reading it crashes: the records before it are read as ever.
    append_at : the n-th record appended through it (from 1) at which it crashes.
    when : whether the append that crashes is in the log: "before" it is not, "after" it is. Never a part of it.
    """

    def __init__(
        self,
        log: EventLog,
        *,
        read_at: int | None = None,
        append_at: int | None = None,
        when: Literal["before", "after"] = "before",
    ) -> None:
        self._log, self._read_at, self._append_at, self._when = log, read_at, append_at, when
        self._appended = 0

    @property
    def partitions(self) -> int:
        """How many partitions there are."""
        return self._log.partitions

    def append(self, records: Sequence[bytes], partition: int = 0) -> int:
        """Append records, unless this is where it crashes."""
        crashes = self._append_at is not None and self._appended < self._append_at <= self._appended + len(
            records
        )
        self._appended += len(records)
        if not crashes:
            return self._log.append(records, partition)
        if self._when == "after":
            self._log.append(records, partition)
        raise Crash(f"appending record {self._append_at}")

    def read(self, after: int, limit: int, partition: int = 0) -> Batch:
        """Return the records that follow a position, up to where it crashes."""
        at = self._read_at
        if at is None or at <= after or at > after + limit or at > self._log.end(partition):
            return self._log.read(after, limit, partition)
        if at > after + 1:
            return self._log.read(after, at - after - 1, partition)
        self._read_at = None
        raise Crash(f"reading position {at}")

    def begin(self, partition: int = 0) -> int:
        """The position of the oldest record there is."""
        return self._log.begin(partition)

    def end(self, partition: int = 0) -> int:
        """The position of the last record."""
        return self._log.end(partition)

    def size_bytes(self, partition: int = 0) -> int:
        """The bytes of all records there are."""
        return self._log.size_bytes(partition)

    def trim(
        self,
        up_to: int,
        partition: int = 0,
        *,
        appended_before_ms: int | None = None,
        keep_bytes: int | None = None,
    ) -> int:
        """Remove the oldest records, and return how many."""
        return self._log.trim(up_to, partition, appended_before_ms=appended_before_ms, keep_bytes=keep_bytes)


@final
class SplitStore:
    """A `ModelStore` that breaks its promise: records in one commit, what goes with them in the next.

    A control for tests of crashes: whoever compares what is believed after a crash must find that this store fails.

    Parameters
    ----------
    store : what it stands before; everything but `writing` is left to it.
    dies_after : so many of its split commits that have records, after which the process kills itself between the two
        halves of the next one. None: it is left to others to kill it.
    pause_s : how long the halves are apart, so that those others find the time.
    """

    def __init__(self, store: ModelStore, *, dies_after: int | None = None, pause_s: float = 0.0) -> None:
        self._store, self._left, self._pause_s = store, dies_after, pause_s

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @contextmanager
    def writing(self, generation: int, partition: int) -> Iterator[Writing]:
        """Two transactions where there should be one."""
        with self._store.writing(generation, partition) as txn:
            split = _Split(txn)
            yield split
        if self._left is not None and split.state and split.has_records:
            self._left -= 1
            if self._left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self._pause_s)
        with self._store.writing(generation, partition) as txn:
            for key, value in split.state.items():
                txn.put_state(key, value)


@final
class _Split:
    """Lets records through, and holds state back."""

    def __init__(self, txn: Writing) -> None:
        self._txn = txn
        self.state: dict[bytes, bytes | None] = {}
        self.has_records = False

    def get_many(self, effect: str, names: Sequence[str]) -> Records:
        return self._txn.get_many(effect, names)

    def put_many(self, effect: str, names: Sequence[str], records: Records) -> None:
        self.has_records |= len(names) > 0
        self._txn.put_many(effect, names, records)

    def get_state(self, key: bytes) -> bytes | None:
        return self.state[key] if key in self.state else self._txn.get_state(key)

    def put_state(self, key: bytes, value: bytes | None) -> None:
        self.state[key] = value

    def states(self, prefix: bytes = b"") -> list[tuple[bytes, bytes]]:
        return self._txn.states(prefix)
