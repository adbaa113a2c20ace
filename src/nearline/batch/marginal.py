"""Rows of one grouping factor + parameters -> -2 log marginal likelihood and its gradient.

The model of group e has a random effect b_e = L u_e with spherical u_e ~ N(0, I) (Normal outcomes: N(0, s^2 I))::

    eta_i = offset_i + x_i . beta + z_i' L u_e,      L lower triangular, its diagonal not negative

(Bates et al. 2015, doi:10.18637/jss.v067.i01, where L is the relative covariance factor Lambda_theta). In u nothing
grows without bound where a variance vanishes, so singular covariances are ordinary points of the search.
With H_e = I + L' Z_e' C_e Z_e L the precision of u_e and V_e = H_e^-1, the likelihoods are::

    Normal   -2 log L = sum_e log det H_e + W log(2 pi s^2) + r^2 / s^2,     W = sum of weights, s^2 = r^2 / W
    others   -2 log L = sum_e 2 f_e(u_e) + log det H_e + constant,           u_e the mode of f_e

where r^2 is the least of |y - eta|^2 + |u|^2 over beta and u, and f_e the negative log likelihood plus |u|^2 / 2.
The first is exact, with beta and s at their best for each L (equation 34); the second is Laplace's approximation,
and its beta and L are searched jointly. Both include the normalising constants of the distributions.
A weight w stands for the row w times; a Bernoulli row of weight w is a binomial of w trials, w y of them successes.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from scipy.special import gammaln

from nearline.arrays import Floats, Ints
from nearline.errors import ModelError
from nearline.posterior import outcomes
from nearline.posterior.blocks import FeatureRows, share
from nearline.posterior.gaussian import Gaussian
from nearline.posterior.outcomes import Outcome
from nearline.posterior.prior import moments
from nearline.posterior.update import Labels, Status, update_many


@final
@dataclass(frozen=True, slots=True, eq=False)
class GroupedRows:
    """Rows sorted by group.

    Attributes
    ----------
    x, z : float64[rows, p] and float64[rows, d], the features of the fixed and of the random effects.
    y, weight, offset : float64[rows].
    row_start : int64[groups + 1]; group e owns the rows row_start[e] : row_start[e + 1], one at least.
    """

    x: Floats
    z: Floats
    y: Floats
    weight: Floats
    offset: Floats
    row_start: Ints

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return len(self.row_start) - 1

    def sums(self, values: Floats) -> Floats:
        """Sum over the rows of each group, [rows, ...] -> [groups, ...]."""
        return np.asarray(np.add.reduceat(values, self.row_start[:-1], axis=0), dtype=np.float64)

    def products(self, left: Floats, right: Floats) -> Floats:
        """Sum of left_i right_i' over the rows of each group, [rows, j] and [rows, k] -> [groups, j, k]."""
        columns = [self.sums(left[:, j : j + 1] * right) for j in range(left.shape[1])]
        return np.stack(columns, axis=1)


@final
@dataclass(frozen=True, slots=True)
class Factor:
    """The entries of L that are searched: all of the lower triangle, column by column, or its diagonal."""

    columns: int
    full: bool

    @property
    def places(self) -> tuple[Ints, Ints]:
        """Row and column in L of each entry."""
        if not self.full:
            return np.arange(self.columns), np.arange(self.columns)
        column, row = np.triu_indices(self.columns)
        return row, column

    @property
    def lower_bounds(self) -> Floats:
        """0 on the diagonal, none elsewhere."""
        row, column = self.places
        return np.where(row == column, 0.0, -np.inf)

    def matrix(self, entries: Floats) -> Floats:
        """L, float64[d, d]."""
        square = np.zeros((self.columns, self.columns))
        square[self.places] = entries
        return square

    def entries(self, matrix: Floats) -> Floats:
        """The entries of `matrix` in the places searched; the inverse of `matrix`."""
        return matrix[self.places]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """The likelihood at some L, and what belongs to it.

    Attributes
    ----------
    value : -2 log likelihood.
    beta_gradient, factor_gradient : its derivatives, float64[p] (0 if beta is at its best) and float64[d, d].
    beta : float64[p]; information : float64[p, p], the precision of beta with L and s held.
    noise_variance : s^2; 1 where the outcome is not Normal.
    mode : float64[groups, d] of u_e; covariance : float64[groups, d, d], s^2 V_e.
    """

    value: float
    beta_gradient: Floats
    factor_gradient: Floats
    beta: Floats
    information: Floats
    noise_variance: float
    mode: Floats
    covariance: Floats


