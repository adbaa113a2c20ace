"""How fresh beliefs are under a steady load: three processes, as in a deployment.

One appends events to the log a hundred times a second, by a schedule that waits for nobody; one is the worker; this one
asks the store for the newest entities. A delay counts from the instant at which the feedback was to be appended, so
whoever falls behind is seen to (no coordinated omission).
"""

import multiprocessing
import os
import tempfile
import threading
import time
from dataclasses import dataclass
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from multiprocessing.synchronize import Event as Signal
from pathlib import Path
from typing import cast, final

import numpy as np

from benchmarks.shown_pairs import events, opened, pairs
from nearline.arrays import Floats
from nearline.events.embedded import EmbeddedLog
from nearline.events.partition import partitions_of
from nearline.events.wire import encode_events
from nearline.store.embedded import EmbeddedStore
from nearline.stream.join_settings import JoinSettings
from nearline.stream.worker import Worker, WorkerSettings

IMMEDIATE = WorkerSettings(JoinSettings(window_ms=60_000, learn_at="feedback", without_feedback="skip"))
"""Everything by default, but an answer is learned as soon as it is there."""
PER_SECOND = 100
_POLL_S = 0.002
_PATIENCE_S = 60.0
_SPAWN = multiprocessing.get_context("spawn")


@final
@dataclass(frozen=True, slots=True, eq=False)
class Freshness:
    """What was seen.

    delay_ms : float64[n], one of each append, from the instant it was due to when its last belief was readable.
    offered, achieved : events per second by the schedule, and as they were appended.
    """

    delay_ms: Floats
    offered: float
    achieved: float


def freshness(seconds: float, rate: int = 5_000) -> Freshness:
    """Offer `rate` events per second for so long."""
    each, parts = rate // PER_SECOND // 2, int(seconds * PER_SECOND)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store, said, ready, stop = opened(folder), _SPAWN.Queue(), _SPAWN.Barrier(3), _SPAWN.Event()
        processes = [
            _SPAWN.Process(target=_offer, args=(folder, each, parts, ready, said)),
            _SPAWN.Process(target=_work, args=(folder, ready, stop)),
        ]
        for process in processes:
            process.start()
        ready.wait(_PATIENCE_S)
        seen: list[float] = []
        last = time.monotonic() + seconds + _PATIENCE_S
        while len(seen) < parts and time.monotonic() < last:
            names = [_mark(part) for part in range(len(seen), min(len(seen) + PER_SECOND, parts))]
            unseen = np.flatnonzero(store.get_many(1, "per-user", names).version == 0)
            seen += [time.monotonic()] * (int(unseen[0]) if len(unseen) else len(names))
            time.sleep(_POLL_S)
        stop.set()
        begin_s, end_s = said.get(timeout=_PATIENCE_S)
        for process in processes:
            process.join(_PATIENCE_S)
        store.close()
    if len(seen) < parts:
        raise RuntimeError(f"expected beliefs of {parts} appends, {len(seen)} were readable")
    due = begin_s + np.arange(parts) / PER_SECOND
    count = 2 * each * parts
    return Freshness((np.array(seen) - due) * 1e3, count / seconds, count / (end_s - begin_s))


def _mark(part: int) -> str:
    """The entity that is met first in the last impression of an append: its belief is readable, or it is not."""
    return f"mark-{part}"


def _offer(folder: Path, each: int, parts: int, ready: Barrier, said: "Queue[tuple[float, float]]") -> None:
    """Append at a steady rate; say when the schedule began, and when its last append was done."""
    _pin(0)
    shown = pairs(each * parts)
    content = []
    for part in range(parts):
        some = shown[part * each : (part + 1) * each]
        some[-1] = (_mark(part), some[-1][1])
        content.append(encode_events(events(some, part * each, 1_700_000_000_000 + 10 * part, 0)))
    with EmbeddedLog(folder / "log") as log:
        ready.wait(_PATIENCE_S)
        begin_s = time.monotonic()
        for part, records in enumerate(content):
            time.sleep(max(0.0, begin_s + part / PER_SECOND - time.monotonic()))
            log.append(records)
        said.put((begin_s, time.monotonic() + 1 / PER_SECOND))


def _work(folder: Path, ready: Barrier, stop: Signal) -> None:
    _pin(1)
    store = EmbeddedStore(folder / "store", partitions_of)
    with EmbeddedLog(folder / "log") as log:
        worker = Worker(folder, log, store, IMMEDIATE)
        ready.wait(_PATIENCE_S)
        worker.run(cast("threading.Event", stop))
        worker.close()
    store.close()


def _pin(core: int) -> None:
    """Keep this process to one core, where there are as many."""
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {allowed[core % len(allowed)]})
