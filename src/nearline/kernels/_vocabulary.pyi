"""Keys made of a few byte strings to int32 columns, numbered in first-seen order."""

from collections.abc import Sequence
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

_StringColumn: TypeAlias = tuple[NDArray[np.int32] | NDArray[np.int64], NDArray[np.uint8]]

@final
class Vocabulary:
    """An append-only index of keys of `parts` byte strings each (1 to 8, by default 2: name and term).

    Reading from several threads at once is safe, and so is adding (one thread at a time gets in).
    It pickles as its keys.
    """

    def __init__(self, parts: int = 2) -> None: ...
    @property
    def parts(self) -> int: ...
    def __len__(self) -> int: ...
    def lookup(self, columns: Sequence[_StringColumn], *, add: bool) -> NDArray[np.int32]:
        """Return the column of each key, int32[n]; an unknown key is appended if `add`, otherwise -1.

        `columns` holds one Arrow string column per part: offsets int32 or int64 [n + 1] and their bytes.
        A column of one string (two offsets) stands for the same string in every row.
        The GIL is released meanwhile.

        Raises
        ------
        ValueError
            Offsets that fall, or point outside the bytes; columns of different lengths.
        TypeError
            Offsets of another type.
        """
    def keys(self, part: int, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Return one part of the keys of columns `start` to `stop` as offsets and bytes."""
    def __getstate__(self) -> Any: ...
    def __setstate__(self, state: Any) -> None: ...
