"""Beliefs + rows -> beliefs: the update of one entity, and of very many in one call.

The posterior is the Laplace approximation at the mode (exact for Normal outcomes)::

    mean'      = argmin_b  sum_i w_i loss(y_i, offset_i + x_i . b) + (b - mean)' precision (b - mean) / 2
    precision' = precision + sum_i w_i curvature_i(mean') x_i x_i'

which is Lambda Learner's sequential Bayesian update (KDD 2021, arXiv 2010.05154, equations 5 and 6) with the
example weights in both lines.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import final

import numpy as np
from numpy.typing import NDArray

from nearline.arrays import Bools, Columns, Floats, Ints
from nearline.errors import DataError
from nearline.kernels import _posterior
from nearline.posterior.blocks import (
    Blocks,
    FeatureRows,
    Features,
    active_layout,
    empty_blocks,
    group_rows,
    share,
    whole_layout,
)
from nearline.posterior.gaussian import Gaussian, trusted
from nearline.posterior.outcomes import Outcome

TOLERANCE = 1e-10
MAX_STEPS = 100


@final
class Status(IntEnum):
    """How the fit of one entity ended; all but LEARNED leave its belief as it was."""

    LEARNED = 0
    NO_ROWS = 1
    NOT_POSITIVE_DEFINITE = 2
    NOT_CONVERGED = 3
    NOT_FINITE = 4
    FEATURE_OUTSIDE_BLOCK = 5


_STATUSES = tuple(Status)


@final
class Method(IntEnum):
    """Which form of Newton's method solves an entity; all reach the same optimum."""

    CHOOSE = 0
    PRIMAL = 1
    DUAL = 2
    CONJUGATE_GRADIENTS = 3


@final
@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """What the rows are fitted to: float64[rows] each; a missing weight is 1, a missing offset 0."""

    y: Floats
    weight: Floats | None = None
    offset: Floats | None = None


@final
@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """How each entity and row fared.

    Attributes
    ----------
    status : int8[entities], values of `Status`.
    steps : int32[entities], Newton steps taken.
    row_learned : uint8[rows]; 0 where the row was set aside: a value not finite, a negative weight, or a
        response the outcome family does not allow.
    """

    status: NDArray[np.int8]
    steps: NDArray[np.int32]
    row_learned: NDArray[np.uint8]

    def count(self, status: Status) -> int:
        """How many entities ended so."""
        return int(np.count_nonzero(self.status == status))


@final
@dataclass(frozen=True, slots=True, eq=False)
class Update:
    """Beliefs after the update and the report on it."""

    beliefs: Blocks
    report: Report

    @property
    def set_aside(self) -> Bools:
        """Which rows were not learned, bool[rows]."""
        return np.asarray(self.report.row_learned == 0)


def update_many(
    rows: FeatureRows,
    labels: Labels,
    prior: Blocks,
    outcome: Outcome,
    *,
    full: bool = True,
    layout: tuple[Ints, Columns | None] | None = None,
    start: Floats | None = None,
    method: Method = Method.CHOOSE,
    tolerance: float = TOLERANCE,
    max_steps: int = MAX_STEPS,
    threads: int = 1,
) -> Update:
    """Update every entity by its own rows; bitwise the same for any number of threads.

    Parameters
    ----------
    prior : blocks of the same entities that hold every column their rows touch, or one shared block.
    layout : `start` and `column` of the posterior's blocks, where a shared diagonal prior leaves them open; by
        default the columns that each entity's rows touch.
    start : means laid out like the posterior's, where Newton's method begins instead of at the prior mean; it
        changes the time taken, not the optimum.
    full : whether the posterior keeps its correlations (a full precision) or only its diagonal.
    tolerance : on the squared Newton decrement of the last step, in units of log likelihood. The mean is then
        within about `tolerance` posterior standard deviations of the optimum.
    """
    if prior.full and not full:
        raise DataError("a full prior needs a full posterior: pass full=True, or a diagonal prior")
    if not prior.shared:
        block_start, column = prior.start, prior.column
    elif prior.full:
        block_start = whole_layout(rows.entities, rows.columns)
        column = np.tile(np.arange(rows.columns, dtype=np.int32), rows.entities) if rows.is_sparse else None
    else:
        block_start, column = active_layout(rows) if layout is None else layout
    posterior = empty_blocks(block_start, column, full=full)
    job = _new_job(rows.entities, rows.count, start)
    _posterior.update(rows, labels, prior, posterior, job, outcome, method, tolerance, max_steps, threads)
    return Update(posterior, job.report())


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """What the kernel fills in, and where it begins."""

    status: NDArray[np.int8]
    steps: NDArray[np.int32]
    row_learned: NDArray[np.uint8]
    start: Floats | None

    def report(self) -> Report:
        return Report(self.status, self.steps, self.row_learned)