@final
@dataclass(frozen=True, slots=True, eq=False)
class NormalMarginal:
    """The exact likelihood of Normal outcomes, from sums over each group that are taken once.

    Attributes
    ----------
    gram : float64[groups, d, d], Z'WZ.
    cross : float64[groups, d, p + 1], Z'W[X, y].
    total : float64[p + 1, p + 1], [X, y]'W[X, y].
    weight : the sum of weights.
    """

    gram: Floats
    cross: Floats
    total: Floats
    weight: float

    @classmethod
    def of(cls, rows: GroupedRows) -> "NormalMarginal":
        """Take the sums."""
        xy = np.column_stack([rows.x, rows.y - rows.offset])
        weighted = rows.weight[:, None] * xy
        gram = rows.products(rows.z, rows.weight[:, None] * rows.z)
        return cls(gram, rows.products(rows.z, weighted), xy.T @ weighted, float(rows.weight.sum()))

    def at(self, factor: Floats) -> Solution:
        """The likelihood at L with the best beta and noise."""
        d, p = len(factor), len(self.total) - 1
        precision = np.eye(d) + factor.T @ self.gram @ factor
        covariance: Floats = np.asarray(np.linalg.inv(precision), dtype=np.float64)
        own = factor.T @ self.cross
        rest = self.total - np.einsum("ejk,ejl->kl", own, covariance @ own)
        beta = np.linalg.solve(rest[:p, :p], rest[:p, p])
        square = max(float(rest[p, p] - rest[:p, p] @ beta), float(np.finfo(np.float64).tiny))
        variance = square / self.weight
        minus = np.append(-beta, 1.0)
        mode = np.einsum("ejk,ekl,l->ej", covariance, own, minus)
        residual = self.cross @ minus - np.einsum("ejk,ek->ej", self.gram @ factor, mode)
        gradient = np.sum(self.gram @ factor @ covariance, axis=0) - residual.T @ mode / variance
        value = np.linalg.slogdet(precision)[1].sum() + self.weight * (np.log(2.0 * np.pi * variance) + 1.0)
        return Solution(
            float(value),
            np.zeros(p),
            2.0 * gradient,
            beta,
            rest[:p, :p] / variance,
            variance,
            mode,
            variance * covariance,
        )


@final
@dataclass(frozen=True, slots=True, eq=False)
class LaplaceMarginal:
    """Laplace's approximation of the likelihood of Bernoulli and Poisson outcomes; `constant` is free of beta and L."""

    rows: GroupedRows
    outcome: Outcome
    constant: float
    threads: int

    @classmethod
    def of(cls, rows: GroupedRows, outcome: Outcome, threads: int) -> "LaplaceMarginal":
        """Work out the constant: log binomial coefficients, or log factorials."""
        y, w = rows.y, rows.weight
        if outcome is Outcome.POISSON:
            log_constant = -w * gammaln(y + 1.0)
        else:
            log_constant = gammaln(w + 1.0) - gammaln(w * y + 1.0) - gammaln(w * (1.0 - y) + 1.0)
        return cls(rows, outcome, -2.0 * float(np.sum(log_constant)), threads)

    def at(self, beta: Floats, factor: Floats) -> Solution:
        """The likelihood at beta and L.

        With C the weighted curvatures, h_i and s_e as `Moments.leverage` and V_e t_e, r = w (mean - y)::

            g_i = r_i + (w_i c'_i h_i - C_i z_i' L s_e) / 2          half the derivative in offset_i
            d/d beta = 2 X' g,    d/d L = 2 sum_e Z' g u' + Z' C Z L V - Z' r s' / 2
        """
        rows = self.rows
        offset = rows.offset + rows.x @ beta
        mode, covariance, leverage, pull, log_determinant = self._modes(offset, factor)
        eta = offset + np.sum(rows.z * np.repeat(mode @ factor.T, np.diff(rows.row_start), axis=0), axis=1)
        residual = rows.weight * (outcomes.mean(self.outcome, eta) - rows.y)
        curvature = rows.weight * outcomes.curvature(self.outcome, eta)
        skew = rows.weight * outcomes.slope_of_curvature(self.outcome, eta) * leverage
        slope = residual + 0.5 * (skew - curvature * pull)
        shift = np.einsum("ejk,ek->ej", covariance, rows.sums(skew[:, None] * rows.z) @ factor)
        gram = rows.products(rows.z, curvature[:, None] * rows.z)
        gradient = rows.sums(slope[:, None] * rows.z).T @ mode + np.sum(gram @ factor @ covariance, axis=0)
        gradient -= 0.5 * rows.sums(residual[:, None] * rows.z).T @ shift
        own = factor.T @ rows.products(rows.z, curvature[:, None] * rows.x)
        information = (rows.x.T * curvature) @ rows.x - np.einsum("ejk,ejl->kl", own, covariance @ own)
        loss = rows.weight @ outcomes.loss(self.outcome, rows.y, eta) + 0.5 * np.sum(mode**2)
        value = self.constant + 2.0 * float(loss) + float(log_determinant.sum())
        return Solution(
            value, 2.0 * rows.x.T @ slope, 2.0 * gradient, beta, information, 1.0, mode, covariance
        )

    def _modes(self, offset: Floats, factor: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """Modes u [groups, d], covariances V [groups, d, d], leverage and pull [rows], log det H [groups]."""
        d, groups = len(factor), self.rows.groups
        spherical = np.ascontiguousarray(self.rows.z @ factor)
        features = FeatureRows(len(spherical), d, self.rows.row_start, dense=spherical)
        labels = Labels(self.rows.y, self.rows.weight, offset)
        prior = share(Gaussian(np.zeros(d), np.eye(d)))
        update = update_many(features, labels, prior, self.outcome, threads=self.threads)
        if np.any(update.report.status):
            bad = int(np.flatnonzero(update.report.status)[0])
            status = Status(int(update.report.status[bad])).name
            raise ModelError(
                f"mixed model: the mode of group {bad} was not found ({status}); are features scaled?"
            )
        found = moments(features, labels, update.beliefs, np.zeros(d), self.outcome, threads=self.threads)
        covariance = np.asarray(
            np.linalg.inv(_squares(update.beliefs.precision, groups, d)), dtype=np.float64
        )
        return (
            update.beliefs.mean.reshape(groups, d),
            covariance,
            found.leverage,
            found.pull,
            found.log_determinant,
        )


def _squares(packed: Floats, count: int, d: int) -> Floats:
    """Packed upper triangles, back to back -> symmetric [count, d, d]."""
    row, column = np.triu_indices(d)
    square = np.empty((count, d, d))
    square[:, row, column] = square[:, column, row] = packed.reshape(count, -1)
    return square
