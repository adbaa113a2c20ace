"""Where the processor time of the whole path goes: its stages, in microseconds for each event."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from time import process_time
from typing import Any

from nearline.events.embedded import EmbeddedLog
from nearline.stream import join, joined_log, learner
from nearline.stream.chunks import ChunkReader
from nearline.stream.effect_learner import EffectLearner
from nearline.stream.join_lmdb import LmdbJoinState
from nearline.stream.pending import Pending
from nearline.stream.retention import Retention
from nearline.stream.worker import Worker
from nearline.stream.working_records import WorkingRecords

_STAGES: tuple[tuple[Any, str, str], ...] = (
    (EmbeddedLog, "read", "read the log"),
    (join, "_read", "join: heads of records"),
    (join.Join, "_recall", "join: what it remembers, read"),
    (join.Join, "push", "join: the run, its rows and changes"),
    (LmdbJoinState, "save", "join: what it remembers, written"),
    (joined_log, "append_in", "join: rows written"),
    (joined_log.JoinedLog, "join", "join: commit"),
    (joined_log.JoinedLog, "read", "rows read"),
    (learner, "decode_rows", "rows read"),
    (ChunkReader, "read", "records to columns"),
    (EffectLearner, "step", "mini-batches"),
    (Pending, "at", "mini-batches"),
    (EffectLearner, "_learn", "learn"),
    (WorkingRecords, "_load", "beliefs read"),
    (WorkingRecords, "write", "beliefs written"),
    (learner.Learner, "step", "mini-batches"),
    (Worker, "turn", "beliefs: commit"),
    (Retention, "turn", "what is done with, removed"),
)
"""Functions by owner and name, and the stage that their own time counts to: without that of others of these."""


@contextmanager
def clocked() -> Iterator[dict[str, float]]:
    """Collect the seconds of processor time spent in each stage while the block runs."""
    seconds: dict[str, float] = defaultdict(float)
    inner: list[float] = []
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in _STAGES]
    for owner, name, stage in _STAGES:
        setattr(owner, name, _timed(getattr(owner, name), stage, seconds, inner))
    try:
        yield seconds
    finally:
        for owner, name, function in before:
            setattr(owner, name, function)


def _timed(
    function: Callable[..., Any], stage: str, seconds: dict[str, float], inner: list[float]
) -> Callable[..., Any]:
    """The function, with the time it takes, less that of stages within it, added to its stage."""

    @wraps(function)
    def timed(*args: Any, **named: Any) -> Any:
        begin = process_time()
        inner.append(0.0)
        try:
            return function(*args, **named)
        finally:
            spent = process_time() - begin
            seconds[stage] += spent - inner.pop()
            if inner:
                inner[-1] += spent

    return timed
