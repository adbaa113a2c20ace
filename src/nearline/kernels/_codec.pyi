"""Records of entities to bytes and back; the layout is described in `nearline.store.codec`."""

import numpy as np
from numpy.typing import NDArray

def sizes(values: list[bytes | memoryview | None], full: bool) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """Return the number of columns of each value, 0 of None, and what is wrong with its head or its size.

    Faults are numbered as in `nearline.store.codec`; 0 is none.
    """

def decode(
    values: list[bytes | memoryview | None],
    full: bool,
    start: NDArray[np.int64],
    packed_start: NDArray[np.int64],
    version: NDArray[np.int64],
    position: NDArray[np.int64],
    as_of_ms: NDArray[np.int64],
    rows: NDArray[np.int64],
    column: NDArray[np.int32],
    shift: NDArray[np.float64],
    precision: NDArray[np.float64],
) -> NDArray[np.int8]:
    """Fill the arrays from values that `sizes` found sound, and return what is wrong inside each.

    `start` [n + 1] says where the columns of each value go, `packed_start` where its precision does.

    Raises
    ------
    ValueError
        The arrays do not have the sizes of the values.
    """

def encode(
    full: bool,
    single: bool,
    start: NDArray[np.int64],
    packed_start: NDArray[np.int64],
    version: NDArray[np.int64],
    position: NDArray[np.int64],
    as_of_ms: NDArray[np.int64],
    rows: NDArray[np.int64],
    column: NDArray[np.int32],
    shift: NDArray[np.float64],
    precision: NDArray[np.float64],
) -> list[bytes]:
    """Return one value for each block.

    Raises
    ------
    ValueError
        The arrays do not fit each other.
    """
