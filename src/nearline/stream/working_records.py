"""The records of one effect that a step works on: read when first asked for, changed in memory, written once."""

from collections.abc import Sequence
from typing import final

import numpy as np

from nearline.arrays import Ints
from nearline.store.records import Records
from nearline.store.seam import Writing
from nearline.stream.known_table import KnownTable
from nearline.stream.update import NEVER, Known


@final
class WorkingRecords:
    """Records of the entities numbered 0, 1, ... in the order in which they were asked for.

    `columns` of the effect; `full` whether its precisions are.
    """

    def __init__(self, txn: Writing, effect: str, columns: int, *, full: bool) -> None:
        self._txn, self._effect = txn, effect
        self._numbers: dict[str, int] = {}
        self._version, self._position, self._rows = (np.zeros(0, np.int64) for _ in range(3))
        self._changed = np.zeros(0, dtype=np.bool_)
        self._known = KnownTable(columns, full=full, whole=False)

    def numbers(self, names: Sequence[str]) -> Ints:
        """The number of each name, int64[n]."""
        numbers = self._numbers
        new = list(dict.fromkeys(name for name in names if name not in numbers))
        if new:
            self._load(new)
        return np.fromiter((numbers[name] for name in names), np.int64, len(names))

    def positions(self, names: Sequence[str]) -> Ints:
        """The last row of the row log that each entity has learned, int64[n]."""
        numbers = self.numbers(names)  # first, as it may replace the positions by more of them
        return self._position[numbers]

    def known(self, numbers: Ints) -> Known:
        """What is known of these entities."""
        return self._known.take(numbers)

    def put(self, numbers: Ints, known: Known, position: Ints, more_rows: Ints) -> None:
        """What is known of these entities now, up to which row, and how many rows more it contains."""
        self._known.put(numbers, known)
        self._position[numbers] = np.maximum(self._position[numbers], position)
        self._rows[numbers] += more_rows
        self._changed[numbers] = True

    def write(self) -> None:
        """Write the next record of every entity that has changed."""
        changed = np.flatnonzero(self._changed)
        if not len(changed):
            return
        names = list(self._numbers)
        known = self._known.take(changed)
        as_of_ms = np.where(known.as_of_ms == NEVER, 0, known.as_of_ms)
        records = Records(
            self._version[changed] + 1, self._position[changed], as_of_ms, self._rows[changed], known.evidence
        )
        self._txn.put_many(self._effect, [names[i] for i in changed.tolist()], records)

    def _load(self, names: Sequence[str]) -> None:
        records = self._txn.get_many(self._effect, names)
        begin = len(self._numbers)
        self._numbers.update((name, begin + i) for i, name in enumerate(names))
        self._version = np.concatenate([self._version, records.version])
        self._position = np.concatenate([self._position, records.position])
        self._rows = np.concatenate([self._rows, records.rows])
        self._changed = np.concatenate([self._changed, np.zeros(len(names), dtype=np.bool_)])
        as_of_ms = np.where(records.version > 0, records.as_of_ms, NEVER)
        self._known.put(np.arange(begin, begin + len(names)), Known(records.evidence, as_of_ms))
