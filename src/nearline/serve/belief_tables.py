"""Tables that keep a block for each slot and hand out many at once."""

from typing import Protocol, TypeAlias, final

import numpy as np

from nearline.arrays import Columns, Floats, Ints
from nearline.posterior.blocks import Blocks, packed_starts, whole_layout

_Piece: TypeAlias = tuple[Columns, Floats, Floats]


class BeliefTable(Protocol):
    """Blocks by slot."""

    def put(self, slots: Ints, blocks: Blocks) -> None:
        """Keep one block in each slot."""

    def take(self, slots: Ints) -> Blocks:
        """The blocks of these slots."""


@final
class WholeTable:
    """Blocks over all columns, in two arrays: taking a hundred is two gathers."""

    def __init__(self, columns: int, *, full: bool) -> None:
        self._columns, self._full = columns, full
        self._numbers = columns * (columns + 1) // 2 if full else columns
        self._mean = np.zeros((1, columns))
        self._precision = np.zeros((1, self._numbers))

    def put(self, slots: Ints, blocks: Blocks) -> None:
        """Keep one block in each slot."""
        if (more := int(slots.max()) + 1 - len(self._mean)) > 0:
            more = max(more, len(self._mean))
            self._mean = np.concatenate([self._mean, np.zeros((more, self._columns))])
            self._precision = np.concatenate([self._precision, np.zeros((more, self._numbers))])
        self._mean[slots] = blocks.mean.reshape(len(slots), self._columns)
        self._precision[slots] = blocks.precision.reshape(len(slots), self._numbers)

    def take(self, slots: Ints) -> Blocks:
        """The blocks of these slots."""
        start = whole_layout(len(slots), self._columns)
        packed_start = whole_layout(len(slots), self._numbers) if self._full else None
        mean, precision = self._mean[slots].ravel(), self._precision[slots].ravel()
        return Blocks(start, mean, precision, None, packed_start, self._full)


@final
class RaggedTable:
    """Blocks that list their columns, each by itself."""

    def __init__(self, *, full: bool) -> None:
        self._full = full
        self._pieces: dict[int, _Piece] = {}

    def put(self, slots: Ints, blocks: Blocks) -> None:
        """Keep one block in each slot."""
        begins = blocks.packed_start if blocks.full else blocks.start
        assert begins is not None and blocks.column is not None  # noqa: S101, PT018 - evidence has both
        for i, slot in enumerate(slots.tolist()):
            here, packed = slice(*blocks.start[i : i + 2]), slice(*begins[i : i + 2])
            self._pieces[slot] = (
                blocks.column[here].copy(),
                blocks.mean[here].copy(),
                blocks.precision[packed].copy(),
            )

    def take(self, slots: Ints) -> Blocks:
        """The blocks of these slots."""
        pieces = [self._pieces[slot] for slot in slots.tolist()]
        sizes = np.fromiter((len(piece[0]) for piece in pieces), np.int64, len(pieces))
        start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        column = np.concatenate([np.zeros(0, np.int32), *(piece[0] for piece in pieces)])
        mean = np.concatenate([np.zeros(0), *(piece[1] for piece in pieces)])
        precision = np.concatenate([np.zeros(0), *(piece[2] for piece in pieces)])
        return Blocks(
            start, mean, precision, column, packed_starts(start) if self._full else None, self._full
        )
