"""What is known of entities + their labelled rows -> what is then known; and the scores it gives.

One call takes mini-batches of each entity, thousands of entities at once. It is the only way of learning a
stream: the worker, the catch-up of a new generation and the replay all call it::

    evidence' = keep * evidence + what the rows say, each discounted by its own age

where `keep` and the ages count up to the latest row, or to the time the evidence was discounted to if that is later. A
row that comes late is discounted by its age, so with time-based forgetting neither the order of arrival nor the
cut into mini-batches matters: exactly for Normal outcomes, nearly for the others, whose curvature is taken at the mode
of the time.
"""

from dataclasses import dataclass, field, replace
from typing import final

import numpy as np

from nearline.arrays import Bools, Columns, Floats, Ints
from nearline.posterior.blocks import Blocks, FeatureRows, active_layout, empty_blocks, share
from nearline.posterior.evidence import complete, layout_for, no_evidence
from nearline.posterior.forgetting import Forgetting
from nearline.posterior.gaussian import Gaussian
from nearline.posterior.outcomes import Outcome
from nearline.posterior.score import score_blocks
from nearline.posterior.update import Labels, Report, learn_batches
from nearline.stream.given_others import Observed, given_others

NEVER = -(1 << 62)
"""The time, in ms, of an entity that has learned nothing yet."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """How an effect learns.

    Attributes
    ----------
    prior : belief about an entity nobody has seen, over all columns of the effect.
    outcome : family of the response; `noise_variance` that of a Normal response, otherwise 1.
    forgetting : how evidence ages.
    """

    prior: Gaussian
    outcome: Outcome
    noise_variance: float = 1.0
    forgetting: Forgetting = field(default_factory=Forgetting)
    shared: Blocks = field(init=False, repr=False)
    """The prior as the kernels take it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "shared", share(self.prior))