def _new_job(entities: int, rows: int, start: Floats | None = None) -> _Job:
    return _Job(np.zeros(entities, np.int8), np.zeros(entities, np.int32), np.ones(rows, np.uint8), start)


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Learning:
    """What the kernel fills in, the mini-batches of each entity, and the share of the evidence kept before each."""

    status: NDArray[np.int8]
    steps: NDArray[np.int32]
    row_learned: NDArray[np.uint8]
    batch_start: Ints
    keep: Floats | None


def learn_batches(
    rows: FeatureRows,
    labels: Labels,
    prior: Blocks,
    before: Blocks,
    after: Blocks,
    outcome: Outcome,
    *,
    batch_start: Ints,
    keep: Floats | None = None,
    threads: int = 1,
) -> Report:
    """Add to the evidence `before` what each mini-batch of rows says, one after the other, and leave it in `after`.

    The same as completing the evidence, `update_many` and extracting it again, mini-batch by mini-batch, without
    making any of these. A mini-batch that could not be learned leaves the evidence it found, times its `keep`.

    Parameters
    ----------
    rows : grouped by mini-batch; entity e has the mini-batches from batch_start[e] to batch_start[e + 1].
    prior : one shared block over all columns.
    after : blocks to fill, over the columns of `before` and those that the entity's rows touch.
    keep : float64[mini-batches] in [0, 1], a factor on the evidence before each that has rows; None is 1.

    Returns
    -------
    Report
        Its status and steps are of the mini-batches.
    """
    batches = rows.entities
    learning = _Learning(
        np.zeros(batches, np.int8),
        np.zeros(batches, np.int32),
        np.ones(rows.count, np.uint8),
        batch_start,
        keep,
    )
    _posterior.learn(rows, labels, prior, before, after, learning, outcome, TOLERANCE, MAX_STEPS, threads)
    return Report(learning.status, learning.steps, learning.row_learned)


def update_one(
    belief: Gaussian,
    features: Features,
    y: Floats,
    outcome: Outcome,
    *,
    weight: Floats | None = None,
    offset: Floats | None = None,
    method: Method = Method.CHOOSE,
    tolerance: float = TOLERANCE,
) -> tuple[Gaussian, Status]:
    """Update one belief over d columns by rows `features` [n, d]; on failure the belief comes back unchanged."""
    if not isinstance(features, np.ndarray):
        return _update_one_sparse(belief, features, y, outcome, weight, offset, method, tolerance)
    mean, precision = np.empty(belief.mean.shape), np.empty(belief.precision.shape)
    status = _posterior.update_one(
        belief.mean,
        belief.precision,
        features,
        y,
        weight,
        offset,
        mean,
        precision,
        outcome,
        method,
        tolerance,
        MAX_STEPS,
    )
    return (belief if status else trusted(mean, precision)), _STATUSES[status]


def _update_one_sparse(
    belief: Gaussian,
    features: Features,
    y: Floats,
    outcome: Outcome,
    weight: Floats | None,
    offset: Floats | None,
    method: Method,
    tolerance: float,
) -> tuple[Gaussian, Status]:
    rows = group_rows(features)
    prior = share(belief)
    posterior = empty_blocks(prior.start, np.arange(rows.columns, dtype=np.int32), full=prior.full)
    job = _new_job(1, rows.count)
    labels = Labels(y, weight, offset)
    _posterior.update(rows, labels, prior, posterior, job, outcome, method, tolerance, MAX_STEPS, 1)
    status = Status(int(job.status[0]))
    return (posterior.belief(0) if status is Status.LEARNED else belief), status
