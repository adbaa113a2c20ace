"""One transaction on one partition: what was read and written so far -> one commit, or nothing."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeAlias, final

import numpy as np

from nearline.arrays import Columns
from nearline.errors import DataError, ModelError, StaleWriteError
from nearline.store.codec import Value, decode_named, encode_records, versions_of
from nearline.store.generations import Generation
from nearline.store.records import Records

LONGEST_STATE_KEY = 500
FEED = 256
"""Commits that a feed of changes reaches back."""

Values: TypeAlias = Mapping[str, Mapping[str, bytes]]
"""Encoded records by effect and name."""


class Shard(Protocol):
    """Where one partition of one generation lies: values and state, changed by whole commits alone."""

    def commit(self) -> int:
        """How many commits there have been."""

    def reading(self, effect: str, names: Sequence[str]) -> AbstractContextManager[list[Value | None]]:
        """The encoded record of each name, from one state of the shard; not to be used after the block."""

    def state(self, key: bytes) -> bytes | None:
        """What is kept under the key."""

    def states(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        """Keys that begin so with their values, in the order of their bytes."""

    def apply(self, base: int, records: Values, state: Mapping[bytes, bytes | None]) -> None:
        """Commit number base + 1; raises `StaleWriteError` and changes nothing if `base` is not the last one."""


@final
class Transaction:
    """Gathers what is written and applies it at once: see `nearline.store.seam.Writing`.

    Nothing is locked meanwhile. A commit by someone else in between is found when this one is applied, so that
    what was read here is what is there.
    """

    def __init__(
        self,
        generation: Generation,
        partition: int,
        partitions_of: Callable[[str, Sequence[str]], Columns],
        shard: Shard,
    ) -> None:
        self._generation = generation
        self._partition = partition
        self._partitions_of = partitions_of
        self._shard = shard
        self._base = shard.commit()
        self._versions: dict[str, dict[str, int]] = {}
        self._records: dict[str, dict[str, bytes]] = {}
        self._state: dict[bytes, bytes | None] = {}

    def get_many(self, effect: str, names: Sequence[str]) -> Records:
        """The record of each name, in order; of an entity nobody has seen, version 0 and no evidence."""
        full = self._generation.is_full(effect)
        with self._shard.reading(effect, names) as values:
            written = self._records.get(effect, {})
            latest = [written.get(name, value) for name, value in zip(names, values, strict=True)]
            records = decode_named(effect, names, latest, full=full)
        self._versions.setdefault(effect, {}).update(zip(names, records.version.tolist(), strict=True))
        return records

    def put_many(self, effect: str, names: Sequence[str], records: Records) -> None:
        """Write the next record of each name; refused where its version is not one more than what is there."""
        if records.evidence.full is not self._generation.is_full(effect):
            raise ModelError(
                f"{effect}: expected records whose precisions are as in the model: full or diagonal"
            )
        self._require_names(effect, names, records)
        self._require_next(effect, names, records)
        values = encode_records(records, single=self._generation.single)
        self._records.setdefault(effect, {}).update(zip(names, values, strict=True))
        self._versions[effect].update(zip(names, records.version.tolist(), strict=True))

    def get_state(self, key: bytes) -> bytes | None:
        """What was last put under that key."""
        return self._state[key] if key in self._state else self._shard.state(key)

    def put_state(self, key: bytes, value: bytes | None) -> None:
        """Keep `value` beside the records, or drop the key if it is None."""
        if not 1 <= len(key) <= LONGEST_STATE_KEY:
            raise DataError(f"key of state: expected 1 to {LONGEST_STATE_KEY} bytes, got {len(key)}")
        self._state[key] = None if value is None else bytes(value)

    def states(self, prefix: bytes = b"") -> list[tuple[bytes, bytes]]:
        """Keys that begin so with their values, in the order of their bytes."""
        found: dict[bytes, bytes | None] = dict(self._shard.states(prefix))
        found |= {key: value for key, value in self._state.items() if key.startswith(prefix)}
        return [(key, value) for key, value in sorted(found.items()) if value is not None]

    def commit(self) -> None:
        """Apply what was written, if anything."""
        if self._records or self._state:
            self._shard.apply(self._base, self._records, self._state)

    def _require_names(self, effect: str, names: Sequence[str], records: Records) -> None:
        if len(names) != len(records):
            raise DataError(f"{effect}: expected a record for each of {len(names)} names, got {len(records)}")
        if len(set(names)) < len(names):
            twice = sorted(name for name in set(names) if list(names).count(name) > 1)[0]
            raise ModelError(f"{effect}: expected each entity once, got {twice!r} more than once")
        places = self._partitions_of(effect, names)
        if (elsewhere := places != self._partition).any():
            first = int(np.flatnonzero(elsewhere)[0])
            raise ModelError(
                f"{effect}: entity {names[first]!r} belongs to partition {places[first]}, not {self._partition}"
            )

    def _require_next(self, effect: str, names: Sequence[str], records: Records) -> None:
        versions = self._versions.setdefault(effect, {})
        if unread := [name for name in names if name not in versions]:
            with self._shard.reading(effect, unread) as values:
                versions.update(zip(unread, versions_of(values), strict=True))
        expected = np.fromiter((versions[name] for name in names), np.int64, len(names)) + 1
        if stale := np.flatnonzero(records.version != expected).tolist():
            first = stale[0]
            raise StaleWriteError(
                f"{effect}: expected version {expected[first]} of {names[first]!r}, got {records.version[first]}: "
                f"{len(stale)} of {len(names)} records are not the next ones; read them again",
                tuple(names[i] for i in stale),
            )


def stale(base: int, commit: int) -> StaleWriteError:
    """The error of a transaction that began at commit `base` and finds another one there."""
    return StaleWriteError(
        f"expected commit {base} to be the last, found {commit}: someone else has written to this partition; "
        "read its state again"
    )
