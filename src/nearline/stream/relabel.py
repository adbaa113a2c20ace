"""Evidence learned with one label -> as if learned with another, without the rows it was learned with.

With a canonical link the log-likelihood of a row is weight (label z - b(z)), z = offset + x'beta: the label enters it
linearly, and neither b nor the curvature depends on it. So with another label the evidence gains the linear term
weight (label' - label) x'beta, which in natural form is::

    precision' = precision
    shift'     = shift + keep weight (label' - label) x

with `keep` what forgetting has left of the row. No precision is subtracted, so a belief stays positive definite. It is
exact for Normal outcomes; for others the curvature stays that at the old mode, one Newton step from it.
"""

import numpy as np

from nearline.arrays import Bools, Floats, Ints
from nearline.posterior.blocks import Blocks, FeatureRows


def relabel(evidence: Blocks, rows: FeatureRows, change: Floats) -> tuple[Blocks, Bools]:
    """Return the evidence as it would be with the rows' new labels, and which rows could be changed, bool[rows].

    A row cannot be changed where its entity has no evidence on one of its features: then it never learned the row, or
    has forgotten it. Such a row changes nothing.

    Parameters
    ----------
    evidence : blocks of evidence by entity; `mean` holds the shift.
    rows : rows grouped by the same entities, with the features that they were learned with.
    change : float64[grouped rows], keep * weight * (new label - label learned), with the weight as learned: for Normal
        outcomes divided by the noise variance.
    """
    entity, grouped, column, value = _entries(rows)
    assert evidence.column is not None  # noqa: S101 - evidence always lists its columns
    size = np.diff(evidence.start)
    key = np.repeat(np.arange(evidence.entities), size) * np.int64(rows.columns) + evidence.column
    wanted = entity * np.int64(rows.columns) + column
    order = np.argsort(key, kind="stable")
    at = np.searchsorted(key, wanted, sorter=order)
    place = order[np.minimum(at, len(key) - 1)] if len(key) else np.zeros(len(wanted), np.int64)
    known = (key[place] == wanted) if len(key) else np.zeros(len(wanted), np.bool_)
    could = np.isfinite(change)
    could[grouped[~known]] = False
    kept = could[grouped]
    shift = evidence.mean.copy()
    np.add.at(shift, place[kept], value[kept] * change[grouped[kept]])
    return Blocks(
        evidence.start, shift, evidence.precision, evidence.column, evidence.packed_start, evidence.full
    ), could


def _entries(rows: FeatureRows) -> tuple[Ints, Ints, Ints, Floats]:
    """Entity, grouped row, column and value of every feature that is not 0."""
    row = np.arange(rows.row_start[-1]) if rows.row is None else rows.row
    owner = np.repeat(np.arange(rows.entities), rows.rows_per_entity)
    if rows.indptr is not None and rows.indices is not None and rows.values is not None:
        size = np.diff(rows.indptr)[row]
        grouped = np.repeat(np.arange(len(row)), size)
        at = np.repeat(rows.indptr[row] - (np.cumsum(size) - size), size) + np.arange(int(size.sum()))
        column, value = rows.indices[at].astype(np.int64), rows.values[at]
    else:
        dense = rows.dense if rows.dense is not None else rows.dense32
        assert dense is not None  # noqa: S101 - one of the forms is there
        grouped, column = np.nonzero(dense[row])
        value = dense[row][grouped, column].astype(np.float64)
    present = value != 0.0
    return owner[grouped][present], grouped[present], column[present], value[present]
