"""Streams of per-entity logistic regressions with known coefficients: what the update benchmarks learn.

Each entity has d true coefficients drawn from N(0, 4), features N(0, 1) / sqrt(k) with k features
active in a row (all d of them if the rows are dense), so that the linear predictor has standard
deviation 2, and responses drawn from the model. Its belief has been learned from as many earlier rows
of its own (at least 16) under the population prior N(0, 4). From there Newton's method takes 3 to 5
steps to a squared decrement under 1e-10.
"""

from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from nearline.arrays import Floats
from nearline.posterior import Blocks, FeatureRows, Gaussian, Outcome, group_rows, update_many
from nearline.posterior.blocks import share, whole_layout
from nearline.posterior.update import Labels

VARIANCE = 4.0


@final
@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """Entities with a belief each and one mini-batch each to learn; rows in the order of the entities."""

    features: NDArray[Any] | csr_array
    rows: FeatureRows
    labels: Labels
    prior: Blocks

    def batch(self, e: int) -> tuple[Any, Floats]:
        """Features [n, d] and responses [n] of entity `e`."""
        here = slice(int(self.rows.row_start[e]), int(self.rows.row_start[e + 1]))
        return self.features[here], self.labels.y[here]

    def learn(self, threads: int = 1) -> Blocks:
        """The beliefs after the mini-batches, all in one call."""
        return update_many(
            self.rows, self.labels, self.prior, Outcome.BERNOULLI, full=self.prior.full, threads=threads
        ).beliefs


def dense_stream(rng: np.random.Generator, sizes: NDArray[np.int64], d: int) -> Stream:
    """Full precision, dense rows: `sizes` rows an entity."""
    theta = rng.normal(0.0, np.sqrt(VARIANCE), (len(sizes), d))
    population = share(Gaussian(np.zeros(d), np.eye(d) / VARIANCE))
    earlier = _dense_batch(rng, np.maximum(sizes, 16), theta)
    prior = update_many(earlier[1], earlier[2], population, Outcome.BERNOULLI).beliefs
    return Stream(*_dense_batch(rng, sizes, theta), prior)


def _dense_batch(
    rng: np.random.Generator, sizes: NDArray[np.int64], theta: Floats
) -> tuple[Floats, FeatureRows, Labels]:
    d = theta.shape[1]
    entity = np.repeat(np.arange(len(sizes)), sizes)
    x = rng.normal(size=(len(entity), d)) / np.sqrt(d)
    eta = np.einsum("ij,ij->i", x, theta[entity])
    return x, group_rows(x, entity, len(sizes)), Labels(_draw(rng, eta))


def sparse_stream(rng: np.random.Generator, entities: int, rows: int, d: int, active: int) -> Stream:
    """Diagonal precision, `active` features a row; each block holds all d columns, as lambda-learner's do."""
    theta = rng.normal(0.0, np.sqrt(VARIANCE), (entities, d))
    layout = whole_layout(entities, d)
    column = np.tile(np.arange(d, dtype=np.int32), entities)
    start = Blocks(layout, np.zeros(entities * d), np.full(entities * d, 1.0 / VARIANCE), column, full=False)
    earlier = _sparse_batch(rng, max(rows, 16), active, theta)
    prior = update_many(earlier[1], earlier[2], start, Outcome.BERNOULLI, full=False).beliefs
    return Stream(*_sparse_batch(rng, rows, active, theta), prior)


def _sparse_batch(
    rng: np.random.Generator, rows: int, active: int, theta: Floats
) -> tuple[csr_array, FeatureRows, Labels]:
    entities, d = theta.shape
    entity = np.repeat(np.arange(entities), rows)
    column = np.sort(np.argsort(rng.random((len(entity), d)), axis=1)[:, :active], axis=1)
    value = rng.normal(size=column.shape) / np.sqrt(active)
    eta = np.einsum("ij,ij->i", value, theta[entity[:, None], column])
    indptr = np.arange(len(entity) + 1) * active
    x = csr_array((value.ravel(), column.ravel(), indptr), shape=(len(entity), d))
    return x, group_rows(x, entity, entities), Labels(_draw(rng, eta))


def _draw(rng: np.random.Generator, eta: Floats) -> Floats:
    return (rng.random(len(eta)) < 1.0 / (1.0 + np.exp(-eta))).astype(np.float64)
