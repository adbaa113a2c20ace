"""Mini-batches that cannot be learned whole -> their rows one by one, so that a bad row spoils nothing but itself."""

from dataclasses import replace

import numpy as np

from nearline.arrays import Ints
from nearline.posterior.blocks import FeatureRows
from nearline.posterior.evidence import select_evidence
from nearline.posterior.forgetting import Forgetting
from nearline.posterior.update import Report, Status
from nearline.stream.given_others import Observed
from nearline.stream.known_table import KnownTable
from nearline.stream.update import Known, Learned, Rule, learn


def learn_all_that_can_be(
    known: Known, rows: FeatureRows, observed: Observed, rule: Rule, *, batch_start: Ints, threads: int = 1
) -> Learned:
    """Learn as `learn` does; where a mini-batch fails, its rows in their order, each by itself.

    A number too large for the sums of a mini-batch makes all of it fail, whatever the other rows are. Such a mini-batch
    comes back learned if any of its rows could be, with `row_learned` 0 for the others.
    """
    done = learn(known, rows, observed, rule, batch_start=batch_start, threads=threads)
    status = done.report.status.copy()
    size = rows.rows_per_entity
    failed = np.flatnonzero((status != Status.LEARNED) & (status != Status.NO_ROWS) & (size > 1))
    if not len(failed):
        return done
    row_learned, entities = done.report.row_learned.copy(), np.arange(len(batch_start) - 1)
    table = KnownTable(rows.columns, full=known.evidence.full, whole=False)
    table.put(entities, done.known)
    for e in np.unique(np.searchsorted(batch_start, failed, side="right") - 1).tolist():
        own = Known(select_evidence(known.evidence, np.array([e])), known.as_of_ms[[e]])
        for batch in range(int(batch_start[e]), int(batch_start[e + 1])):
            at = _rows_of(rows, batch)
            whole = learn(own, _only(rows, at), observed, rule)
            if whole.report.status[0] in {Status.LEARNED, Status.NO_ROWS} or len(at) == 1:
                own, status[batch] = whole.known, whole.report.status[0]
                continue
            own, fate = _one_by_one(own, rows, at, observed, rule)
            row_learned[at] = fate == Status.LEARNED
            if np.any(fate == Status.LEARNED):
                status[batch] = Status.LEARNED
        table.put(np.array([e]), own)
    return Learned(table.take(entities), Report(status, done.report.steps, row_learned))


def _one_by_one(
    known: Known, rows: FeatureRows, at: Ints, observed: Observed, rule: Rule
) -> tuple[Known, Ints]:
    """What is known after some rows of one entity, and the status of each; one with a bad number counts as failed."""
    status = np.zeros(len(at), dtype=np.int64)
    for i, row in enumerate(at.tolist()):
        done = learn(known, _only(rows, np.array([row], dtype=np.int64)), observed, rule)
        known = done.known
        status[i] = done.report.status[0] if done.report.row_learned[row] else Status.NOT_FINITE
        if rule.forgetting.keep_per_batch is not None:  # once for the whole mini-batch
            rule = replace(rule, forgetting=Forgetting())
    return known, status


def _only(rows: FeatureRows, at: Ints) -> FeatureRows:
    """Some rows as one mini-batch."""
    return replace(rows, row_start=np.array([0, len(at)], dtype=np.int64), row=at)


def _rows_of(rows: FeatureRows, batch: int) -> Ints:
    here = np.arange(rows.row_start[batch], rows.row_start[batch + 1])
    return here if rows.row is None else rows.row[here]
