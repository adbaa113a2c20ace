"""Rows of entities, sorted -> where their mini-batches end: all at once, or one of each entity at a time."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, final

import numpy as np

from nearline.arrays import Bools, Floats, Ints
from nearline.stream.minibatch_settings import MiniBatchSettings

Gain: TypeAlias = Callable[[Ints], Floats]
"""Positions of rows to what each would teach by the belief its entity has now; see `expected_gain`."""

_NOT_DUE = np.iinfo(np.int64).max
_UNITS = 2.0**32
"""Gains are added as whole multiples of 2**-32, so that sums do not depend on how rows are cut."""
_MOST_GAIN = 2.0**20
_FEW = 32
"""Entities, for which a call of NumPy each is quicker than calls for all together as often as one needs."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class WaitingRows:
    """Rows in order of arrival.

    code: int64[n], of the entity. position, clock_ms: int64[n]; the clock as the row came.
    counts: bool[n], False for a row that must not be the last of its mini-batch.
    gain: int64[n] in units of 2**-32, -1 where not known.
    """

    code: Ints
    position: Ints
    clock_ms: Ints
    counts: Bools
    gain: Ints

    def __len__(self) -> int:
        return len(self.code)

    def take(self, rows: Ints | Bools) -> "WaitingRows":
        """Those of the rows, by place or by mask."""
        return WaitingRows(
            self.code[rows], self.position[rows], self.clock_ms[rows], self.counts[rows], self.gain[rows]
        )

    def then(self, later: "WaitingRows") -> "WaitingRows":
        """These rows, and later ones."""
        return WaitingRows(
            np.concatenate([self.code, later.code]),
            np.concatenate([self.position, later.position]),
            np.concatenate([self.clock_ms, later.clock_ms]),
            np.concatenate([self.counts, later.counts]),
            np.concatenate([self.gain, later.gain]),
        )


_NONE = np.zeros(0, np.int64)
NO_ROWS = WaitingRows(_NONE, _NONE, _NONE, np.zeros(0, np.bool_), _NONE)


def expected_gain(variance: Floats, curvature: Floats, weight: Floats) -> Floats:
    """Return what a row would teach, in nats: 1/2 log(1 + weight curvature x' P^-1 x).

    It is the entropy that the entity's belief loses by the row: log det of its precision, halved, after minus before
    (matrix determinant lemma). `variance` float64[n] is x' P^-1 x of the row under its entity's belief.
    """
    return np.asarray(0.5 * np.log1p(np.maximum(weight, 0.0) * curvature * variance), dtype=np.float64)


