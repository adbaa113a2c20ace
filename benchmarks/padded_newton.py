"""Batched NumPy Newton over ragged entities: padded to power-of-two row counts, one bucket a count.

What one writes without a compiler: every product and every solve is over a whole stack of entities,
stacks are small enough to stay in cache, and an entity leaves its stack once it has converged.
"""

import numpy as np
from numpy.typing import NDArray

from benchmarks.problems import Stream
from nearline.arrays import Floats
from nearline.posterior.blocks import unpack

STACK_BYTES = 1 << 20


def learn_padded(stream: Stream, prior_precision: Floats, tolerance: float = 1e-10) -> tuple[Floats, Floats]:
    """Means [entities, d] and precisions [entities, d, d] after the mini-batches of a dense stream."""
    sizes = stream.rows.rows_per_entity
    d = stream.rows.columns
    prior_mean = stream.prior.mean.reshape(len(sizes), d)
    mean, precision = prior_mean.copy(), prior_precision.copy()
    bucket = np.where(sizes > 0, 1 << np.ceil(np.log2(np.maximum(sizes, 1))).astype(int), 0)
    for n in np.unique(bucket[bucket > 0]):
        members = np.flatnonzero(bucket == n)
        stack = max(1, STACK_BYTES // (8 * int(n) * d))
        for first in range(0, len(members), stack):
            here = members[first : first + stack]
            x, y, weight = _pad(stream, here, int(n))
            mean[here], precision[here] = _newton(
                x, y, weight, prior_mean[here], prior_precision[here], tolerance
            )
    return mean, precision


def _pad(stream: Stream, members: NDArray[np.int64], n: int) -> tuple[Floats, Floats, Floats]:
    """Rows [members, n, d], responses and weights [members, n]; the padding has weight 0."""
    assert isinstance(stream.features, np.ndarray)
    start, sizes = stream.rows.row_start[members], stream.rows.rows_per_entity[members]
    position = np.arange(n)
    row = np.minimum(start[:, None] + position, len(stream.features) - 1)
    return stream.features[row], stream.labels.y[row], (position < sizes[:, None]).astype(np.float64)


def _newton(
    x: Floats, y: Floats, weight: Floats, prior_mean: Floats, prior: Floats, tolerance: float
) -> tuple[Floats, Floats]:
    b, precision = prior_mean.copy(), np.empty_like(prior)
    active = np.arange(len(x))
    xt = x.transpose(0, 2, 1)
    eta = np.matmul(x, b[:, :, None])[:, :, 0]
    residual, curvature = _row_terms(eta, y, weight)
    done = np.zeros(len(x), dtype=bool)
    p, m = prior, prior_mean
    while True:
        hessian = p + np.matmul(xt, curvature[:, :, None] * x)
        if done.any():
            precision[active[done]] = hessian[done]
            keep = ~done
            active, x, y, weight, p, m = active[keep], x[keep], y[keep], weight[keep], p[keep], m[keep]
            residual, eta, hessian = residual[keep], eta[keep], hessian[keep]
            xt = x.transpose(0, 2, 1)
        if not len(active):
            return b, precision
        away = (b[active] - m)[:, :, None]
        gradient = np.matmul(p, away)[:, :, 0] - np.matmul(xt, residual[:, :, None])[:, :, 0]
        step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        b[active] -= step
        eta -= np.matmul(x, step[:, :, None])[:, :, 0]
        residual, curvature = _row_terms(eta, y, weight)
        done = np.einsum("ij,ij->i", gradient, step) < tolerance


def _row_terms(eta: Floats, y: Floats, weight: Floats) -> tuple[Floats, Floats]:
    probability = 1.0 / (1.0 + np.exp(-eta))
    return weight * (y - probability), weight * probability * (1.0 - probability)


def square_precisions(stream: Stream) -> Floats:
    """The precisions of a stream's beliefs as [entities, d, d]."""
    d = stream.rows.columns
    packed = stream.prior.precision.reshape(-1, d * (d + 1) // 2)
    return np.stack([unpack(p, d) for p in packed])
