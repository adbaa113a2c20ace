"""Beliefs + rows -> the mean and variance of each row's linear predictor."""

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from nearline.arrays import Floats
from nearline.errors import ModelError
from nearline.kernels import _posterior
from nearline.posterior.blocks import Blocks, FeatureRows


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Out:
    mean: Floats
    variance: Floats | None
    status: NDArray[np.int8]


def score_blocks(rows: FeatureRows, beliefs: Blocks, *, threads: int = 1) -> tuple[Floats, Floats]:
    """X . mean and x' precision^-1 x of each row, float64[rows]; zeros for rows of no entity.

    Raises `ModelError` if a block lacks a column of its rows, or a precision is not positive definite.
    """
    out = _Out(np.zeros(rows.count), np.zeros(rows.count), np.zeros(rows.entities, np.int8))
    _score(rows, beliefs, out, threads)
    assert out.variance is not None  # noqa: S101 - set above
    return out.mean, out.variance


def mean_of_blocks(rows: FeatureRows, beliefs: Blocks, *, threads: int = 1) -> Floats:
    """X . mean of each row, float64[rows], without the cost of its variance."""
    out = _Out(np.zeros(rows.count), None, np.zeros(rows.entities, np.int8))
    _score(rows, beliefs, out, threads)
    return out.mean


def _score(rows: FeatureRows, beliefs: Blocks, out: _Out, threads: int) -> None:
    _posterior.score(rows, beliefs, out, threads)
    if np.any(out.status):
        bad = int(np.flatnonzero(out.status)[0])
        raise ModelError(
            f"entity {bad} cannot be scored: its block lacks a column, or is not positive definite"
        )
