"""What is known of entities + their labelled rows -> what is then known; and the scores it gives.

One call takes one mini-batch of each entity, thousands of entities at once. It is the only way of learning a
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

from nearline.arrays import Bools, Floats, Ints
from nearline.posterior.blocks import Blocks, FeatureRows, active_layout, share
from nearline.posterior.evidence import complete, extract_evidence, layout_for, no_evidence
from nearline.posterior.forgetting import Forgetting
from nearline.posterior.gaussian import Gaussian
from nearline.posterior.outcomes import Outcome
from nearline.posterior.score import score_blocks
from nearline.posterior.update import Labels, Report, update_many
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
    """What is known after a mini-batch, and how its entities and rows fared.

    An entity that could not be fitted keeps its evidence, discounted to the new `as_of_ms`; its status says why.
    """

    known: Known
    report: Report

    @property
    def set_aside(self) -> Bools:
        """Which rows were not learned, bool[rows]."""
        return np.asarray(self.report.row_learned == 0)


def learn(known: Known, rows: FeatureRows, observed: Observed, rule: Rule, *, threads: int = 1) -> Learned:
    """Learn a mini-batch of each entity; entities without a row come back as they are, bit for bit.

    The blocks that come back hold the columns the entity had and those its rows touch.

    Parameters
    ----------
    known : of the entities that `rows` is grouped by.
    rows : the effect's features.
    observed : the rows' labels, what else went into their linear predictor, and their times.
    """
    to_ms = _latest(rows, observed.time_ms, known.as_of_ms)
    terms = given_others(observed, rule.outcome, rule.noise_variance)
    weight = terms.weight
    if rule.forgetting.time_constant_ms is not None:
        weight = weight * rule.forgetting.keep_of_rows(observed.time_ms, _of_rows(rows, to_ms))
    scaled = rows if terms.scale is None else scaled_rows(rows, terms.scale)
    keep = rule.forgetting.keep_of_belief(known.as_of_ms, to_ms)
    layout = layout_for(rows, known.evidence, rule.prior)
    before = complete(known.evidence, rule.shared, layout, keep=keep, threads=threads)
    update = update_many(
        scaled,
        Labels(observed.y, weight, terms.offset),
        before,
        rule.outcome,
        full=known.evidence.full,
        threads=threads,
    )
    seen = layout if _is_whole(known.evidence, rows) else active_layout(rows, known.evidence)
    evidence = extract_evidence(update.beliefs, rule.shared, seen, threads=threads)
    idle = rows.row_start[1:] == rows.row_start[:-1]
    if idle.any():
        evidence = _with_unchanged(evidence, known.evidence, idle)
    return Learned(Known(evidence, to_ms), update.report)


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


def _latest(rows: FeatureRows, time_ms: Ints, as_of_ms: Ints) -> Ints:
    """The time of each entity's latest row, or that of its evidence where this is later, int64[entities]."""
    times = time_ms if rows.row is None else time_ms[rows.row]
    start = rows.row_start
    if len(times) == 0:
        return as_of_ms
    if (start[1:] > start[:-1]).all():
        return np.maximum(as_of_ms, np.maximum.reduceat(times, start[:-1]))
    latest = as_of_ms.copy()
    busy = np.flatnonzero(start[1:] > start[:-1])
    latest[busy] = np.maximum(as_of_ms[busy], np.maximum.reduceat(times, start[busy]))
    return latest


def _of_rows(rows: FeatureRows, of_entity: Ints) -> Ints:
    """A value of each entity to each of its rows, int64[rows]; 0 for rows of no entity."""
    spread = np.repeat(of_entity, rows.rows_per_entity)
    if rows.row is None:
        return spread
    out = np.zeros(rows.count, dtype=np.int64)
    out[rows.row] = spread
    return out


def _is_whole(evidence: Blocks, rows: FeatureRows) -> bool:
    """Whether every block holds every column already."""
    return len(evidence.mean) == rows.entities * rows.columns


def _with_unchanged(after: Blocks, before: Blocks, same: Bools) -> Blocks:
    """The evidence with blocks of `same` entities bit for bit as before; those have the layout they had."""
    mean, precision = after.mean.copy(), after.precision.copy()
    packed_after, packed_before = after.packed_start, before.packed_start
    for e in np.flatnonzero(same):
        mean[after.start[e] : after.start[e + 1]] = before.mean[before.start[e] : before.start[e + 1]]
        if packed_after is None or packed_before is None:
            packed_after, packed_before = after.start, before.start
        here = slice(packed_after[e], packed_after[e + 1])
        precision[here] = before.precision[packed_before[e] : packed_before[e + 1]]
    return replace(after, mean=mean, precision=precision)
