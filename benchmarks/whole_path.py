"""Events through the whole path on one core: read, decoded, joined, learned in mini-batches, durable."""

import gc
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from benchmarks.shown_pairs import events, opened, pairs
from nearline.events.embedded import EmbeddedLog
from nearline.events.wire import encode_events
from nearline.stream.join_settings import JoinSettings
from nearline.stream.learner import LearnSettings
from nearline.stream.minibatch_settings import MiniBatchSettings
from nearline.stream.retention import Retention
from nearline.stream.worker import Worker, WorkerSettings
from nearline.testing import ManualClock

PART, KEPT_MS = 20_000, 400_000
"""Events appended at once; and how long what is done with is kept, in the time of the events, of which there are a
thousand a second: how much is kept does not depend on how fast the machine is."""
FIRST_MS = 1_700_000_000_000
BATCHES_OF_8 = LearnSettings(minibatch=MiniBatchSettings(rows=8, age_ms=600_000))
AT_FEEDBACK = WorkerSettings(
    JoinSettings(window_ms=60_000, learn_at="feedback", without_feedback="skip"), BATCHES_OF_8, at_once=PART
)
AT_CLOSE = replace(AT_FEEDBACK, join=JoinSettings(window_ms=60_000))


@final
@dataclass(frozen=True, slots=True)
class Passage:
    """How events went through the whole path.

    per_second : of processor time, for reading, joining, learning and committing.
    resident, disk : bytes after each part of `PART` events.
    """

    per_second: float
    resident: list[int]
    disk: list[int]


def through_the_path(count: int, settings: WorkerSettings) -> Passage:
    """Take so many events, which are appended a part at a time; what is joined and learned is removed after a while."""
    gc.collect()
    gc.freeze()  # what is there does not become garbage; the command `nearline worker` begins in the same way
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store, seconds, resident, disk = opened(folder), 0.0, list[int](), list[int]()
        clock = ManualClock(FIRST_MS)
        with EmbeddedLog(folder / "log", clock=clock) as log:
            worker = Worker(folder, log, store, settings, clock=clock)
            keep = Retention(log, worker.row_log, store, clock, keep_ms=KEPT_MS, every_ms=1)
            for there in _appended(log, count):
                clock.set(FIRST_MS + there)
                start = time.process_time()
                while worker.turn():
                    keep.turn()
                seconds += time.process_time() - start
                resident.append(_resident_bytes())
                disk.append(sum(path.stat().st_blocks * 512 for path in folder.rglob("*.mdb")))
            worker.close()
        store.close()
    return Passage(count / seconds, resident, disk)


def _appended(log: EmbeddedLog, count: int) -> Iterator[int]:
    """Append a part at a time; yields how many events there are."""
    shown = pairs(min(count // 2, 1_000_000))
    for begin in range(0, count // 2, PART // 2):
        some = [shown[i % len(shown)] for i in range(begin, min(begin + PART // 2, count // 2))]
        log.append(encode_events(events(some, begin, FIRST_MS + 2 * begin)))
        yield 2 * (begin + len(some))


def _resident_bytes() -> int:
    """The memory of this process that is in use, pages of files that it has mapped included."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
