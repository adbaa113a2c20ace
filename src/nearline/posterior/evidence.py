"""Beliefs <-> evidence: what an entity's data say beyond the population prior.

In natural form a belief is the sum of the prior and the evidence::

    precision        = prior precision        + evidence precision
    precision @ mean = prior precision @ mean + evidence shift

and the evidence has entries only for the columns the entity's rows touched. So it is what is kept of an entity:
a feature it has never seen costs nothing and starts at the prior, also where a full prior correlates it with
others; forgetting is a factor on the evidence; and a block grows by adding the prior over more columns.
"""

from dataclasses import dataclass, replace
from typing import final

import numpy as np
from numpy.typing import NDArray

from nearline.arrays import Columns, Floats, Ints
from nearline.errors import ModelError
from nearline.kernels import _posterior
from nearline.posterior.blocks import Blocks, FeatureRows, active_layout, empty_blocks, share, whole_layout
from nearline.posterior.gaussian import Gaussian


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Out:
    status: NDArray[np.int8]
    keep: Floats | None = None


def no_evidence(entities: int, *, full: bool) -> Blocks:
    """Evidence of entities that have none."""
    return empty_blocks(np.zeros(entities + 1, np.int64), np.zeros(0, np.int32), full=full)


def complete(
    evidence: Blocks,
    prior: Gaussian | Blocks,
    layout: tuple[Ints, Columns | None],
    *,
    keep: Floats | None = None,
    threads: int = 1,
) -> Blocks:
    """Beliefs over the columns of `layout`: prior + keep * evidence.

    `layout` is (start, column) as of `Blocks` and holds the columns of the evidence; under a full prior it must
    hold every column. `keep` float64[entities] in [0, 1] discounts the evidence. `prior` may be one that `share` made,
    which saves making it for every call.
    """
    belief = empty_blocks(*layout, full=evidence.full)
    out = _Out(np.zeros(belief.entities, np.int8), keep)
    shared = share(prior)
    _posterior.complete(evidence, shared, belief, out, len(shared.mean), False, threads)
    _require_learned(out.status)
    return belief


def extract_evidence(
    belief: Blocks, prior: Gaussian | Blocks, layout: tuple[Ints, Columns | None], *, threads: int = 1
) -> Blocks:
    """Evidence over the columns of `layout`: belief - prior. The inverse of `complete` with nothing forgotten."""
    start, column = layout
    if column is None:
        column = np.tile(np.arange(len(prior.mean), dtype=np.int32), len(start) - 1)
    evidence = empty_blocks(start, column, full=belief.full)
    out = _Out(np.zeros(belief.entities, np.int8))
    shared = share(prior)
    _posterior.complete(evidence, shared, belief, out, len(shared.mean), True, threads)
    _require_learned(out.status)
    return evidence


def layout_for(rows: FeatureRows, evidence: Blocks, prior: Gaussian) -> tuple[Ints, Columns | None]:
    """The columns a belief needs for these rows: all under a full prior, else those seen in rows or evidence."""
    if rows.is_sparse and len(evidence.mean) == rows.entities * rows.columns:
        return evidence.start, evidence.column  # the evidence has every column already
    if prior.is_diagonal:
        if rows.is_sparse:
            return active_layout(rows, evidence)
        return whole_layout(rows.entities, rows.columns), None
    column = np.tile(np.arange(rows.columns, dtype=np.int32), rows.entities) if rows.is_sparse else None
    return whole_layout(rows.entities, rows.columns), column


def select_evidence(evidence: Blocks, entity: Ints) -> Blocks:
    """Evidence of the entities listed; -1 stands for one that has none."""
    size = np.append(np.diff(evidence.start), 0)[entity]
    start = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
    assert evidence.column is not None  # noqa: S101 - evidence always lists its columns
    at = _ranges(np.append(evidence.start[:-1], 0)[entity], size)
    if not evidence.full:
        return Blocks(start, evidence.mean[at], evidence.precision[at], evidence.column[at], full=False)
    assert evidence.packed_start is not None  # noqa: S101
    packed_size = size * (size + 1) // 2
    packed_start = np.concatenate([[0], np.cumsum(packed_size)]).astype(np.int64)
    packed_at = _ranges(np.append(evidence.packed_start[:-1], 0)[entity], packed_size)
    return Blocks(start, evidence.mean[at], evidence.precision[packed_at], evidence.column[at], packed_start)


def aged(evidence: Blocks, keep: Floats) -> Blocks:
    """The evidence of each entity times the share float64[entities] of it that is kept."""
    packed_start = evidence.packed_start if evidence.full else None
    sizes = np.diff(evidence.start)
    packed = sizes if packed_start is None else np.diff(packed_start)
    mean = evidence.mean * np.repeat(keep, sizes)
    return replace(evidence, mean=mean, precision=evidence.precision * np.repeat(keep, packed))


def _ranges(begin: Ints, size: Ints) -> Ints:
    """begin[0], begin[0] + 1, ... (size[0] of them), begin[1], ..."""
    total = int(size.sum())
    before = np.cumsum(size) - size
    return np.asarray(np.repeat(begin - before, size) + np.arange(total), dtype=np.int64)


def _require_learned(status: NDArray[np.int8]) -> None:
    if np.any(status):
        bad = int(np.flatnonzero(status)[0])
        raise ModelError(
            f"the evidence of entity {bad} does not fit the prior (status {int(status[bad])}): "
            "was it learned with other columns or another prior?"
        )
