"""Rows whose label turned out wrong -> what is known without them.

A row learned at a mode leaves, in natural form, the precision w c x x' and the shift w (y - g + c x . mean) x, where
g and c are the mean response and the curvature of its family at the linear predictor. Taking it back subtracts the
same: exactly what was learned of Normal outcomes, where c is 1 wherever the mode is; of the others, what the row
would leave at the mode of today.

A belief has to stay positive definite. Where it would not (a row that was never learned, or of which too much
was forgotten), nothing is taken back and the entity says so.
"""

from dataclasses import replace

import numpy as np
from scipy.sparse import csr_array

from nearline.arrays import Columns, Floats, Ints
from nearline.posterior import outcomes
from nearline.posterior.blocks import Blocks, FeatureRows, pack
from nearline.posterior.evidence import complete, layout_for, select_evidence
from nearline.posterior.gaussian import Gaussian
from nearline.posterior.outcomes import is_valid_response
from nearline.posterior.update import Report, Status
from nearline.stream.given_others import Observed, Terms, given_others
from nearline.stream.update import Known, Learned, Rule

_SMALLEST_PIVOT = 1e-10
"""The least share of the prior precision, in any direction, that a belief may be left with."""


def take_back(known: Known, rows: FeatureRows, observed: Observed, rule: Rule) -> Learned:
    """Take rows back, all rows of an entity or none.

    `observed` as when they were learned. An entity whose belief would not stay positive definite comes back as it was,
    with the status `NOT_POSITIVE_DEFINITE`; one with a column or a number it cannot have learned, likewise.
    """
    terms = given_others(observed, rule.outcome, rule.noise_variance)
    taken = [_take_back_one(known, e, rows, observed, terms, rule) for e in range(rows.entities)]
    status = np.array([one[1] for one in taken], dtype=np.int8)
    row_learned = np.ones(rows.count, dtype=np.uint8)
    for e in np.flatnonzero((status != Status.LEARNED) & (status != Status.NO_ROWS)):
        row_learned[_rows_of(rows, int(e))] = 0
    report = Report(status, np.zeros(rows.entities, dtype=np.int32), row_learned)
    return Learned(Known(_stacked([one[0] for one in taken], known.evidence), known.as_of_ms), report)


def _take_back_one(
    known: Known, e: int, rows: FeatureRows, observed: Observed, terms: Terms, rule: Rule
) -> tuple[Blocks, Status]:
    own = select_evidence(known.evidence, np.array([e]))
    at = _rows_of(rows, e)
    if len(at) == 0:
        return own, Status.NO_ROWS
    column = own.columns_of(0)
    x = _dense(rows, at, column)
    if x is None:
        return own, Status.FEATURE_OUTSIDE_BLOCK
    if terms.scale is not None:
        x = x * terms.scale[at, None]
    share = rule.forgetting.keep_of_rows(observed.time_ms[at], known.as_of_ms[e])
    y, weight = observed.y[at], terms.weight[at] * share
    linear = terms.offset[at] + x @ _mean(own, column, rows, rule)
    finite = np.isfinite(linear) & np.isfinite(weight) & is_valid_response(rule.outcome, y)
    if not finite.all() or np.any(weight < 0.0):
        return own, Status.NOT_FINITE
    curvature = weight * outcomes.curvature(rule.outcome, linear)
    pull = weight * (y - outcomes.mean(rule.outcome, linear)) + curvature * (linear - terms.offset[at])
    shift = own.mean - x.T @ pull
    precision = own.precision - (pack((x.T * curvature) @ x) if own.full else curvature @ x**2)
    less = replace(own, mean=shift, precision=precision)
    return (
        (less, Status.LEARNED)
        if _is_belief(less, column, rule.prior)
        else (own, Status.NOT_POSITIVE_DEFINITE)
    )


def _mean(own: Blocks, column: Columns, rows: FeatureRows, rule: Rule) -> Floats:
    """Posterior mean over the columns of the evidence."""
    nothing = FeatureRows(
        0,
        rows.columns,
        np.zeros(2, np.int64),
        indptr=np.zeros(1, np.int64),
        indices=np.zeros(0, np.int32),
        values=np.zeros(0),
    )
    belief = complete(own, rule.prior, layout_for(nothing, own, rule.prior))
    return belief.mean if belief.mean.shape == column.shape else belief.mean[column]


def _is_belief(evidence: Blocks, column: Columns, prior: Gaussian) -> bool:
    """Whether prior + evidence is positive definite with room to spare, in units of the prior."""
    if prior.is_diagonal:
        size = 1.0 / np.sqrt(prior.precision[column])
        if not evidence.full:
            return bool(np.all(evidence.precision * size**2 > _SMALLEST_PIVOT - 1.0))
        own = evidence.belief(0).precision * np.outer(size, size)
    else:
        root = np.linalg.inv(np.linalg.cholesky(prior.precision))[:, column]
        own = root @ evidence.belief(0).precision @ root.T
    return bool(np.linalg.eigvalsh(own)[0] > _SMALLEST_PIVOT - 1.0) if len(own) else True


def _rows_of(rows: FeatureRows, e: int) -> Ints:
    here = slice(int(rows.row_start[e]), int(rows.row_start[e + 1]))
    return np.arange(here.start, here.stop) if rows.row is None else rows.row[here]


def _dense(rows: FeatureRows, at: Ints, column: Columns) -> Floats | None:
    """The rows over `column`, float64[len(at), len(column)]; None where they touch another."""
    if not rows.is_sparse:
        dense = rows.dense if rows.dense is not None else rows.dense32
        assert dense is not None  # noqa: S101 - rows are sparse or dense
        whole = np.asarray(dense[at], dtype=np.float64)
    else:
        assert rows.indices is not None and rows.indptr is not None and rows.values is not None  # noqa: S101, PT018
        shape = (rows.count, rows.columns)
        whole = csr_array((rows.values, rows.indices, rows.indptr), shape=shape)[at].toarray()
    outside = np.ones(rows.columns, dtype=np.bool_)
    outside[column] = False
    return None if np.any(whole[:, outside]) else whole[:, column]


def _stacked(blocks: list[Blocks], like: Blocks) -> Blocks:
    """Blocks of one entity each, back to back in the layout of `like`."""
    if not blocks:
        return like
    mean = np.concatenate([block.mean for block in blocks])
    return replace(like, mean=mean, precision=np.concatenate([block.precision for block in blocks]))
