"""The whole path from events to durable beliefs: throughput on one core, memory, peers, and how fresh beliefs are.

The people and films of MovieLens 1M (NEARLINE_DATA; drawn at random without it), each pair shown once with 20 features
for each of two random effects, and answered. NEARLINE_STREAM_EVENTS sets how many events memory is measured over.
"""

import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from scipy.special import expit

from benchmarks.measurement import Bar, Measurement
from nearline.arrays import Floats
from nearline.datasets import ml1m_partial
from nearline.events.embedded import EmbeddedLog
from nearline.events.impression import Event, Feedback, Impression
from nearline.events.partition import partitions_of
from nearline.events.wire import encode_events
from nearline.model.effects import FixedCoefficients, RandomEffect
from nearline.model.features import ColumnRegistry
from nearline.model.game import GameModel
from nearline.posterior.evidence import no_evidence
from nearline.posterior.gaussian import Gaussian
from nearline.posterior.outcomes import Outcome
from nearline.store.embedded import EmbeddedStore
from nearline.stream.join_settings import JoinSettings
from nearline.stream.learner import LearnSettings
from nearline.stream.minibatch import MiniBatchSettings
from nearline.stream.worker import Worker, WorkerSettings

FEATURES, EFFECTS, PART = 20, {"per-user": "user", "per-film": "film"}, 20_000
SPAWN = multiprocessing.get_context("spawn")
THROUGHPUT = WorkerSettings(
    JoinSettings(window_ms=60_000, learn_at="feedback", without_feedback="skip"),
    LearnSettings(minibatch=MiniBatchSettings(rows=8, age_ms=600_000)),
    at_once=PART,
)
FRESH = WorkerSettings(
    JoinSettings(window_ms=60_000, learn_at="feedback", without_feedback="skip"), at_once=2_000, poll_ms=5
)
NAMES = [f"f{j:02d}" for j in range(FEATURES - 1)]


def model() -> GameModel:
    """Two random effects of an intercept and 19 features."""
    none = pa.array([], pa.string())

    def effect(name: str, kind: str) -> RandomEffect:
        registry = ColumnRegistry(intercept=True)
        registry.columns("context", pa.array(NAMES), pa.array([""] * len(NAMES)), grow=True)
        prior = Gaussian(np.zeros(FEATURES), 4.0 * np.eye(FEATURES))
        nothing = no_evidence(0, full=True)
        return RandomEffect(name, kind, ("context",), registry, prior, nothing, none, np.zeros(0, np.int64))

    fixed = FixedCoefficients(("context",), ColumnRegistry(intercept=True), np.zeros(1))
    return GameModel(Outcome.BERNOULLI, fixed, tuple(effect(name, kind) for name, kind in EFFECTS.items()))


def pairs(count: int) -> list[tuple[str, str]]:
    """Who was shown which film."""
    folder = os.environ.get("NEARLINE_DATA")
    if folder:
        table = ml1m_partial.load(Path(folder)).table.select(["user_id", "film_id"])
        order = np.random.default_rng(0).permutation(table.num_rows)[: min(count, table.num_rows)]
        table = table.take(order.astype(np.int64))
        found = list(zip(*(table[name].to_pylist() for name in table.column_names), strict=True))
        return [found[i % len(found)] for i in range(count)]
    rng = np.random.default_rng(0)
    return [
        (str(int(u)), str(int(f))) for u, f in zip(rng.zipf(1.3, count), rng.zipf(1.2, count), strict=True)
    ]


def events(shown: list[tuple[str, str]], begin: int, time_ms: int, gap_ms: int = 2) -> list[Event]:
    """An impression and its feedback for each pair, one after the other."""
    rng = np.random.default_rng(begin)
    values = rng.normal(size=(len(shown), FEATURES - 1))
    labels = rng.random(len(shown)) < expit(values[:, 0] - 0.5 * values[:, 1])
    found: list[Event] = []
    for i, ((user, film), row, label) in enumerate(zip(shown, values.tolist(), labels.tolist(), strict=True)):
        name, at = f"i{begin + i}", time_ms + gap_ms * i
        features = dict(zip(NAMES, row, strict=True))
        served = {"per-user": (0.0, 0.2), "per-film": (0.0, 0.1)}
        entities = {"user": user, "film": film}
        found.append(Impression(name, at, entities, {"context": features}, served, generation=1))
        found.append(Feedback(name, at + 1, float(label)))
    return found


def opened(folder: Path) -> EmbeddedStore:
    """The store, with generation 1 live."""
    store = EmbeddedStore(folder / "store", partitions_of)
    if store.live() is None:
        store.switch(store.create(model(), created_ms=0).number, force=True)
    return store


