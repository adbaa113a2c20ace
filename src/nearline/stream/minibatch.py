"""Rows in order -> mini-batches: which rows of which entity are to be learned together, and when.

A mini-batch of an entity ends with the row that makes it large enough or informative enough, or before the first row
of anybody from which on it is too old. Time is the latest time among the rows so far. So the borders follow from the
rows alone: however the rows are cut into calls, every entity has the same mini-batches in the same order.

All waiting rows are known from two numbers, `MiniBatches.resume`, and from the position up to which each entity has
learned, because an entity learns its rows in order.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias, final

import numpy as np

from nearline.arrays import Bools, Floats, Ints
from nearline.errors import ConfigError, DataError

Gain: TypeAlias = Callable[[Ints], Floats]
"""Positions of rows to what each would teach by the belief its entity has now; see `expected_gain`."""

_NOT_DUE = np.iinfo(np.int64).max
_UNITS = 2.0**32
"""Gains are added as whole multiples of 2**-32, so that sums do not depend on how rows are cut."""
_MOST_GAIN = 2.0**20


@final
@dataclass(frozen=True, slots=True)
class MiniBatchSettings:
    """When the rows of an entity are due; the first rule that holds decides.

    Attributes
    ----------
    rows : so many wait.
    age_ms : the first of them has waited so long, in event time; None: no matter how long.
    information : they would teach so much, as the sum of `expected_gain`: a new entity learns from every row, one
        well known waits; None: no matter how much.
    max_waiting : when so many rows wait in all, those that have waited longest are due, down to half of it.

    Raises
    ------
    ConfigError
        A value outside its range.
    """

    rows: int = 8
    age_ms: int | None = None
    information: float | None = None
    max_waiting: int = 100_000

    def __post_init__(self) -> None:
        for name, least in (("rows", 1), ("age_ms", 1), ("max_waiting", 2)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"minibatch.{name}: expected {least} or more, got {value}")
        if self.information is not None and not 0.0 < self.information < np.inf:
            raise ConfigError(f"minibatch.information: expected a number above 0, got {self.information}")


@final
@dataclass(frozen=True, slots=True, eq=False)
class Numbered:
    """The entity of each of n rows: names[code], none where the code is -1. `code` int64[n]."""

    code: Ints
    names: Sequence[str]


@final
@dataclass(frozen=True, slots=True, eq=False)
class DueRows:
    """A mini-batch of each of some entities.

    entity: m of them, each once. start: int64[m + 1], entity e owns position[start[e] : start[e + 1]].
    position: int64[rows], ascending for each entity.
    """

    entity: Numbered
    start: Ints
    position: Ints

    @property
    def entities(self) -> list[str]:
        """The names."""
        return [self.entity.names[code] for code in self.entity.code.tolist()]


@final
@dataclass(frozen=True, slots=True)
class Resume:
    """Where to read on from: all waiting rows come after `position`, when event time was `clock_ms`."""

    position: int
    clock_ms: int


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
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

    def take(self, rows: Ints | Bools) -> "_Rows":
        return _Rows(
            self.code[rows], self.position[rows], self.clock_ms[rows], self.counts[rows], self.gain[rows]
        )

    def then(self, later: "_Rows") -> "_Rows":
        return _Rows(
            np.concatenate([self.code, later.code]),
            np.concatenate([self.position, later.position]),
            np.concatenate([self.clock_ms, later.clock_ms]),
            np.concatenate([self.counts, later.counts]),
            np.concatenate([self.gain, later.gain]),
        )


_NONE = np.zeros(0, np.int64)
_NO_ROWS = _Rows(_NONE, _NONE, _NONE, np.zeros(0, np.bool_), _NONE)


def expected_gain(variance: Floats, curvature: Floats, weight: Floats) -> Floats:
    """Return what a row would teach, in nats: 1/2 log(1 + weight curvature x' P^-1 x).

    It is the entropy that the entity's belief loses by the row: log det of its precision, halved, after minus before
    (matrix determinant lemma). `variance` float64[n] is x' P^-1 x of the row under its entity's belief.
    """
    return np.asarray(0.5 * np.log1p(np.maximum(weight, 0.0) * curvature * variance), dtype=np.float64)


@final
class MiniBatches:
    """Waiting rows of the entities of one effect in one partition.

    Parameters
    ----------
    settings : when rows are due.
    resume : where reading goes on from after a restart; the rows that follow are pushed again, those learned before
        with None as their entity.
    """

    def __init__(self, settings: MiniBatchSettings, resume: Resume | None = None) -> None:
        self.settings = settings
        self._resume = resume or Resume(0, -1)
        self._last, self._clock_ms = self._resume.position, self._resume.clock_ms
        self._waiting = _NO_ROWS
        self._codes: dict[str, int] = {}
        self._names: list[str] = []

    def __len__(self) -> int:
        """How many rows wait."""
        return len(self._waiting)

    @property
    def waiting(self) -> Ints:
        """The positions of the rows that wait, int64[n], ascending."""
        return self._waiting.position

    @property
    def resume(self) -> Resume:
        """Where to read on from after a restart, once all that was due is learned and durable."""
        if not len(self._waiting):
            return Resume(self._last, self._clock_ms)
        return Resume(int(self._waiting.position[0]) - 1, int(self._waiting.clock_ms[0]))

    def push(
        self,
        position: Ints,
        time_ms: Ints,
        entities: Sequence[str | None] | Numbered,
        *,
        unfinished: Bools | None = None,
        gain: Gain | None = None,
    ) -> Iterator[DueRows]:
        """Yield the mini-batches that these rows make due, at most one of an entity at a time.

        Each must be learned before the next is asked for: `gain` is by the beliefs of that moment. Draw all of them.

        Parameters
        ----------
        position : int64[n], ascending, above all before.
        time_ms : int64[n].
        entities : the entity of each row; None where it has none, or where the row is a tick: it counts for time only.
        unfinished : bool[n], True where the next row must be in the same mini-batch, as after taking back.
        gain : what rows would teach; needed where the settings ask for information.

        Raises
        ------
        DataError
            Positions that are not ascending.
        """
        if not len(position):
            return
        if position[0] <= self._last or np.any(np.diff(position) <= 0):
            raise DataError(f"rows: expected ascending positions above {self._last}, got {position[0]}, ...")
        if self.settings.information is not None and gain is None:
            raise ValueError("gain: expected a function, as the settings ask for information")
        self._shorten_names()
        clock_ms = np.maximum(np.maximum.accumulate(time_ms), self._clock_ms)
        code = self._code(entities)
        counts = np.ones(len(code), np.bool_) if unfinished is None else ~unfinished
        rows = _Rows(code, position, clock_ms, counts, np.full(len(code), -1, np.int64))
        begin = 0
        while begin < len(rows):
            end = begin + max(1, self.settings.max_waiting - len(self._waiting))
            yield from self._advance(rows.take(np.arange(begin, min(end, len(rows)))), gain)
            begin = end

    def _code(self, entities: Sequence[str | None] | Numbered) -> Ints:
        """The number by which each row's entity is known here, -1 for none."""
        if not isinstance(entities, Numbered):
            found = [-1 if name is None else self._number(name) for name in entities]
            return np.array(found, dtype=np.int64)
        used = np.zeros(len(entities.names) + 1, dtype=np.bool_)
        used[entities.code] = True
        number = np.full(len(used), -1, dtype=np.int64)
        for code in np.flatnonzero(used[:-1]).tolist():
            number[code] = self._number(entities.names[code])
        return number[entities.code]

    def _number(self, name: str) -> int:
        number = self._codes.get(name)
        if number is None:
            number = self._codes[name] = len(self._names)
            self._names.append(name)
        return number

    def _shorten_names(self) -> None:
        """Forget the names of entities without waiting rows, before they are many."""
        if len(self._names) <= 4 * self.settings.max_waiting:
            return
        kept, code = np.unique(self._waiting.code, return_inverse=True)
        self._names = [self._names[old] for old in kept]
        self._codes = {name: number for number, name in enumerate(self._names)}
        waiting = self._waiting
        self._waiting = _Rows(
            code.astype(np.int64), waiting.position, waiting.clock_ms, waiting.counts, waiting.gain
        )

    def _advance(self, new: _Rows, gain: Gain | None) -> Iterator[DueRows]:
        """Take new rows, so few that the bound on waiting rows is reached by the last of them at most."""
        self._last, self._clock_ms = int(new.position[-1]), int(new.clock_ms[-1])
        of_entity = new.code >= 0
        arrival = np.concatenate([np.full(len(self._waiting), -1), np.flatnonzero(of_entity)])
        rows = self._waiting.then(new.take(of_entity))
        self._waiting = rows
        if not len(rows):
            return
        order = np.argsort(rows.code, kind="stable")
        borders = _Borders(self.settings, rows.take(order), arrival[order], new.clock_ms, gain)
        while True:
            due = borders.next_due()
            if due is None:
                break
            yield self._due(borders.rows, *due)
        left = np.zeros(len(rows), np.bool_)
        left[order] = borders.left()
        known = rows.gain.copy()
        known[order] = borders.gain
        self._waiting = _Rows(rows.code, rows.position, rows.clock_ms, rows.counts, known).take(left)
        if len(self._waiting) >= self.settings.max_waiting and new.counts[-1]:
            yield self._longest_waiting()

    def _longest_waiting(self) -> DueRows:
        """Everything of the entities that have waited longest, until half of the bound is left."""
        rows = self._waiting
        _, first, entity, size = np.unique(
            rows.code, return_index=True, return_inverse=True, return_counts=True
        )
        by_age = np.argsort(first, kind="stable")
        gone = np.cumsum(size[by_age])
        chosen = np.zeros(len(first), np.bool_)
        enough = int(np.searchsorted(gone, len(rows) - self.settings.max_waiting // 2)) + 1
        chosen[by_age[:enough]] = True
        is_due = chosen[entity]
        self._waiting = rows.take(~is_due)
        due = rows.take(is_due)
        due = due.take(np.argsort(due.code, kind="stable"))
        start = np.concatenate([[0], np.flatnonzero(np.diff(due.code)) + 1, [len(due)]]).astype(np.int64)
        return self._due(due, start[:-1], start[1:])

    def _due(self, rows: _Rows, begin: Ints, end: Ints) -> DueRows:
        size = end - begin
        start = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
        at = np.repeat(begin - start[:-1], size) + np.arange(start[-1])
        return DueRows(Numbered(rows.code[begin], self._names), start, rows.position[at])


@final
class _Borders:
    """Finds the end of the next mini-batch of every entity, again and again.

    Rows are sorted by entity and in order within; `arrival` int64[n] is each row's place among the rows that moved the
    clock, -1 if it waited before, and `clock_ms` the clock at each such place.
    """

    def __init__(
        self, settings: MiniBatchSettings, rows: _Rows, arrival: Ints, clock_ms: Ints, gain: Gain | None
    ) -> None:
        self.rows, self.gain = rows, rows.gain.copy()
        self._settings, self._ask = settings, gain
        self._clock_ms = clock_ms
        edge = np.flatnonzero(np.diff(rows.code)) + 1
        self._begin = np.concatenate([[0], edge]).astype(np.int64)
        self._end = np.concatenate([edge, [len(rows)]]).astype(np.int64)
        self._counted = np.cumsum(rows.counts)
        self._places = len(clock_ms) + 1
        group = np.repeat(np.arange(len(self._begin)), self._end - self._begin)
        self._place = group * self._places + arrival + 1
        self._active = np.arange(len(self._begin))

    def next_due(self) -> tuple[Ints, Ints] | None:
        """Return where the next mini-batches begin and end; None when no entity has one."""
        active = self._active
        begin = self._begin[active]
        before: Ints = self._counted[begin] - self.rows.counts[begin]
        full: Ints = np.searchsorted(self._counted, before + self._settings.rows) + 1
        end: Ints = np.where(full <= self._end[active], full, _NOT_DUE)
        if self._settings.age_ms is not None:
            end = np.minimum(end, self._end_by_age(active, begin, self._settings.age_ms))
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
        group = self._place // self._places
        return np.asarray(np.arange(len(self.rows)) >= self._begin[group], dtype=np.bool_)

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
