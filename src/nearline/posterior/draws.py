"""Beliefs + rows + keys -> draws of each row's linear predictor, from the posterior.

A draw is a function of names: of the request, of the entity, and of its number. So it is the same again when a request
is repeated, and does not depend on what else is drawn. `nearline.posterior.reference_draws` has the definition; this is
compiled code, whose last bits may differ between instruction sets.
"""

from nearline.arrays import Floats, Keys
from nearline.kernels import _posterior
from nearline.posterior.blocks import Blocks, FeatureRows
from nearline.posterior.score import require_scored


def add_draws(
    rows: FeatureRows,
    beliefs: Blocks,
    keys: Keys,
    scores: Floats,
    *,
    request: int,
    first: int = 0,
    factors: Floats | None = None,
) -> None:
    """Add to `scores` float64[draws, rows] the draws of X . b of number `first` and on; nothing to rows of no entity.

    In each draw all rows of an entity share one joint draw of its coefficients. `keys` uint64[entities] and `request`,
    0 to 2^64 - 1, seed it. `factors` are those of `factor_blocks`, found here if None. Raises `ModelError` if a block
    lacks a column of its rows, or a precision is not positive definite.
    """
    require_scored(_posterior.draw(rows, beliefs, keys, scores, factors, request, first, len(scores)))
