"""A statistic of weighted rows to intervals, by resampling rows or whole entities.

A resample is a weighting: a row drawn three times has three times its weight. Nothing is copied or sorted
again, and a statistic sees many resamples at once. Rows of one entity are dependent (they share its effect,
and what is wrong with it), so where entity codes are given whole entities are drawn, rows together (the
cluster bootstrap); drawing single rows would give intervals that are too short.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias, final

import numpy as np

from nearline.arrays import Floats, Ints
from nearline.errors import DataError

_NUMBERS_PER_BLOCK = 1 << 17
"""Few enough for the arrays of one block to stay in the cache of a core, many enough to hide what a call costs."""

Statistic: TypeAlias = Callable[[Floats], Floats]
"""Weights of shape (resamples, rows) to values of shape (resamples, statistics)."""


@final
@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its interval; NaN where undefined."""

    value: float
    low: float = float("nan")
    high: float = float("nan")


def resampled_weights(
    weight: Floats, rng: np.random.Generator, resamples: int, entity_codes: Ints | None = None
) -> Iterator[Floats]:
    """Yield bootstrap weightings in blocks of shape (some resamples, rows), `resamples` in all.

    As many entities (rows, without `entity_codes`) as there are are drawn with replacement each time;
    `weight` and `entity_codes` are of shape (rows,).
    """
    unit_of_row = None if entity_codes is None else np.unique(entity_codes, return_inverse=True)[1]
    units = weight.size if unit_of_row is None else int(unit_of_row.max()) + 1
    block = max(1, _NUMBERS_PER_BLOCK // weight.size)
    for first in range(0, resamples, block):
        counts = np.empty((min(block, resamples - first), units))
        for row in counts:
            row[:] = np.bincount(rng.integers(units, size=units), minlength=units)
        yield (counts if unit_of_row is None else np.take(counts, unit_of_row, axis=1)) * weight


def bootstrap(
    statistic: Statistic,
    weight: Floats,
    rng: np.random.Generator,
    *,
    resamples: int = 200,
    entity_codes: Ints | None = None,
) -> Floats:
    """Return the statistic of each resample, shape (resamples, statistics).

    Whole entities are resampled where `entity_codes` is given, else rows. With fewer than two of them all is
    NaN, as one entity says nothing of how entities differ.
    """
    if resamples < 1:
        raise DataError(f"resamples: expected 1 or more, got {resamples}")
    units = weight if entity_codes is None else entity_codes
    if units.size == 0:
        raise DataError("expected at least one row to resample, got none")
    if units.size < 2 or (entity_codes is not None and np.all(entity_codes == entity_codes[0])):
        return np.full((resamples, statistic(weight[None, :]).shape[1]), np.nan)
    return np.concatenate(
        [statistic(block) for block in resampled_weights(weight, rng, resamples, entity_codes)]
    )


def estimates(
    values: Floats, replicates: Floats, *, level: float, ranges: Sequence[tuple[float, float]]
) -> tuple[Estimate, ...]:
    """Return each value with the central percentile interval of its replicates at `level`.

    The replicates (resamples, statistics) are moved first so that their mean is the value: resampling adds
    noise, which biases metrics such as the calibration error upwards, and the plain interval of those need
    not hold the value at all. The ends are kept within the metric's range. Resamples where the metric is
    undefined are left out; where those are half or more, so is the interval (NaN).
    """
    columns = zip(values, replicates.T, ranges, strict=True)
    return tuple(_estimate(float(value), column, level, limits) for value, column, limits in columns)


def _estimate(value: float, replicates: Floats, level: float, limits: tuple[float, float]) -> Estimate:
    finite = replicates[np.isfinite(replicates)]
    if not np.isfinite(value) or 2 * finite.size <= replicates.size:
        return Estimate(value)
    ends = np.quantile(finite, [0.5 - 0.5 * level, 0.5 + 0.5 * level])
    low, high = np.clip(ends + (value - finite.mean()), *limits)
    return Estimate(value, float(low), float(high))
