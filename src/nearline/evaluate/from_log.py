"""An event log -> examples to replay: each impression with the label that the join gives it, known when it is given."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import final

import numpy as np

from nearline.arrays import Ints
from nearline.batch.from_rows import standing
from nearline.events.examples import examples_from_records
from nearline.events.log import EventLog
from nearline.model.examples import Examples
from nearline.stream.chunks import fault_of
from nearline.stream.join import Join
from nearline.stream.join_routes import Route
from nearline.stream.join_settings import JoinSettings
from nearline.stream.join_state import MemoryJoinState
from nearline.stream.joined import JoinCounts, decode_rows

_AT_ONCE = 20_000


@final
@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """What a log held.

    examples : the impressions that have a label, in the order in which they got it.
    known_ms : int64[n], when.
    counts : where every event went; those `waiting` had no label yet when the log ended.
    """

    examples: Examples
    known_ms: Ints
    counts: JoinCounts


def labelled_from_log(
    log: EventLog,
    settings: JoinSettings,
    *,
    bags: Iterable[str] = (),
    kinds: Iterable[str] = (),
    watch: Callable[[int, int], None] | None = None,
) -> Labelled:
    """Join a log from its oldest record to its present end, in memory.

    A label that was corrected is the last one, known from its correction on. What the impressions say of the model
    that served them is not used: a replay scores them anew.

    Parameters
    ----------
    settings : how impressions and feedback are joined; those of a deployment give the labels that it learned.
    bags, kinds : bags and kinds of entities that are to be there although no impression has them.
    watch : is told how many records were read, of how many.
    """
    join, state = Join(settings, Route()), MemoryJoinState()
    begin, end = log.begin(), log.end()
    after, rows = begin - 1, list[bytes]()
    while after < end:
        records = log.read(after, min(_AT_ONCE, end - after)).records
        rows += join.push(after + 1, records, state).rows.get(0, [])
        after += len(records)
        if watch is not None:
            watch(after - begin + 1, end - begin + 1)
    columns = decode_rows(rows)
    kept = np.array(
        [i for i in standing(columns).tolist() if fault_of(columns.records[i]) is None], dtype=np.int64
    )
    examples, _ = examples_from_records(
        [columns.records[i] for i in kept.tolist()],
        columns.label[kept],
        columns.weight[kept],
        bags=bags,
        kinds=kinds,
    )
    return Labelled(examples, columns.time_ms[kept], state.progress().counts)
