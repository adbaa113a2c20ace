"""Names to slots of a table of bounded size; when it is full, those that were not asked for lately go."""

from collections.abc import Sequence
from typing import Final, final

import numpy as np

from nearline.arrays import Bools, Ints
from nearline.kernels._names import Names

NOBODY: Final = ""
"""The name of an entity that was not given."""


@final
class ClockIndex:
    """The CLOCK algorithm (Corbato 1968), many names at once: a slot that was asked for since the last sweep stays.

    Slot 0 is that of `NOBODY`, for good. `capacity` counts it.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = max(2, capacity)
        self._slot = Names()
        self._slot.put(NOBODY, 0)
        self._name: list[str | None] = [NOBODY]
        self._asked = np.zeros(self._capacity, dtype=np.bool_)
        self._free: list[int] = []

    @property
    def capacity(self) -> int:
        """The most slots there can be, with slot 0."""
        return self._capacity

    def __len__(self) -> int:
        return len(self._slot) - 1

    @property
    def tables(self) -> tuple[Names, Bools]:
        """Slots by name, and by slot whether it was asked for: for a kernel that does as `find` and `touch`."""
        return self._slot, self._asked

    def find(self, names: Sequence[str]) -> tuple[Ints, int]:
        """The slot of each name, int64[names], -1 of one that has none; and how many have none."""
        slots = np.empty(len(names), np.int64)
        return slots, self._slot.find(names, slots)

    def touch(self, slots: Ints) -> None:
        """Remember that these were asked for."""
        self._asked[slots] = True

    def assign(self, names: Sequence[str], in_use: Ints) -> Ints:
        """Slots for names that have none, int64[names]; those `in_use` stay what they are.

        There must be room for both.
        """
        if (needed := len(names) - len(self._free) - (self._capacity - len(self._name))) > 0:
            self._evict(needed, in_use)
        slots = np.array([self._take(name) for name in names], dtype=np.int64)
        self._asked[slots] = True
        return slots

    def drop(self, name: str) -> None:
        """Forget a name, if it is known."""
        if (slot := self._slot.remove(name)) >= 0:
            self._name[slot] = None
            self._free.append(slot)

    def names(self) -> list[str]:
        """All names that have a slot, but `NOBODY`."""
        return [name for name in self._name if name]

    def busiest(self) -> list[str]:
        """Those asked for since the last sweep."""
        asked = self._asked[: len(self._name)]
        return [name for name, lately in zip(self._name, asked.tolist(), strict=True) if name and lately]

    def _take(self, name: str) -> int:
        if self._free:
            slot = self._free.pop()
            self._name[slot] = name
        else:
            slot = len(self._name)
            self._name.append(name)
        self._slot.put(name, slot)
        return slot

    def _evict(self, needed: int, in_use: Ints) -> None:
        """Let go of an eighth of all, and no fewer than needed: first of those not asked for since the last time."""
        taken = np.array([bool(name) for name in self._name])
        taken[in_use] = False
        mine = np.flatnonzero(taken)
        order = np.argsort(self._asked[mine], kind="stable")
        going = mine[order[: max(needed, self._capacity // 8)]]
        self._asked[:] = False
        for slot in going.tolist():
            name = self._name[slot]
            if name is not None:
                self.drop(name)
