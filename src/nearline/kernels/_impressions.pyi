"""Records of impressions to columns."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

_Floats: TypeAlias = NDArray[np.float64]
_Columns: TypeAlias = NDArray[np.int32]

def read_impressions(
    records: list[bytes],
) -> tuple[
    _Floats,
    NDArray[np.int64],
    list[tuple[str, _Columns, _Columns, _Floats, list[str]]],
    list[tuple[str, _Columns, list[str]]],
    list[tuple[str, _Floats, _Floats]],
]:
    """Return the impressions of records (`nearline.events.wire`) as columns.

    Returns
    -------
    numbers
        float64[3 n]: offset, fixed, weight of each.
    integers
        int64[2 n]: time_ms, generation of each.
    bags
        Of each bag: its name; int32[n + 1], int32[entries], float64[entries] of a CSR matrix whose rows may have a
        column twice; the key of each column. Entries of value 0 are left out.
    entities
        Of each kind: its name, int32[n] the position of the name or -1, the names.
    effects
        Of each: its name, float64[n] mean, float64[n] variance; 0 where an impression has none.

    Raises
    ------
    ValueError
        A record is no impression: its place, and why.
    UnicodeDecodeError
        A name is not UTF-8.
    """
