"""Type names for the arrays that cross module borders."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Columns: TypeAlias = NDArray[np.int32]
Bools: TypeAlias = NDArray[np.bool_]
