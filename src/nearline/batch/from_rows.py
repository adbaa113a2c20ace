"""The row log of a deployment -> examples to train on: every labelled example once, corrections applied.

An example lies in the row log of each partition that owns one of its entities. It is taken from the lowest of them.
What was learned and taken back again is left out; what was learned in its place is in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from nearline.arrays import Ints
from nearline.errors import ConfigError
from nearline.model.examples import Examples
from nearline.model.game import GameModel
from nearline.stream.chunks import ChunkReader
from nearline.stream.drift_watch import RowLog, is_first_copy, route_of
from nearline.stream.joined import Kind, Rows, decode_rows, take_rows

_AT_ONCE = 20_000


@final
@dataclass(frozen=True, slots=True, eq=False)
class RowRange:
    """Rows of one partition that follow one another.

    position : int64[n]. rows : at these positions.
    """

    position: Ints
    rows: Rows

    def at(self, index: Ints) -> "RowRange":
        """Some of them, int64."""
        return RowRange(self.position[index], take_rows([self.rows], [index]))


def read_range(log: RowLog, partition: int) -> RowRange:
    """Every row of a partition that there is now."""
    end, after = log.end(partition), log.begin(partition) - 1
    first, parts = after + 1, list[Rows]()
    while after < end:
        parts.append(decode_rows(log.read(after, min(_AT_ONCE, end - after), partition).records))
        after += len(parts[-1].records)
    rows = take_rows(parts, [np.arange(len(part.records)) for part in parts])
    return RowRange(np.arange(first, first + len(rows.records)), rows)


@final
@dataclass(frozen=True, slots=True)
class Cut:
    """Up to where a model is trained: the position of each partition, and the time that the rows up to it reach."""

    positions: tuple[int, ...]
    horizon_ms: int


def cut_before_last(ranges: Sequence[RowRange], held_back: float) -> Cut:
    """The cut that leaves about the last `held_back` (0 to 1) of the rows, in the same instant of each partition."""
    if not 0.0 <= held_back < 1.0:
        raise ConfigError(f"held_back: expected 0 or more, below 1, got {held_back}")
    times = np.sort(np.concatenate([one.rows.time_ms for one in ranges]))
    if not len(times):
        return Cut((0,) * len(ranges), -1)
    horizon = int(times[max(round((1.0 - held_back) * len(times)), 1) - 1])
    return Cut(tuple(_position_at(one, horizon) for one in ranges), horizon)


def cut_at(ranges: Sequence[RowRange], positions: Sequence[int]) -> Cut:
    """The cut at these positions."""
    times = [
        one.rows.time_ms[one.position <= position] for one, position in zip(ranges, positions, strict=True)
    ]
    return Cut(tuple(positions), max((int(some.max()) for some in times if len(some)), default=-1))


def _position_at(rows: RowRange, horizon_ms: int) -> int:
    """The last position before the first row that is later."""
    later = np.flatnonzero(rows.rows.time_ms > horizon_ms)
    if len(later):
        return int(rows.position[later[0]]) - 1
    return int(rows.position[-1]) if len(rows.position) else 0


def standing(rows: Rows) -> Ints:
    """The rows learned and not taken back later, int64, ascending.

    A row whose learning lies before the first of them, and cannot be taken out, is passed over.
    """
    stands = np.zeros(len(rows.records), dtype=np.bool_)
    learned: dict[bytes, int] = {}
    for i, kind in enumerate(rows.kind.tolist()):
        if kind == Kind.LEARN:
            stands[i] = True
            learned[rows.records[i]] = i
        elif kind == Kind.TAKE_BACK and (before := learned.pop(rows.records[i], None)) is not None:
            stands[before] = False
    return np.flatnonzero(stands)


def standing_up_to(rows: RowRange, position: int) -> RowRange:
    """What stands of the rows up to a position."""
    until = rows.at(np.flatnonzero(rows.position <= position))
    return until.at(standing(until.rows))


def examples_up_to(ranges: Sequence[RowRange], cut: Cut, model: GameModel) -> Examples:
    """Every labelled example up to the cut, once; rows that cannot be read are left out.

    `ranges` are those of all partitions, `model` any generation's: its effects say who owns what. The offset is the
    request's own, without what any model contributed.
    """
    route = route_of(model, len(ranges))
    kept = []
    for partition, (one, position) in enumerate(zip(ranges, cut.positions, strict=True)):
        some = standing_up_to(one, position)
        mine = np.flatnonzero(is_first_copy(some.rows.records, partition, route))
        kept.append(some.at(mine).rows)
    rows = take_rows(kept, [np.arange(len(part.records)) for part in kept])
    return ChunkReader(model, 0).read(np.arange(len(rows.records)), rows)[0].examples