def _appended(log: EmbeddedLog, count: int) -> Iterator[int]:
    """Append a part at a time; yields how many events there are."""
    shown = pairs(min(count // 2, 1_000_000))
    for begin in range(0, count // 2, PART // 2):
        some = [shown[i % len(shown)] for i in range(begin, min(begin + PART // 2, count // 2))]
        log.append(encode_events(events(some, begin, 1_700_000_000_000 + 2 * begin)))
        yield 2 * (begin + len(some))


def through_the_path(count: int) -> tuple[float, float]:
    """Events per second of processor time, and the share by which memory grew from 20 % to 100 %."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store, peaks, seconds = opened(folder), [], 0.0
        with EmbeddedLog(folder / "log") as log:
            worker = Worker(folder, log, store, THROUGHPUT)
            for _ in _appended(log, count):
                start = time.process_time()
                while worker.turn():
                    pass
                seconds += time.process_time() - start
                log.trim(log.end())
                peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
            worker.close()
        store.close()
    return count / seconds, peaks[-1] / peaks[len(peaks) // 5] - 1.0


def river(shown: list[Event]) -> float | None:
    """Events per second of one logistic regression for each entity; None where River is not installed."""
    try:
        from river.linear_model import LogisticRegression  # type: ignore[import-not-found]  # noqa: PLC0415
    except ImportError:
        return None
    known: dict[tuple[str, str], LogisticRegression] = {}
    waiting: dict[str, Impression] = {}
    start = time.process_time()
    for event in shown:
        if isinstance(event, Impression):
            waiting[event.id] = event
        elif isinstance(event, Feedback):
            served = waiting.pop(event.impression)
            for entity in served.entities.items():
                if entity not in known:
                    known[entity] = LogisticRegression()
                known[entity].learn_one(served.features["context"], event.label > 0.5)
    return len(shown) / (time.process_time() - start)


def _offer(folder: Path, rate: int, seconds: float, said: object) -> None:
    """Append at a steady rate, a hundred times a second; say when which feedback was appended."""
    shown = pairs(int(rate * seconds / 2))
    each, when = rate // 200, []
    with EmbeddedLog(folder / "log") as log:
        begin_s = time.monotonic()
        for part in range(len(shown) // each):
            time.sleep(max(0.0, begin_s + part / 100 - time.monotonic()))
            some = [(f"{user}", film) for user, film in shown[part * each : (part + 1) * each]]
            marked = [*some[:-1], (f"mark-{part}", some[-1][1])]
            log.append(encode_events(events(marked, part * each, time.time_ns() // 1_000_000, 0)))
            when.append(time.monotonic())
    said.put(when)  # type: ignore[attr-defined]


def _work(folder: Path) -> None:
    store = EmbeddedStore(folder / "store", partitions_of)
    with EmbeddedLog(folder / "log") as log:
        worker = Worker(folder, log, store, FRESH)
        while not (folder / "stop").exists():
            if not worker.turn():
                time.sleep(0.002)
        worker.close()
    store.close()


def freshness(seconds: float, rate: int = 5_000) -> Floats:
    """Milliseconds from feedback appended to its belief readable here, of one event each hundredth of a second."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store, said = opened(folder), SPAWN.Queue()
        worker = SPAWN.Process(target=_work, args=(folder,))
        worker.start()
        writer = SPAWN.Process(target=_offer, args=(folder, rate, seconds, said))
        writer.start()
        expected = int(rate * seconds / 2) // (rate // 200)
        seen: list[float] = []
        while len(seen) < expected and worker.is_alive():
            names = [f"mark-{part}" for part in range(len(seen), min(len(seen) + 100, expected))]
            version = store.get_many(1, "per-user", names).version
            unseen = np.flatnonzero(version == 0)
            seen += [time.monotonic()] * (int(unseen[0]) if len(unseen) else len(names))
            time.sleep(0.002)
        (folder / "stop").touch()
        when = said.get()
        for process in (worker, writer):
            process.join()
        store.close()
    return np.asarray((np.array(seen) - np.array(when)) * 1e3, dtype=np.float64)


def run(quick: bool = False) -> list[Measurement]:
    """All figures of this module."""
    rate, _ = through_the_path(100_000 if quick else 400_000)
    count = int(os.environ.get("NEARLINE_STREAM_EVENTS", "200000" if quick else "5000000"))
    _, growth = through_the_path(count)
    delays = freshness(5.0 if quick else 20.0)
    some = events(pairs(5_000), 0, 0)
    peer = river(some)
    offered = "5,000 events/s offered by another process, one worker, read by a third"
    found = [
        Measurement(
            "stream: the whole path on one core",
            rate,
            "events/s",
            Bar(50_000.0),
            "River, one event at a time",
            peer="" if peer is None else f"{peer:.3g} events/s",
        ),
        Measurement(
            f"stream: peak memory, growth from 20 % to 100 % of {count:,} events",
            100 * growth,
            "%",
            Bar(10.0, "at most"),
        ),
        Measurement(
            "stream: feedback to readable belief, median",
            statistics.median(delays),
            "ms",
            Bar(150.0, "at most"),
            offered,
        ),
        Measurement(
            "stream: feedback to readable belief, 99th percentile",
            float(np.percentile(delays, 99)),
            "ms",
            Bar(1_000.0, "at most"),
            offered,
        ),
    ]
    return found


if __name__ == "__main__":
    for line in run(quick=True):
        print(line)
