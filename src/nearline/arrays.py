"""Type names for the arrays that cross module borders."""

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # SciPy takes half a second to load, and most commands can do without
    from scipy.sparse import csr_array

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Columns: TypeAlias = NDArray[np.int32]
Keys: TypeAlias = NDArray[np.uint64]
Bools: TypeAlias = NDArray[np.bool_]
ArrowArray: TypeAlias = Any  # its stubs know fewer attributes than an array of a given type has
Csr: TypeAlias = "csr_array[np.float64, tuple[int, int]]"
