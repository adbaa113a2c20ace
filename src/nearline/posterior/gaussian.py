"""A Gaussian belief about the coefficients of one entity."""

from dataclasses import dataclass
from typing import final

import numpy as np

from nearline.arrays import Floats
from nearline.errors import DataError


@final
@dataclass(frozen=True, slots=True, eq=False)
class Gaussian:
    """The belief N(mean, precision^-1) about d coefficients.

    Attributes
    ----------
    mean : float64[d]
    precision : float64[d, d], symmetric positive definite; or float64[d], the diagonal of a diagonal one.
    """

    mean: Floats
    precision: Floats

    def __post_init__(self) -> None:
        shape = self.mean.shape
        if len(shape) != 1 or self.precision.shape not in (shape, shape * 2):
            raise DataError(
                f"a belief needs a mean [d] and a precision [d, d] or [d], "
                f"got shapes {self.mean.shape} and {self.precision.shape}"
            )

    @property
    def is_diagonal(self) -> bool:
        """Whether the precision is diagonal."""
        return self.precision.ndim == 1

    @property
    def shift(self) -> Floats:
        """Precision @ mean, float64[d]: with the precision, the natural form in which evidence adds."""
        return self.precision * self.mean if self.is_diagonal else self.precision @ self.mean

    @property
    def covariance(self) -> Floats:
        """The inverse of the precision, float64[d, d]."""
        if self.is_diagonal:
            return np.diag(1.0 / self.precision)
        return np.asarray(np.linalg.inv(self.precision), dtype=np.float64)

    @property
    def std(self) -> Floats:
        """Standard deviation of each coefficient, float64[d]."""
        return np.asarray(np.sqrt(np.diag(self.covariance)), dtype=np.float64)


_set_mean, _set_precision = (vars(Gaussian)[name].__set__ for name in ("mean", "precision"))


def trusted(mean: Floats, precision: Floats) -> Gaussian:
    """The belief with arrays that are known to fit one another: made in a third of the time, without a look at them."""
    belief = object.__new__(Gaussian)
    _set_mean(belief, mean)
    _set_precision(belief, precision)
    return belief


def discount(belief: Gaussian, keep: float, population: Gaussian) -> Gaussian:
    """Forget: keep * (precision, shift) + (1 - keep) * (population precision, population shift).

    `keep` 1 returns the belief, 0 the population prior. With population precision penalty * I and mean 0
    this is the discounting of Lambda Learner (KDD 2021, arXiv 2010.05154, section 3.2).
    """
    if not 0.0 <= keep <= 1.0:
        raise DataError(f"keep: expected a number from 0 to 1, got {keep}")
    if keep == 1.0:
        return belief
    precision = keep * belief.precision + (1.0 - keep) * population.precision
    shift = keep * belief.shift + (1.0 - keep) * population.shift
    mean = shift / precision if belief.is_diagonal else np.linalg.solve(precision, shift)
    return Gaussian(np.asarray(mean, dtype=np.float64), precision)