@final
@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What is known of some entities of one effect.

    Attributes
    ----------
    evidence : beyond the prior (see `nearline.posterior.evidence`).
    as_of_ms : int64[entities], the time the evidence is discounted to; `NEVER` of an entity that has none.
    """

    evidence: Blocks
    as_of_ms: Ints

    @classmethod
    def nothing(cls, entities: int, *, full: bool) -> "Known":
        """Of entities nobody has seen."""
        return cls(no_evidence(entities, full=full), np.full(entities, NEVER, dtype=np.int64))


@final
@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """What is known after mini-batches, and how these and their rows fared.

    A mini-batch that could not be fitted leaves the evidence as it was, discounted to its time; its status says why.
    """

    known: Known
    report: Report

    @property
    def set_aside(self) -> Bools:
        """Which rows were not learned, bool[rows]."""
        return np.asarray(self.report.row_learned == 0)


def learn(
    known: Known,
    rows: FeatureRows,
    observed: Observed,
    rule: Rule,
    *,
    batch_start: Ints | None = None,
    threads: int = 1,
) -> Learned:
    """Learn mini-batches of each entity; entities without a row come back as they are, bit for bit.

    The blocks that come back hold the columns the entity had and those its rows touch.

    Parameters
    ----------
    known : of the entities.
    rows : the effect's features, grouped by mini-batch.
    observed : the rows' labels, what else went into their linear predictor, and their times.
    batch_start : int64[entities + 1]; entity e has the mini-batches from batch_start[e] to batch_start[e + 1], and
        learns them in that order, as in as many calls; by default each has one.
    """
    if batch_start is None:
        batch_start = np.arange(rows.entities + 1)
    forgetting, evidence = rule.forgetting, known.evidence
    from_ms, to_ms = _times(rows, observed.time_ms, known.as_of_ms, batch_start)
    terms = given_others(observed, rule.outcome, rule.noise_variance)
    weight = terms.weight
    if forgetting.time_constant_ms is not None:
        weight = weight * forgetting.keep_of_rows(observed.time_ms, _of_rows(rows, to_ms))
    keep = None if forgetting.is_none else forgetting.keep_of_belief(from_ms, to_ms)
    of_entities = replace(rows, row_start=rows.row_start[batch_start])
    start, column = _layout(of_entities, evidence)
    after = empty_blocks(start, column, full=evidence.full)
    report = learn_batches(
        rows if terms.scale is None else scaled_rows(rows, terms.scale),
        Labels(observed.y, weight, terms.offset),
        rule.shared,
        evidence,
        after,
        rule.outcome,
        batch_start=batch_start,
        keep=keep,
        threads=threads,
    )
    return Learned(Known(after, _latest(to_ms, known.as_of_ms, batch_start)), report)


def score(
    known: Known, rows: FeatureRows, rule: Rule, now_ms: int | Ints, *, threads: int = 1
) -> tuple[Floats, Floats]:
    """Mean and variance of each row's x . b at a time, float64[rows] each; zeros for rows of no entity.

    `now_ms` : one time for all, or int64[entities]. Evidence from later than that is taken as it is.
    """
    keep = None
    if rule.forgetting.time_constant_ms is not None:
        keep = rule.forgetting.keep_of_belief(known.as_of_ms, np.asarray(now_ms, dtype=np.int64))
    layout = layout_for(rows, known.evidence, rule.prior)
    beliefs = complete(known.evidence, rule.shared, layout, keep=keep, threads=threads)
    return score_blocks(rows, beliefs, threads=threads)


def scaled_rows(rows: FeatureRows, scale: Floats) -> FeatureRows:
    """The rows with their features multiplied by float64[rows]."""
    if rows.is_sparse:
        assert rows.values is not None and rows.indptr is not None  # noqa: S101, PT018 - sparse rows have both
        return replace(rows, values=rows.values * np.repeat(scale, np.diff(rows.indptr)))
    dense = rows.dense if rows.dense is not None else rows.dense32
    assert dense is not None  # noqa: S101 - rows are sparse or dense
    return replace(rows, dense=dense * scale[:, None], dense32=None)


def _times(rows: FeatureRows, time_ms: Ints, as_of_ms: Ints, batch_start: Ints) -> tuple[Ints, Ints]:
    """The time the evidence is discounted to before and after each mini-batch, int64[mini-batches] each.

    After it is the time of its latest row, or before where this is later.
    """
    latest = _greatest(time_ms if rows.row is None else time_ms[rows.row], rows.row_start)
    size = np.diff(batch_start)
    if len(latest) == len(size) and (size == 1).all():
        return as_of_ms, np.maximum(as_of_ms, latest)
    first = batch_start[:-1][size > 0]
    latest[first] = np.maximum(latest[first], as_of_ms[size > 0])
    # The running maximum of each entity: that of (entity, rank of the time).
    time, rank = np.unique(latest, return_inverse=True)
    entity = np.repeat(np.arange(len(size)), size) * len(time)
    to_ms = time[np.maximum.accumulate(entity + rank) - entity]
    from_ms = np.concatenate([to_ms[:0], to_ms])
    from_ms[1:] = to_ms[:-1]
    from_ms[first] = as_of_ms[size > 0]
    return from_ms, to_ms


def _latest(to_ms: Ints, as_of_ms: Ints, batch_start: Ints) -> Ints:
    """The time after the last mini-batch of each entity; `as_of_ms` of one without any. int64[entities]."""
    if len(to_ms) == 0:
        return as_of_ms
    return np.where(batch_start[1:] > batch_start[:-1], to_ms[batch_start[1:] - 1], as_of_ms)


def _greatest(values: Ints, start: Ints) -> Ints:
    """The greatest of each group of values, int64[groups]; `NEVER` of one without any."""
    greatest = np.full(len(start) - 1, NEVER, dtype=np.int64)
    busy = start[1:] > start[:-1]
    if busy.any():
        greatest[busy] = np.maximum.reduceat(values[: start[-1]], start[:-1][busy])
    return greatest


def _of_rows(rows: FeatureRows, of_entity: Ints) -> Ints:
    """A value of each entity to each of its rows, int64[rows]; 0 for rows of no entity."""
    spread = np.repeat(of_entity, rows.rows_per_entity)
    if rows.row is None:
        return spread
    out = np.zeros(rows.count, dtype=np.int64)
    out[rows.row] = spread
    return out


def _layout(rows: FeatureRows, evidence: Blocks) -> tuple[Ints, Columns | None]:
    """`start` and `column` of the evidence after the rows."""
    if len(evidence.mean) == rows.entities * rows.columns:
        return evidence.start, evidence.column  # it has every column already
    start, column = active_layout(rows, evidence)
    if column is None:
        column = np.tile(np.arange(rows.columns, dtype=np.int32), rows.entities)
    return start, column
