"""Draws and scores, slow and obvious: what they are by definition. Tests hold the kernels to it.

The draw of an entity's coefficients is::

    b = mean + U^-1 z,    precision = U' U (U upper triangular),    z_c = normal c of the entity,

so that b has the covariance U^-1 U'^-1 = precision^-1. Normal c, of column c, is made of two outputs of Philox by the
method of Box and Muller (1958). With w_0, w_1, ... the raw outputs of the generator under the key
(request key, entity key) that begins at the counter draw * 2^64, and i = c - c mod 2::

    r = sqrt(-2 log(1 - floor(w_i / 2^12) 2^-52)),   a = 2 pi floor(w_(i+1) / 2^12) 2^-52,
    z_c = r cos a for even c, r sin a for odd c.

As normals belong to columns and not to places in a block, a block that holds a column more, one nobody knows anything
of, has the same draw in the others.
"""

import numpy as np

from nearline.arrays import Columns, Floats
from nearline.posterior.gaussian import Gaussian


def normals(request_key: int, entity_key: int, draw: int, columns: Columns) -> Floats:
    """Return the standard normals of the columns of one entity, float64[len(columns)]."""
    if len(columns) == 0:
        return np.zeros(0)
    generator = np.random.Philox(key=np.array([request_key, entity_key], dtype=np.uint64), counter=draw << 64)
    words = generator.random_raw(int(columns.max()) // 2 * 2 + 2)
    first = columns - columns % 2
    # Exact: 52 bits of a word, as a float64 in [0, 1).
    length, turn = ((words[first + k] >> np.uint64(12)).astype(np.float64) * 2.0**-52 for k in (0, 1))
    radius, angle = np.sqrt(-2.0 * np.log1p(-length)), 2.0 * np.pi * turn
    return np.asarray(radius * np.where(columns % 2 == 0, np.cos(angle), np.sin(angle)), dtype=np.float64)


def draw_coefficients(
    belief: Gaussian, columns: Columns, request_key: int, entity_key: int, draw: int
) -> Floats:
    """Return one joint draw of the coefficients of an entity, float64[d], for a belief over `columns`."""
    z = normals(request_key, entity_key, draw, columns)
    if belief.is_diagonal:
        return belief.mean + z / np.sqrt(belief.precision)
    upper = np.linalg.cholesky(belief.precision).T
    return np.asarray(belief.mean + np.linalg.solve(upper, z), dtype=np.float64)
