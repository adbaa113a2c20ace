"""The whole path from events to durable beliefs: throughput on one core, memory, peers, and how fresh beliefs are.

NEARLINE_STREAM_EVENTS sets how many events memory is measured over.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import numpy as np

from benchmarks.measurement import Bar, Measurement
from benchmarks.offered import freshness
from benchmarks.peers import lambda_learner_of_pairs, river
from benchmarks.shown_pairs import events, opened, pairs
from nearline.clock import SystemClock
from nearline.events.embedded import EmbeddedLog
from nearline.events.wire import encode_events
from nearline.stream.join_settings import JoinSettings
from nearline.stream.learner import LearnSettings
from nearline.stream.minibatch_settings import MiniBatchSettings
from nearline.stream.retention import Retention
from nearline.stream.worker import Worker, WorkerSettings

PART, KEPT_MS = 20_000, 10_000
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
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store, seconds, resident, disk = opened(folder), 0.0, list[int](), list[int]()
        with EmbeddedLog(folder / "log") as log:
            worker = Worker(folder, log, store, settings)
            keep = Retention(log, worker.row_log, store, SystemClock(), keep_ms=KEPT_MS, every_ms=1_000)
            for _ in _appended(log, count):
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
        log.append(encode_events(events(some, begin, 1_700_000_000_000 + 2 * begin)))
        yield 2 * (begin + len(some))


def _resident_bytes() -> int:
    """The memory of this process that is in use, pages of files that it has mapped included."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _throughput(quick: bool) -> list[Measurement]:
    count = 100_000 if quick else 600_000
    shown = pairs(20_000 if quick else 50_000)
    peers = {
        "River, a LogisticRegression of each user and each film": river(shown),
        "lambda-learner, mini-batches of 20": lambda_learner_of_pairs(shown),
    }
    ours = through_the_path(count, AT_FEEDBACK).per_second
    found = [
        Measurement(
            "stream: the whole path on one core, an answer learned when it comes",
            ours,
            "events/s",
            Bar(50_000.0),
            "an impression and its feedback are two events; mini-batches of 8, durable commits",
        ),
        Measurement(
            "stream: the same, learned when the window closes",
            through_the_path(count, AT_CLOSE).per_second,
            "events/s",
        ),
    ]
    return found + [
        Measurement(
            f"stream: the whole path, beside the learning alone of {name.split(',')[0]}",
            ours / peer,
            "x",
            baseline=f"{name}: from dictionaries or arrays made before, no log, join, variance of others or disk",
            ours=f"{ours:,.0f} events/s",
            peer=f"{peer:,.0f} events/s",
        )
        for name, peer in peers.items()
    ]


def _memory(quick: bool) -> list[Measurement]:
    count = int(os.environ.get("NEARLINE_STREAM_EVENTS", "200000" if quick else "5000000"))
    passage = through_the_path(count, AT_FEEDBACK)
    fifth = len(passage.resident) // 5 - 1
    for i in range(fifth, len(passage.resident), fifth + 1):
        mega = passage.resident[i] / 2**20, passage.disk[i] / 2**20
        print(f"after {PART * (i + 1):>9,} events: resident {mega[0]:.0f} MiB, on disk {mega[1]:.0f} MiB")
    return [
        Measurement(
            f"stream: {what}, growth from 20 % to 100 % of {count:,} events",
            100.0 * (values[-1] / values[fifth] - 1.0),
            "%",
            Bar(5.0, "at most") if what == "memory" and not quick else None,
            ours=f"{values[-1] / 2**20:.0f} MiB, {values[fifth] / 2**20:.0f} MiB before",
        )
        for what, values in (("memory", passage.resident), ("disk", passage.disk))
    ]


def _freshness(quick: bool) -> list[Measurement]:
    found = freshness(5.0 if quick else 20.0)
    how = f"offered {found.offered:,.0f} events/s, appended {found.achieved:,.0f}; writer, worker and reader processes"
    bars = {50: 150.0, 90: None, 99: 1_000.0, 100: None}
    return [
        Measurement(
            f"stream: feedback to readable belief, {'longest' if share == 100 else f'{share} % within'}",
            float(np.percentile(found.delay_ms, share)),
            "ms",
            None if bar is None else Bar(bar, "at most"),
            how,
        )
        for share, bar in bars.items()
    ]


def run(quick: bool = False) -> list[Measurement]:
    """All figures of this module.

    Freshness is of beliefs learned when the answer comes. With the join's default an impression is learned when its
    window closes: the window and the allowed lateness are to be added, whatever the speed.
    """
    return [*_throughput(quick), *_freshness(quick), *_memory(quick)]


if __name__ == "__main__":
    for line in run(quick=True):
        print(line)
