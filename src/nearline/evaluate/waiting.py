"""Rows of entities that wait for their mini-batch."""

from typing import final

import numpy as np

from nearline.arrays import Ints


@final
class Waiting:
    """Rows that wait until there are enough of their entity for a mini-batch."""

    def __init__(self, mini_batch: int) -> None:
        self._mini_batch = mini_batch
        self._rows: dict[int, list[int]] = {}

    def due(self, rows: Ints, entity: Ints) -> Ints:
        """Let rows wait; return those due now, in the order in which they came within each entity."""
        if self._mini_batch == 1:
            return rows
        out: list[int] = []
        for row, own in zip(rows.tolist(), entity.tolist(), strict=True):
            if own < 0:
                continue
            waiting = self._rows.setdefault(own, [])
            waiting.append(row)
            if len(waiting) >= self._mini_batch:
                out += self._rows.pop(own)
        return np.array(out, dtype=np.int64)
