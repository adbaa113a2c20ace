"""What is known of all entities of one effect, in memory: gathered for a step, and put back after it."""

from dataclasses import replace
from typing import final

import numpy as np

from nearline.arrays import Columns, Floats, Ints
from nearline.posterior.blocks import Blocks, packed_starts, whole_layout
from nearline.stream.update import NEVER, Known

WHOLE_COLUMNS = 64
"""Up to so many columns every entity's block holds all of them, and gathering is one look-up."""
_FEW = 64


@final
class KnownTable:
    """What is known of entities 0, 1, 2, ...; those never put are known by the prior alone.

    `whole` : whether every block holds every column, which is faster, or only the columns its rows touched, as is best
        for many columns; by default the former up to `WHOLE_COLUMNS` columns.
    """

    def __init__(self, columns: int, *, full: bool, whole: bool | None = None) -> None:
        self._columns, self._full = columns, full
        self._as_of_ms = np.full(0, NEVER, dtype=np.int64)
        self._whole = columns <= WHOLE_COLUMNS if whole is None else whole
        self._columns_of_few = np.tile(np.arange(columns, dtype=np.int32), _FEW if self._whole else 0)
        size = columns * (columns + 1) // 2 if full else columns
        self._shift, self._precision = np.zeros((0, columns)), np.zeros((0, size))
        self._column = np.arange(columns, dtype=np.int32)
        self._ragged: dict[int, tuple[Columns, Floats, Floats]] = {}
        self._last: tuple[Ints, Blocks] | None = None
        """What was put last stays in one piece until other entities are asked for: most often they are the same."""
        self._nothing = np.zeros(0, dtype=np.int32), np.zeros(0), np.zeros(0)

    @property
    def learned(self) -> Ints:
        """The entities that have learned something, ascending."""
        return np.flatnonzero(self._as_of_ms > NEVER)

    def take(self, entity: Ints) -> Known:
        """What is known of the entities numbered, in that order; a number may come more than once."""
        self._grow(entity)
        as_of_ms = self._as_of_ms[entity]
        if not self._whole:
            return Known(self._take_ragged(entity), as_of_ms)
        start = whole_layout(len(entity), self._columns)
        few = len(entity) <= _FEW
        column = self._columns_of_few[: start[-1]] if few else np.tile(self._column, len(entity))
        shift, precision = self._shift[entity].ravel(), self._precision[entity].ravel()
        packed_start = whole_layout(len(entity), self._precision.shape[1]) if self._full else None
        return Known(Blocks(start, shift, precision, column, packed_start, self._full), as_of_ms)

    def put(self, entity: Ints, known: Known) -> None:
        """Put back what is known of the entities numbered, each of them once."""
        self._grow(entity)
        self._as_of_ms[entity] = known.as_of_ms
        evidence = known.evidence
        if self._whole:
            self._shift[entity] = evidence.mean.reshape(len(entity), self._columns)
            self._precision[entity] = evidence.precision.reshape(len(entity), self._precision.shape[1])
            return
        if evidence.column is None:
            evidence = replace(evidence, column=np.tile(self._column, len(entity)))
        if self._last is not None and not np.array_equal(entity, self._last[0]):
            self._spread(*self._last)
        self._last = entity, evidence

    def _spread(self, entity: Ints, evidence: Blocks) -> None:
        """Keep what was put for each entity by itself."""
        column = evidence.column
        assert column is not None  # noqa: S101 - see put
        start = evidence.start.tolist()
        packed = start if evidence.packed_start is None else evidence.packed_start.tolist()
        shift, precision, ragged = evidence.mean, evidence.precision, self._ragged
        for e, i, j, p, q in zip(entity.tolist(), start, start[1:], packed, packed[1:], strict=False):
            ragged[e] = column[i:j], shift[i:j], precision[p:q]

    def _take_ragged(self, entity: Ints) -> Blocks:
        if self._last is not None:
            if np.array_equal(entity, self._last[0]):
                return self._last[1]
            self._spread(*self._last)
            self._last = None
        parts = [self._ragged.get(e, self._nothing) for e in entity.tolist()]
        start = np.zeros(len(parts) + 1, dtype=np.int64)
        np.cumsum([len(part[0]) for part in parts], out=start[1:])
        column, shift, precision = (np.concatenate([part[i] for part in parts]) for i in range(3))
        packed_start = packed_starts(start) if self._full else None
        return Blocks(start, shift, precision, column, packed_start, self._full)

    def _grow(self, entity: Ints) -> None:
        needed = int(entity.max(initial=-1)) + 1
        have = len(self._as_of_ms)
        if needed <= have:
            return
        more = max(needed - have, have, 64)
        self._as_of_ms = np.concatenate([self._as_of_ms, np.full(more, NEVER, dtype=np.int64)])
        if self._whole:
            self._shift = np.concatenate([self._shift, np.zeros((more, self._columns))])
            self._precision = np.concatenate([self._precision, np.zeros((more, self._precision.shape[1]))])
