"""What a fitted mixed model says, as numbers and as text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from nearline.arrays import Floats
from nearline.posterior.outcomes import Outcome


@final
@dataclass(frozen=True, slots=True, eq=False)
class MixedFit:
    """Estimates of eta = offset + x . beta + z . b_group, b ~ N(0, covariance).

    Attributes
    ----------
    outcome : the family of the response.
    coefficients : float64[p], beta.
    coefficient_covariance : float64[p, p], with the random-effect covariance taken as known.
    relative_factor : float64[d, d], lower triangular L: covariance = noise variance * L L' (noise variance 1
        unless outcomes are Normal). lme4 calls its entries theta.
    noise_std : the residual standard deviation in units of y; None unless outcomes are Normal.
    minus_twice_log_likelihood : with all constants; Laplace's approximation unless outcomes are Normal.
    groups : [groups], the distinct values of the grouping column, in order.
    modes : float64[groups, d], the most likely random effect of each group given the estimates.
    mode_covariance : float64[groups, d, d], of the random effects given the data and the estimates.
    rows : how many rows were fitted.
    converged : whether the slope of the likelihood vanishes at the estimates.
    evaluations : of the likelihood and its gradient.
    """

    outcome: Outcome
    coefficients: Floats
    coefficient_covariance: Floats
    relative_factor: Floats
    noise_std: float | None
    minus_twice_log_likelihood: float
    groups: NDArray[Any]
    modes: Floats
    mode_covariance: Floats
    rows: int
    converged: bool
    evaluations: int

    @property
    def standard_errors(self) -> Floats:
        """Of the coefficients, float64[p]."""
        return np.asarray(np.sqrt(np.diag(self.coefficient_covariance)), dtype=np.float64)

    @property
    def covariance(self) -> Floats:
        """Covariance of the random effects over the population of groups, float64[d, d]."""
        noise = 1.0 if self.noise_std is None else self.noise_std
        scaled = noise * self.relative_factor
        return np.asarray(scaled @ scaled.T, dtype=np.float64)

    @property
    def random_std(self) -> Floats:
        """Standard deviations of the random effects, float64[d]."""
        return np.asarray(np.sqrt(np.diag(self.covariance)), dtype=np.float64)

    @property
    def random_correlation(self) -> Floats:
        """Correlations of the random effects, float64[d, d]; nan where a standard deviation is 0."""
        std = self.random_std
        product = np.outer(std, std)
        correlation = np.full(product.shape, np.nan)
        np.divide(self.covariance, product, out=correlation, where=product > 0.0)
        return correlation

    @property
    def is_singular(self) -> bool:
        """Whether some combination of the random effects has (all but) no variance."""
        return bool(
            np.any(np.diag(self.relative_factor) <= 1e-4 * np.linalg.norm(self.relative_factor, axis=1))
        )

    def summary(self, fixed: Sequence[str] | None = None, random: Sequence[str] | None = None) -> str:
        """The estimates as text; `fixed` and `random` name the columns of x and of z."""
        fixed = fixed or [f"x{j}" for j in range(len(self.coefficients))]
        random = random or [f"z{j}" for j in range(len(self.relative_factor))]
        width = max(len(name) for name in [*fixed, *random, "coefficient"]) + 2
        method = "maximum likelihood" if self.outcome is Outcome.NORMAL else "maximum Laplace likelihood"
        lines = [
            f"{self.outcome.name.title()} mixed model by {method}: {self.rows} rows, {len(self.groups)} groups",
            f"-2 log likelihood {self.minus_twice_log_likelihood:.4f}",
            "",
            f"{'random effect':<{width}}{'std':>12}  correlation",
        ]
        for j, (name, std) in enumerate(zip(random, self.random_std, strict=True)):
            correlations = "".join(f"{value:>8.3f}" for value in self.random_correlation[j, :j])
            lines.append(f"{name:<{width}}{std:>12.5g}{correlations}")
        if self.noise_std is not None:
            lines.append(f"{'(noise)':<{width}}{self.noise_std:>12.5g}")
        lines += ["", f"{'coefficient':<{width}}{'estimate':>12}{'std. error':>12}{'ratio':>9}"]
        for name, value, error in zip(fixed, self.coefficients, self.standard_errors, strict=True):
            lines.append(f"{name:<{width}}{value:>12.5g}{error:>12.5g}{value / error:>9.2f}")
        if self.is_singular:
            lines += ["", "Singular: some combination of the random effects has a variance of 0."]
        if not self.converged:
            lines += ["", "NOT CONVERGED: the slope of the likelihood does not vanish at these estimates."]
        return "\n".join(lines)
