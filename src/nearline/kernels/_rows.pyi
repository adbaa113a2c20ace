from typing import final

import numpy as np
from numpy.typing import NDArray

from nearline.arrays import Columns, Floats, Ints

@final
class Rows:
    """Checked sparse rows: the arrays are held, not copied, and must not change afterwards.

    ValueError where the arrays disagree, an index lies outside [0, columns) or a value is not finite.
    """

    def __init__(
        self,
        indptr: Ints,
        indices: Columns,
        values: NDArray[np.float64] | NDArray[np.float32],
        columns: int,
    ) -> None: ...
    @property
    def rows(self) -> int: ...
    @property
    def columns(self) -> int: ...
    @property
    def entries(self) -> int: ...
    @property
    def outer_products(self) -> float:
        """The sum over rows of the square of how many entries a row has."""

    def margins(self, coefficients: Floats, offset: Floats, *, threads: int = 1) -> Floats:
        """Return X b + offset, one per row."""

    def loss(
        self,
        coefficients: Floats,
        offset: Floats,
        y: Floats,
        weight: Floats,
        outcome: int,
        *,
        threads: int = 1,
    ) -> tuple[float, Floats, Floats, Floats]:
        """Return the weighted loss, its gradient (columns), and per row its curvature and X b + offset."""

    def curvature_product(self, curvature: Floats, direction: Floats, *, threads: int = 1) -> Floats:
        """Return X' (curvature * (X direction)), one per column."""

    def curvature_diagonal(self, curvature: Floats, *, threads: int = 1) -> Floats:
        """Return the diagonal of X' diag(curvature) X, one per column."""

    def curvature_matrix(self, curvature: Floats, *, threads: int = 1) -> Floats:
        """Return X' diag(curvature) X, columns by columns; the indices of every row must rise."""
