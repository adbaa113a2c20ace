"""One partition of one generation in an LMDB environment of its own: records, state, history, changes.

::

    records   effect, zero byte, name                        -> the record (`nearline.store.codec`)
    history   the same, version as 8 bytes, big endian       -> the record of that version, for some earlier ones
    state     key                                            -> value
    feed      number of a commit as 8 bytes, big endian      -> MessagePack: effect -> names written, for the last 256
    names     key of a record whose name was cut             -> the name

A key of more than 492 bytes is cut to 460 of them, a byte 0xFF, which UTF-8 does not have, and the SHA-256 of the
whole key.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from struct import Struct
from typing import Any, final

import msgspec

from nearline.environment import Environment, Transaction
from nearline.errors import ModelError
from nearline.store.codec import Value, versions_of
from nearline.store.seam import Changes
from nearline.store.transaction import FEED, Values, stale

_DATABASES = ("records", "history", "state", "feed", "names")
_LONGEST, _CUT = 492, 460
_NUMBER = Struct(">Q")
_FEED: msgspec.msgpack.Decoder[dict[str, list[str]]] = msgspec.msgpack.Decoder(dict[str, list[str]])


@final
class LmdbShard:
    """A partition in a folder: see `nearline.store.transaction.Shard`. `history`: earlier versions to keep."""

    def __init__(self, folder: Path, *, history: int, map_bytes: int) -> None:
        self._environment = Environment(folder, _DATABASES, refusal=ModelError, map_bytes=map_bytes)
        self._history = history

    def stamp(self) -> int:
        """A number that is another one after each commit."""
        return self._environment.last_commit()

    def commit(self) -> int:
        """How many commits there have been."""
        with self._environment.read() as txn:
            return self._last_commit(txn)

    @contextmanager
    def reading(self, effect: str, names: Sequence[str]) -> Iterator[list[Value | None]]:
        """The encoded record of each name, where it lies in the file; not to be used after the block."""
        database = self._environment["records"]
        keys = _keys(effect, names)
        with self._environment.read(buffers=True) as txn:
            get = txn.get
            yield [get(key, None, database) for key in keys]

    def state(self, key: bytes) -> bytes | None:
        """What is kept under the key."""
        with self._environment.read() as txn:
            found: bytes | None = txn.get(key, db=self._environment["state"])
            return found

    def states(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        """Keys that begin so with their values, in the order of their bytes."""
        with self._environment.read() as txn:
            cursor = txn.cursor(self._environment["state"])
            return list(_beginning(cursor, prefix))

    def history(self, effect: str, name: str) -> list[bytes]:
        """The versions of a record that are kept, oldest first, the present one last."""
        (key,) = _keys(effect, [name])
        with self._environment.read() as txn:
            cursor = txn.cursor(self._environment["history"])
            kept = [value for at, value in _beginning(cursor, key) if len(at) == len(key) + _NUMBER.size]
            present: bytes | None = txn.get(key, db=self._environment["records"])
        return [*kept, *([] if present is None else [present])]

    def names(self, effect: str) -> list[str]:
        """The entities of an effect that have a record."""
        prefix = effect.encode() + b"\0"
        found = []
        with self._environment.read() as txn:
            cursor = txn.cursor(self._environment["records"])
            more = cursor.set_range(prefix)
            while more and (key := cursor.key()).startswith(prefix):
                name = (
                    txn.get(key, db=self._environment["names"]) if len(key) > _LONGEST else key[len(prefix) :]
                )
                found.append(name.decode())
                more = cursor.next()
        return found

    def count(self) -> int:
        """How many records there are."""
        with self._environment.read() as txn:
            return int(txn.stat(self._environment["records"])["entries"])

    def changes(self, since: int) -> Changes:
        """What was written after commit number `since`."""
        names: dict[str, dict[str, None]] = {}
        with self._environment.read() as txn:
            commit = self._last_commit(txn)
            if not commit - FEED <= since <= commit:
                return Changes(commit, None)
            cursor = txn.cursor(self._environment["feed"])
            more = cursor.set_range(_NUMBER.pack(since + 1)) if since < commit else False
            while more:
                for effect, entities in _FEED.decode(cursor.value()).items():
                    names.setdefault(effect, {}).update(dict.fromkeys(entities))
                more = cursor.next()
        return Changes(commit, {effect: tuple(entities) for effect, entities in names.items()})

    def apply(self, base: int, records: Values, state: Mapping[bytes, bytes | None]) -> None:
        """Commit number base + 1; refused if `base` is not the last one."""
        items: list[tuple[bytes, bytes]] = []
        cut: list[tuple[bytes, bytes]] = []
        for effect, values in records.items():
            keys = _keys(effect, list(values))
            items.extend(zip(keys, values.values(), strict=True))
            cut += [
                (key, name.encode()) for key, name in zip(keys, values, strict=True) if len(key) > _LONGEST
            ]
        items.sort()
        changed = msgspec.msgpack.encode({effect: list(values) for effect, values in records.items()})

        def work(txn: Transaction) -> None:
            if (commit := self._last_commit(txn)) != base:
                raise stale(base, commit)
            if self._history:
                self._keep_history(txn, items)
            txn.cursor(self._environment["records"]).putmulti(items)
            txn.cursor(self._environment["names"]).putmulti(cut)
            for key, value in sorted(state.items()):
                if value is None:
                    txn.delete(key, db=self._environment["state"])
                else:
                    txn.put(key, value, db=self._environment["state"])
            feed = self._environment["feed"]
            txn.put(_NUMBER.pack(base + 1), changed, db=feed)
            if base >= FEED:
                txn.delete(_NUMBER.pack(base + 1 - FEED), db=feed)

        self._environment.write(work)

    def close(self) -> None:
        """Let go of the files."""
        self._environment.close()

    def _last_commit(self, txn: Transaction) -> int:
        cursor = txn.cursor(self._environment["feed"])
        return int(_NUMBER.unpack(cursor.key())[0]) if cursor.last() else 0

    def _keep_history(self, txn: Transaction, items: Sequence[tuple[bytes, bytes]]) -> None:
        """Put aside the records that are about to be replaced, and drop those that are too old."""
        history = self._environment["history"]
        replaced = [txn.get(key, db=self._environment["records"]) for key, _ in items]
        for (key, _), value, version in zip(items, replaced, versions_of(replaced), strict=True):
            if value is not None:
                txn.put(key + _NUMBER.pack(version), value, db=history)
            if version > self._history:
                txn.delete(key + _NUMBER.pack(version - self._history), db=history)


def _beginning(cursor: Any, prefix: bytes) -> list[tuple[bytes, bytes]]:
    """Keys that begin so with their values, in order."""
    found = []
    more = cursor.set_range(prefix) if prefix else cursor.first()
    while more and (key := cursor.key()).startswith(prefix):
        found.append((key, cursor.value()))
        more = cursor.next()
    return found


def _keys(effect: str, names: Sequence[str]) -> list[bytes]:
    keys = [f"{effect}\0{name}".encode() for name in names]
    if keys and max(map(len, keys)) > _LONGEST:
        keys = [key if len(key) <= _LONGEST else key[:_CUT] + b"\xff" + sha256(key).digest() for key in keys]
    return keys
