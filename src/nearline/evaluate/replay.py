"""A stream of labelled examples + levels of freshness -> what each level predicted of each row before its label.

Score first, learn later: rows of the same time are scored together before any of them is learned, and a label is
learned only once it is known, before the first row whose time is later.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias, final

import numpy as np

from nearline.arrays import Floats, Ints
from nearline.errors import DataError
from nearline.model.examples import Examples

Watch: TypeAlias = Callable[[str, int, int], None]
"""Told after each step the name of the level, and how many rows it scored, of how many."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """Labelled examples in the order of time.

    Attributes
    ----------
    examples : sorted by time.
    time_ms : int64[n], when each row was served; the number of the row where examples have no times.
    known_ms : int64[n], when its label was known: not before `time_ms`.
    by_known : int64[n], the rows in the order in which their labels became known, ties in their own order.
    group_start : int64[groups + 1]; rows group_start[g] up to group_start[g + 1] have the same time.
    """

    examples: Examples
    time_ms: Ints
    known_ms: Ints
    by_known: Ints
    group_start: Ints

    @classmethod
    def of(cls, examples: Examples, known_ms: Ints | None = None) -> "Stream":
        """Sort examples by time, ties as they come; labels are known at once unless `known_ms` says when."""
        n = len(examples)
        time_ms = np.arange(n, dtype=np.int64) if examples.time_ms is None else examples.time_ms
        known_ms = time_ms if known_ms is None else known_ms
        if known_ms.shape != (n,) or known_ms.dtype != np.int64:
            raise DataError(f"known_ms: expected int64[{n}], got {known_ms.dtype}{list(known_ms.shape)}")
        if np.any(np.diff(time_ms) < 0):
            order = np.argsort(time_ms, kind="stable")
            examples, time_ms, known_ms = examples.take(order), time_ms[order], known_ms[order]
        if np.any(known_ms < time_ms):
            row = int(np.flatnonzero(known_ms < time_ms)[0])
            raise DataError(f"known_ms: row {row}: its label is known before it is served")
        change = np.flatnonzero(time_ms[1:] != time_ms[:-1]) + 1
        start = np.concatenate([[0], change, [n]] if n else [[0]]).astype(np.int64)
        return cls(examples, time_ms, known_ms, np.argsort(known_ms, kind="stable"), start)

    def __len__(self) -> int:
        return len(self.time_ms)

    def part(self, begin: int, end: int) -> "Stream":
        """The rows from `begin` up to `end` as a stream of its own."""
        rows = np.arange(begin, end)
        examples = self.examples.take(rows)
        if examples.time_ms is None:
            examples = replace(examples, time_ms=self.time_ms[rows])
        return Stream.of(examples, self.known_ms[rows])

    def known_before(self, time_ms: int) -> Ints:
        """The rows whose label is known before a time, in the order in which it was."""
        return self.by_known[: self.count_known_before(time_ms)]

    def count_known_before(self, time_ms: int) -> int:
        """How many labels are known before a time."""
        return int(np.searchsorted(self.known_ms[self.by_known], time_ms))

    def until_ms(self, row: int) -> int:
        """The time of a row, or one after every label where there is no such row."""
        return int(self.time_ms[row]) if row < len(self) else int(self.known_ms.max(initial=0)) + 1


@final
@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """Rows whose labels are learned, and then rows that are scored, each int64[any]."""

    learn: Ints
    score: Ints


class Level(Protocol):
    """One way of keeping a model fresh."""

    @property
    def name(self) -> str:
        """What to call it in tables."""

    def score(self, rows: Ints) -> Floats:
        """Expected response of rows of the stream, each at its own time."""

    def learn(self, rows: Ints) -> None:
        """Learn from rows of the stream that were scored before."""

    def plan(self, stream: Stream, begin: int, end: int) -> Sequence[Step]:
        """The steps to walk these rows in: `steps_in_time`, or others that come to the same."""


def replay(
    stream: Stream,
    levels: Sequence[Level],
    *,
    begin: int = 0,
    end: int | None = None,
    watch: Watch | None = None,
) -> Mapping[str, Floats]:
    """Walk the rows from `begin` up to `end`, with each level in turn; return what it predicted of them.

    Labels known before the time of row `begin` count as learned already; those known before the time of row `end` have
    been learned when it returns. So walking to a row, and from that row on, is walking through.

    Returns
    -------
    Name of the level -> float64[end - begin], the expected response.
    """
    end = len(stream) if end is None else end
    predicted = {}
    for level in levels:
        response, done = np.full(end - begin, np.nan), 0
        for step in level.plan(stream, begin, end):
            if len(step.learn):
                level.learn(step.learn)
            if len(step.score):
                response[step.score - begin] = level.score(step.score)
                done += len(step.score)
                if watch is not None:
                    watch(level.name, done, end - begin)
        predicted[level.name] = response
    return predicted


def steps_in_time(stream: Stream, begin: int, end: int) -> list[Step]:
    """A step for each time: labels known before it are learned, then its rows are scored together."""
    inside = stream.group_start[(stream.group_start > begin) & (stream.group_start < end)]
    first = np.concatenate([[begin], inside, [end]]) if begin < end else np.array([begin])
    until_ms = np.array([stream.until_ms(int(row)) for row in first])
    due = np.searchsorted(stream.known_ms[stream.by_known], until_ms)
    steps, learned = [], int(due[0])
    for g, row in enumerate(first):
        last = int(first[g + 1]) if g + 1 < len(first) else int(row)
        steps.append(Step(stream.by_known[learned : int(due[g])], np.arange(row, last)))
        learned = max(learned, int(due[g]))
    return steps
