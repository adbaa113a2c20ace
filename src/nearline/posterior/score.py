"""Beliefs + rows -> the mean and variance of each row's linear predictor."""

import numpy as np

from nearline.arrays import Floats
from nearline.errors import ModelError
from nearline.kernels import _posterior
from nearline.posterior.blocks import Blocks, FeatureRows


def score_blocks(
    rows: FeatureRows, beliefs: Blocks, *, factors: Floats | None = None, threads: int = 1
) -> tuple[Floats, Floats]:
    """X . mean and x' precision^-1 x of each row, float64[rows]; zeros for rows of no entity.

    `factors` are those of `factor_blocks`, found here if None. Raises `ModelError` if a block lacks a column of its
    rows, or a precision is not positive definite.
    """
    mean, variance = np.empty(rows.count), np.empty(rows.count)
    require_scored(_posterior.score(rows, beliefs, mean, variance, factors, threads))
    return mean, variance


def mean_of_blocks(rows: FeatureRows, beliefs: Blocks, *, threads: int = 1) -> Floats:
    """X . mean of each row, float64[rows], without the cost of its variance."""
    mean = np.empty(rows.count)
    require_scored(_posterior.score(rows, beliefs, mean, None, None, threads))
    return mean


def factor_blocks(beliefs: Blocks) -> Floats | None:
    """Return the factors U of full precisions U' U, laid out like them; None of diagonal beliefs, which need none.

    Kept beside a belief they save most of the time of a draw. Raises `ModelError` if a precision is not positive
    definite.
    """
    if not beliefs.full:
        return None
    factor = np.empty_like(beliefs.precision)
    columns = int(np.diff(beliefs.start).max(initial=0)) if beliefs.column is None else 2**31 - 1
    require_scored(_posterior.factor(beliefs, factor, columns))
    return factor


def require_scored(failed: int) -> None:
    """Raise a `ModelError` if an entity failed to be scored; -1 is none."""
    if failed >= 0:
        raise ModelError(
            f"entity {failed} cannot be scored: its block lacks a column, or is not positive definite"
        )
