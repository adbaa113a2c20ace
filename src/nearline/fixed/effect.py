"""Examples to the score of a shared model, whatever its class."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar, final

import numpy as np

from nearline.arrays import Floats
from nearline.errors import DataError, ModelError
from nearline.fixed.linear import SparseRows

ExamplesT = TypeVar("ExamplesT")
ExamplesT_contra = TypeVar("ExamplesT_contra", contravariant=True)


class FixedEffect(Protocol[ExamplesT_contra]):
    """A shared model, which enters everything else only as an offset through `score`.

    Promises: `score` returns float64[n], one finite number an example, on the link scale (logit, mean or log
    rate) and without the example's own offset; an example's score does not depend on the others scored with
    it; the same examples give the same scores, because the effect is frozen and `score` has no side effects.
    """

    def score(self, examples: ExamplesT_contra, /) -> Floats:
        """Return the score of each example on the link scale, float64[n]."""
        ...


@final
@dataclass(frozen=True, slots=True, eq=False)
class LinearFixedEffect:
    """A linear fixed effect over the columns of an append-only registry.

    `coefficients` float64[p] belong to the first p columns. A column appended later has coefficient 0 until
    the next fit, so that rows may have more columns than the effect, or fewer where they were made before it
    was fitted.
    """

    coefficients: Floats

    def __post_init__(self) -> None:
        if self.coefficients.ndim != 1 or not np.isfinite(self.coefficients).all():
            raise ModelError("coefficients: expected a vector of finite numbers")

    def score(self, x: SparseRows, /) -> Floats:
        """Return X b, float64[n], for csr rows of n x any number of columns."""
        coefficients = self.grow(x.shape[1]).coefficients[: x.shape[1]]
        return np.asarray(x @ coefficients, dtype=np.float64)

    def grow(self, columns: int) -> Self:
        """Return the effect over at least `columns` columns, the new ones at 0: a warm start."""
        missing = columns - len(self.coefficients)
        if missing <= 0:
            return self
        return type(self)(np.concatenate([self.coefficients, np.zeros(missing)]))


@final
@dataclass(frozen=True, slots=True)
class ScoreColumn:
    """A shared model that was scored elsewhere: its scores are a column of the examples."""

    column: str

    def score(self, examples: Mapping[str, Floats], /) -> Floats:
        """Return the column, float64[n]; DataError if it is absent or not finite."""
        if self.column not in examples:
            raise DataError(
                f"{self.column}: expected a column of scores of this name, found {sorted(examples)}"
            )
        return _checked(self.column, examples[self.column])


@final
@dataclass(frozen=True, slots=True)
class CallableEffect(Generic[ExamplesT]):
    """Any function from examples to scores, for example a boosted forest's raw prediction."""

    function: Callable[[ExamplesT], Floats]

    def score(self, examples: ExamplesT, /) -> Floats:
        """Return what the function does, float64[n]; DataError if that is no vector of finite numbers."""
        return _checked(getattr(self.function, "__name__", "score"), self.function(examples))


def _checked(name: str, scores: Floats) -> Floats:
    vector = np.asarray(scores, dtype=np.float64)
    if vector.ndim != 1:
        raise DataError(f"{name}: expected one score per example, got an array of shape {vector.shape}")
    finite = np.isfinite(vector)
    if not finite.all():
        raise DataError(f"{name}: the score of row {int(np.argmin(finite))} is not finite")
    return vector
