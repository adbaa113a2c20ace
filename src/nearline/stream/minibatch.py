"""Rows in order -> mini-batches: which rows of which entity are to be learned together, and when.

A mini-batch of an entity ends with the row that makes it large enough or informative enough, or before the first row
of anybody from which on it is too old. Time is the latest time among the rows so far. So the borders follow from the
rows alone: however the rows are cut into calls, every entity has the same mini-batches in the same order.

All waiting rows are known from two numbers, `MiniBatches.resume`, and from the position up to which each entity has
learned, because an entity learns its rows in order.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import final

import numpy as np

from nearline.arrays import Bools, Ints
from nearline.errors import DataError
from nearline.stream.minibatch_borders import NO_ROWS, Borders, Gain, WaitingRows
from nearline.stream.minibatch_settings import MiniBatchSettings


@final
@dataclass(frozen=True, slots=True, eq=False)
class Numbered:
    """The entity of each of n rows: names[code], none where the code is -1. `code` int64[n]."""

    code: Ints
    names: Sequence[str]


@final
@dataclass(frozen=True, slots=True, eq=False)
class DueRows:
    """Mini-batches of some entities, those of an entity in the order to learn them.

    entity: m of them, each once. batch_start: int64[m + 1], entity e has mini-batches batch_start[e] up to
    batch_start[e + 1]. start: int64[mini-batches + 1], mini-batch b has position[start[b] : start[b + 1]].
    position: int64[rows], ascending for each entity.
    """

    entity: Numbered
    batch_start: Ints
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
        self._waiting = NO_ROWS
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
        apart: bool = False,
    ) -> Iterator[DueRows]:
        """Yield the mini-batches that these rows make due, in the order to learn them. Draw all of them.

        With `apart`, and where the settings ask for information, at most one of an entity at a time; each must then be
        learned before the next is asked for: `gain` is by the beliefs of that moment.

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
        rows = WaitingRows(code, position, clock_ms, counts, np.full(len(code), -1, np.int64))
        begin = 0
        while begin < len(rows):
            end = begin + max(1, self.settings.max_waiting - len(self._waiting))
            yield from self._advance(rows.take(np.arange(begin, min(end, len(rows)))), gain, apart=apart)
            begin = end

    def _code(self, entities: Sequence[str | None] | Numbered) -> Ints:
        """The number by which each row's entity is known here, -1 for none."""
        if not isinstance(entities, Numbered):
            names = list({name: None for name in entities if name is not None})
            number_of: dict[str | None, int] = {
                None: -1,
                **dict(zip(names, self._numbers(names), strict=True)),
            }
            return np.array([number_of[name] for name in entities], dtype=np.int64)
        used = np.zeros(len(entities.names) + 1, dtype=np.bool_)
        used[entities.code] = True
        numbers = np.full(len(used), -1, dtype=np.int64)
        here = np.flatnonzero(used[:-1])
        numbers[here] = self._numbers([entities.names[code] for code in here.tolist()])
        return numbers[entities.code]

    def _numbers(self, names: Sequence[str]) -> list[int]:
        """The number of each name; new ones get the next."""
        codes = self._codes
        for name in [name for name in names if name not in codes]:
            codes.setdefault(name, len(codes))
        self._names += islice(codes, len(self._names), None)
        return [codes[name] for name in names]

    def _shorten_names(self) -> None:
        """Forget the names of entities without waiting rows, before they are many."""
        if len(self._names) <= 4 * self.settings.max_waiting:
            return
        kept, code = np.unique(self._waiting.code, return_inverse=True)
        self._names = [self._names[old] for old in kept]
        self._codes = {name: number for number, name in enumerate(self._names)}
        waiting = self._waiting
        self._waiting = WaitingRows(
            code.astype(np.int64), waiting.position, waiting.clock_ms, waiting.counts, waiting.gain
        )

    def _advance(self, new: WaitingRows, gain: Gain | None, *, apart: bool) -> Iterator[DueRows]:
        """Take new rows, so few that the bound on waiting rows is reached by the last of them at most."""
        self._last, self._clock_ms = int(new.position[-1]), int(new.clock_ms[-1])
        of_entity = new.code >= 0
        arrival = np.concatenate([np.full(len(self._waiting), -1), np.flatnonzero(of_entity)])
        rows = self._waiting.then(new.take(of_entity))
        self._waiting = rows
        if not len(rows):
            return
        order = np.argsort(rows.code, kind="stable")
        borders = Borders(self.settings, rows.take(order), arrival[order], new.clock_ms, gain)
        if apart or self.settings.information is not None:
            while (due := borders.next_due()) is not None:
                yield self._due(borders.rows, np.ones(len(due[0]), np.int64), *due)
        else:
            size, first, last = borders.all_due()
            if len(first):
                yield self._due(borders.rows, size[size > 0], first, last)
        left = np.zeros(len(rows), np.bool_)
        left[order] = borders.left()
        known = rows.gain.copy()
        known[order] = borders.gain
        self._waiting = WaitingRows(rows.code, rows.position, rows.clock_ms, rows.counts, known).take(left)
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
        return self._due(due, np.ones(len(start) - 1, np.int64), start[:-1], start[1:])

    def _due(self, rows: WaitingRows, batches: Ints, begin: Ints, end: Ints) -> DueRows:
        """So many mini-batches of each entity, each the rows from `begin` up to `end`."""
        batch_start, start = starts(batches), starts(end - begin)
        at = np.repeat(begin - start[:-1], end - begin) + np.arange(start[-1])
        code = rows.code[begin[batch_start[:-1]]]
        return DueRows(Numbered(code, self._names), batch_start, start, rows.position[at])


def starts(size: Ints) -> Ints:
    """Where each of consecutive runs begins, and where the last ends, int64[runs + 1]."""
    return np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
