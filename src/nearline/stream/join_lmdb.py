"""The join's state in an LMDB environment, inside a transaction of the caller."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, TypeAlias, final

import msgspec

from nearline.environment import Environment
from nearline.stream.join_state import Changes, Entry, Progress, Table, time_key

JOIN_TABLES = ("join-shown", "join-index", "join-waiting", "join-meta")
"""The named databases of the join's state, in the order of `JoinTables`."""

_PROGRESS = b"progress"
_progress = msgspec.msgpack.Decoder(Progress)
_LMDB: TypeAlias = Any  # the package has no types


@final
@dataclass(frozen=True, slots=True, eq=False)
class JoinTables:
    """The databases of the join's state."""

    shown: _LMDB
    index: _LMDB
    waiting: _LMDB
    meta: _LMDB

    @classmethod
    def of(cls, environment: Environment) -> "JoinTables":
        """Those of an environment that was opened with `JOIN_TABLES`."""
        return cls(*(environment[name] for name in JOIN_TABLES))


@final
class LmdbJoinState:
    """A `JoinState` within one write transaction: kept if the caller commits, as it was before if not."""

    def __init__(self, tables: JoinTables, transaction: _LMDB) -> None:
        self._meta, self._transaction = tables.meta, transaction
        self._tables: dict[Table, _LMDB] = {
            "shown": tables.shown,
            "index": tables.index,
            "waiting": tables.waiting,
        }

    def progress(self) -> Progress:
        """How far the join is."""
        stored = self._transaction.get(_PROGRESS, db=self._meta)
        return Progress() if stored is None else _progress.decode(stored)

    def between(self, table: Table, begin_ms: int, end_ms: int) -> list[Entry]:
        """Return the entries of these times."""
        end = (
            time_key(end_ms),
        )  # as a tuple it is above every entry with a smaller key, and below the others
        with self._transaction.cursor(self._tables[table]) as cursor:
            if end_ms <= begin_ms or not cursor.set_range(time_key(begin_ms)):
                return []
            return list(takewhile(end.__gt__, cursor.iternext()))

    def keys_between(self, table: Table, begin_ms: int, end_ms: int) -> list[bytes]:
        """Return their keys alone."""
        with self._transaction.cursor(self._tables[table]) as cursor:
            if end_ms <= begin_ms or not cursor.set_range(time_key(begin_ms)):
                return []
            return list(takewhile(time_key(end_ms).__gt__, cursor.iternext(keys=True, values=False)))

    def get_many(self, table: Table, keys: Sequence[bytes]) -> list[Entry]:
        """Return the entries under these keys."""
        if not keys:
            return []
        with self._transaction.cursor(self._tables[table]) as cursor:
            found: list[Entry] = cursor.getmulti(keys)
        return found

    def save(self, progress: Progress, changes: dict[Table, Changes]) -> None:
        """Keep what a run of events changed."""
        delete = self._transaction.delete
        for table, of_table in changes.items():
            database = self._tables[table]
            for key in of_table.gone:
                delete(key, b"", database)
            if of_table.put:
                with self._transaction.cursor(database) as cursor:
                    cursor.putmulti(of_table.put)
        self._transaction.put(_PROGRESS, msgspec.msgpack.encode(progress), db=self._meta)
