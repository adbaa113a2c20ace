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
    """Blocks over all columns, a row for each slot.

    Attributes
    ----------
    mean : float64[slots, columns].
    precision : float64[slots, numbers], packed upper triangles or diagonals.
    full : whether they are triangles.
    """

    def __init__(self, columns: int, *, full: bool) -> None:
        self._numbers = columns * (columns + 1) // 2 if full else columns
        self.full = full
        self.mean = np.zeros((1, columns))
        self.precision = np.zeros((1, self._numbers))

    def put(self, slots: Ints, blocks: Blocks) -> None:
        """Keep one block in each slot."""
        columns = self.mean.shape[1]
        if (more := int(slots.max()) + 1 - len(self.mean)) > 0:
            more = max(more, len(self.mean))
            self.mean = np.concatenate([self.mean, np.zeros((more, columns))])
            self.precision = np.concatenate([self.precision, np.zeros((more, self._numbers))])
        self.mean[slots] = blocks.mean.reshape(len(slots), columns)
        self.precision[slots] = blocks.precision.reshape(len(slots), self._numbers)

    def take(self, slots: Ints) -> Blocks:
        """The blocks of these slots."""
        start = whole_layout(len(slots), self.mean.shape[1])
        packed_start = whole_layout(len(slots), self._numbers) if self.full else None
        mean, precision = self.mean[slots].ravel(), self.precision[slots].ravel()
        return Blocks(start, mean, precision, None, packed_start, self.full)


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
