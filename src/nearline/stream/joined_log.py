"""The join on disk: what it remembers, the rows it has made and its dead letters, in one LMDB environment.

A run of events changes all of them in one transaction, or none. Rows have positions of their own in each partition;
because the join is a function of the order of the log alone, a row has the same position however often it is made.
"""

from pathlib import Path
from struct import Struct
from typing import final

from nearline.arrays import Ints
from nearline.environment import Environment, Transaction
from nearline.errors import LogError
from nearline.events.blocks import append_in, appended_in, head_in, read_in, trim_in
from nearline.events.dead_letters import DeadLetter, decode_dead_letter, encode_dead_letter
from nearline.events.log import Batch
from nearline.stream.join import Join
from nearline.stream.join_lmdb import JOIN_TABLES, JoinTables, LmdbJoinState
from nearline.stream.join_state import Progress
from nearline.stream.joined import Joined

_ROWS, _DEAD = "rows", "dead"
_POSITION = Struct(">Q")
_FORMAT_KEY, _FORMAT = b"format", b"2"


@final
class JoinedLog:
    """Labelled examples by partition, and the join that makes them; one process joins, any number read.

    `folder` is made if it is not there. Raises a `LogError` if it was made by another version and cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._environment = Environment(folder, [_ROWS, _DEAD, *JOIN_TABLES], refusal=LogError)
        self._tables = JoinTables.of(self._environment)
        try:
            self._agree_on_format(folder)
        except BaseException:
            self._environment.close()
            raise

    def _agree_on_format(self, folder: Path) -> None:
        meta = self._tables.meta
        with self._environment.read() as txn:
            found = txn.get(_FORMAT_KEY, db=meta)
            is_new = found is None and txn.get(b"progress", db=meta) is None
        if is_new:
            self._environment.write(lambda txn: txn.put(_FORMAT_KEY, _FORMAT, db=meta))
        elif found != _FORMAT:
            raise LogError(
                f"{folder}: expected a joined log of format {int(_FORMAT)}, got {int(found or 1)}: it was made by "
                "another version of nearline; join the log anew into an empty folder"
            )

    def progress(self) -> Progress:
        """How far the join is, and where every event went."""
        with self._environment.read() as txn:
            return LmdbJoinState(self._tables, txn).progress()

    def join(self, join: Join, events: Batch, now_ms: int) -> Joined:
        """Join the events, which follow those joined so far; on disk when this returns.

        `now_ms` is the time at which the rows are appended, for `trim`.
        """

        def work(txn: Transaction) -> Joined:
            joined = join.push(events.first, events.records, LmdbJoinState(self._tables, txn))
            for partition, rows in joined.rows.items():
                append_in(txn, self._environment[_ROWS], partition, rows, now_ms)
            for letter in joined.dead:
                key = _POSITION.pack(letter.position)
                txn.put(key, encode_dead_letter(letter), db=self._environment[_DEAD])
            return joined

        return self._environment.write(work)

    def read(self, after: int, limit: int, partition: int) -> Batch:
        """Up to `limit` rows of a partition that follow position `after`; none beyond the end."""
        with self._environment.read() as txn:
            end = head_in(txn, self._environment[_ROWS], partition).end
            return read_in(txn, self._environment[_ROWS], partition, min(after, end), limit)

    def read_appended(self, after: int, limit: int, partition: int) -> tuple[Batch, Ints]:
        """What `read` returns, and when each row was appended, int64, in milliseconds since 1970 (UTC)."""
        with self._environment.read() as txn:
            rows = self._environment[_ROWS]
            after = min(after, head_in(txn, rows, partition).end)
            return (
                read_in(txn, rows, partition, after, limit),
                appended_in(txn, rows, partition, after, limit),
            )

    def begin(self, partition: int) -> int:
        """The position of the oldest row there is; one beyond the end where there is none."""
        with self._environment.read() as txn:
            return head_in(txn, self._environment[_ROWS], partition).begin

    def end(self, partition: int) -> int:
        """The position of the partition's last row; 0 where there never was one."""
        with self._environment.read() as txn:
            return head_in(txn, self._environment[_ROWS], partition).end

    def trim(self, up_to: int, partition: int, *, appended_before_ms: int | None = None) -> int:
        """Remove the oldest rows of a partition, none after position `up_to`; returns how many.

        With `appended_before_ms`, none that was appended then or later.
        """

        def some(txn: Transaction) -> int:
            rows = self._environment[_ROWS]
            return trim_in(txn, rows, partition, up_to, appended_before_ms=appended_before_ms)

        removed = 0
        while now := self._environment.write(some):
            removed += now
        return removed

    def dead_letters(self, after: int = 0, limit: int = 100) -> list[DeadLetter]:
        """Up to `limit` dead letters of the join from beyond position `after` of the log, in order."""
        letters: list[DeadLetter] = []
        with self._environment.read() as txn, txn.cursor(self._environment[_DEAD]) as cursor:
            found = cursor.set_range(_POSITION.pack(after + 1))
            while found and len(letters) < limit:
                letters.append(decode_dead_letter(cursor.value()))
                found = cursor.next()
        return letters

    def newest_dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """Up to `limit` dead letters of the join, the newest first."""
        letters: list[DeadLetter] = []
        with self._environment.read() as txn, txn.cursor(self._environment[_DEAD]) as cursor:
            found = cursor.last()
            while found and len(letters) < limit:
                letters.append(decode_dead_letter(cursor.value()))
                found = cursor.prev()
        return letters

    def close(self) -> None:
        """Let go of the files."""
        self._environment.close()