@final
class Borders:
    """Finds the ends of mini-batches: all of every entity's, or the next of each, again and again.

    Rows are sorted by entity and in order within; `arrival` int64[n] is each row's place among the rows that moved the
    clock, -1 if it waited before, and `clock_ms` the clock at each such place.
    """

    def __init__(
        self, settings: MiniBatchSettings, rows: WaitingRows, arrival: Ints, clock_ms: Ints, gain: Gain | None
    ) -> None:
        self.rows, self.gain = rows, rows.gain.copy()
        self._settings, self._ask = settings, gain
        self._clock_ms = clock_ms
        edge = np.flatnonzero(np.diff(rows.code)) + 1
        self._begin = np.concatenate([[0], edge]).astype(np.int64)
        self._end = np.concatenate([edge, [len(rows)]]).astype(np.int64)
        self._counted = np.cumsum(rows.counts)
        self._places = len(clock_ms) + 1
        self._entity = np.repeat(np.arange(len(self._begin)), self._end - self._begin)
        self._place = self._entity * self._places + arrival + 1
        self._active = np.arange(len(self._begin))

    def all_due(self) -> tuple[Ints, Ints, Ints]:
        """How many mini-batches each entity has, and where they begin and end, those of an entity in their order.

        For settings that do not ask for information. Then the end of a mini-batch depends on its beginning alone: while
        many entities have another one, the next of each is found in one go; for the last few the ends of those from any
        row on are, and the real ones by walking from end to end.
        """
        assert self._settings.information is None  # noqa: S101
        found: list[tuple[Ints, Ints, Ints]] = []
        active = self._active
        while len(active) > _FEW:
            begin = self._begin[active]
            end = self._ends(active, begin)
            is_due = end != _NOT_DUE
            active, begin, end = active[is_due], begin[is_due], end[is_due].astype(np.int64)
            found.append((active, begin, end))
            self._begin[active] = end
            active = active[end < self._end[active]]
        found += [self._walk(one) for one in active.tolist()]
        if not found:
            return np.zeros(len(self._begin), np.int64), _NONE, _NONE
        entity, begin, end = (np.concatenate(each) for each in zip(*found, strict=True))
        order = np.argsort(entity, kind="stable")
        return np.bincount(entity, minlength=len(self._begin)), begin[order], end[order]

    def _walk(self, entity: int) -> tuple[Ints, Ints, Ints]:
        """The entity of each of its mini-batches, and where they begin and end."""
        first, last = int(self._begin[entity]), int(self._end[entity])
        rows = np.arange(first, last)
        following = self._ends(np.full(len(rows), entity), rows).tolist()
        borders = [first]
        while borders[-1] < last and (after := following[borders[-1] - first]) != _NOT_DUE:
            borders.append(after)
        self._begin[entity] = borders[-1]
        border = np.array(borders, dtype=np.int64)
        return np.full(len(border) - 1, entity), border[:-1], border[1:]

    def next_due(self) -> tuple[Ints, Ints] | None:
        """Return where the next mini-batches begin and end; None when no entity has one."""
        active = self._active
        begin = self._begin[active]
        end = self._ends(active, begin)
        if self._settings.information is not None:
            end = np.minimum(end, self._end_by_information(active, begin, end))
        is_due = end != _NOT_DUE
        active, begin, end = active[is_due], begin[is_due], end[is_due].astype(np.int64)
        self._begin[active] = end
        self._active = active[end < self._end[active]]
        if self._settings.information is not None:
            self._void_gains(self._active)
        return (begin, end) if len(active) else None

    def _void_gains(self, active: Ints) -> None:
        """An entity that learns has another belief: what was known of its later rows no longer holds."""
        begin = self._begin[active]
        size = self._end[active] - begin
        self.gain[np.repeat(begin - (np.cumsum(size) - size), size) + np.arange(int(size.sum()))] = -1

    def left(self) -> Bools:
        """Which rows are in no mini-batch so far, bool[n]."""
        return np.asarray(np.arange(len(self.rows)) >= self._begin[self._entity], dtype=np.bool_)

    def _ends(self, entity: Ints, begin: Ints) -> Ints:
        """Where mini-batches of entities end that begin at these rows, by number and by age; `_NOT_DUE` of others."""
        before: Ints = self._counted[begin] - self.rows.counts[begin]
        full: Ints = np.searchsorted(self._counted, before + self._settings.rows) + 1
        end: Ints = np.where(full <= self._end[entity], full, _NOT_DUE)
        if self._settings.age_ms is not None:
            end = np.minimum(end, self._end_by_age(entity, begin, self._settings.age_ms))
        return end

    def _end_by_age(self, active: Ints, begin: Ints, age_ms: int) -> Ints:
        """The rows that came before the first place from which on the first row is too old."""
        place = np.searchsorted(self._clock_ms, self.rows.clock_ms[begin] + age_ms)
        end = np.searchsorted(self._place, active * self._places + place + 1)
        return np.where(place < len(self._clock_ms), end, _NOT_DUE)

    def _end_by_information(self, active: Ints, begin: Ints, latest: Ints) -> Ints:
        """The row with which the sum of the gains reaches the bound."""
        assert self._settings.information is not None  # noqa: S101
        size = np.minimum(latest, self._end[active]) - begin
        before = np.cumsum(size) - size
        at = np.repeat(begin - before, size) + np.arange(int(size.sum()))
        self._learn_gains(at)
        total = np.cumsum(self.gain[at])
        offset = np.where(before > 0, total[before - 1], 0)
        bound = max(1, round(self._settings.information * _UNITS))
        reached = np.searchsorted(total, offset + bound)
        return np.where(reached < before + size, begin + reached - before + 1, _NOT_DUE)

    def _learn_gains(self, at: Ints) -> None:
        """Ask for the gains that are not known by the present beliefs."""
        unknown = at[self.gain[at] < 0]
        if len(unknown):
            assert self._ask is not None  # noqa: S101
            gain = np.nan_to_num(self._ask(self.rows.position[unknown]), nan=0.0, posinf=_MOST_GAIN)
            units = np.rint(np.clip(gain, 0.0, _MOST_GAIN) * _UNITS).astype(np.int64)
            self.gain[unknown] = np.where(self.rows.counts[unknown], units, 0)
