"""Processes of a deployment under fire: writers, workers that are killed, readers; and what is believed afterwards."""

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from deployed import Beliefs, beliefs, live_store, model_of, progress

from nearline.events.embedded import EmbeddedLog
from nearline.events.impression import Event, Feedback, Impression, Tick
from nearline.events.partition import partitions_of
from nearline.events.wire import encode_event
from nearline.posterior.forgetting import Forgetting
from nearline.posterior.outcomes import Outcome
from nearline.store.embedded import EmbeddedStore
from nearline.stream.effect_learner import LearnCounts
from nearline.stream.join_settings import JoinSettings
from nearline.stream.joined import JoinCounts
from nearline.stream.joined_log import JoinedLog
from nearline.stream.learner import LearnSettings
from nearline.stream.minibatch_settings import MiniBatchSettings
from nearline.stream.worker import Worker, WorkerSettings
from nearline.testing import SplitStore

FORK_SERVER = get_context("forkserver")
"""As clean as spawning, and quick: the server has imported what the children need, and never opened a file."""
FORK_SERVER.set_forkserver_preload(["firing"])
PARTITIONS, WORKERS, WRITERS = 4, 2, 2
GAP_MS, AHEAD = 10, 1_000
BEGIN_MS = 1_700_000_000_000
SETTINGS = WorkerSettings(
    JoinSettings(window_ms=2_000, allowed_lateness_ms=10_000, correct_within_ms=3_000),
    LearnSettings(
        {"per-user": Forgetting(time_constant_ms=60_000.0)}, MiniBatchSettings(rows=8, age_ms=4_000)
    ),
    at_once=200,
    poll_ms=1,
)


@dataclass(frozen=True)
class Outcomes:
    """What a deployment has come to, and in a word how it went."""

    known: Beliefs
    learned: LearnCounts
    joined: JoinCounts
    killed: int = 0
    reads: int = 0


def drawn(events: int, seed: int = 0) -> list[Event]:
    """So many events in the order of time; some of the feedback comes after the close."""
    rng = random.Random(seed)  # noqa: S311
    found: list[Event] = []
    for number in range(events * 5 // 8):
        time_ms = BEGIN_MS + number * GAP_MS
        entities = {"user": f"u{int(rng.paretovariate(0.6)) % 400}", "item": f"m{rng.randrange(150)}"}
        bags = {bag: {f"x{i}": rng.gauss(0, 1) for i in range(3)} for bag in ("f", "g")}
        served = {"per-user": (rng.gauss(0, 0.3), 0.2), "per-item": (rng.gauss(0, 0.3), 0.1)}
        found.append(Impression(f"i{number}", time_ms, entities, bags, served, generation=1))
        if rng.random() < 0.6:
            answered_ms = time_ms + int(rng.expovariate(1 / 1_000))
            found.append(Feedback(f"i{number}", answered_ms, float(rng.random() < 0.7)))
    found.sort(key=lambda event: event.time_ms)
    return found[:events]


def store_of(folder: Path) -> EmbeddedStore:
    return EmbeddedStore(folder / "store", partitions_of)


def write(folder: Path, writer: int, events: int) -> None:
    """Append this writer's share, a few at a time, never far ahead of the join."""
    rng = random.Random(writer)  # noqa: S311
    mine = drawn(events)[writer::WRITERS]
    joined = JoinedLog(folder / "joined")
    with EmbeddedLog(folder / "log") as log:
        while mine:
            until(lambda: log.end() - joined.progress().position < AHEAD)
            size = rng.randint(1, 120)
            log.append([encode_event(event) for event in mine[:size]])
            del mine[:size]
    joined.close()


def work(folder: Path, index: int, split: int | None) -> None:
    """Work until there is a file "stop"; with `split`, on a store that does not keep its promise."""
    with EmbeddedLog(folder / "log") as log:
        store = store_of(folder)
        worker = Worker(
            folder,
            log,
            store if split is None else SplitStore(store, dies_after=split or None, pause_s=0.01),
            SETTINGS,
            index=index,
            workers=WORKERS,
        )
        while not (folder / "stop").exists():
            if not worker.turn():
                time.sleep(0.001)
        worker.close()
        store.close()


def read(folder: Path, said) -> None:
    """Read beliefs until there is a file "stop": none ever goes back, none is half of one."""
    rng = random.Random(1)  # noqa: S311
    store, reads = store_of(folder), 0
    seen: dict[str, tuple[int, int, int]] = {}
    while not (folder / "stop").exists():
        names = [f"u{rng.randrange(400)}" for _ in range(20)]
        found = store.get_many(1, "per-user", names)
        for name, *now in zip(names, found.version, found.position, found.rows, strict=True):
            version, position, rows = map(int, now)
            before = seen.get(name, (0, 0, 0))
            assert (version, position) >= before[:2], name
            assert version > before[0] or (version, position, rows) == before, name
            seen[name] = version, position, rows
        reads += 1
    store.close()
    said.put(reads)


def until(holds: Callable[[], bool], seconds: float = 300.0) -> None:
    """Wait for something to hold."""
    latest = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < latest, "it took too long"
        time.sleep(0.002)


class Deployment:
    """Seen from outside: what is in its log, and how far it is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log, self.joined = EmbeddedLog(folder / "log"), JoinedLog(folder / "joined")
        self.store = EmbeddedStore(folder / "store", partitions_of, partitions=PARTITIONS)
        live_store(model_of(Outcome.BERNOULLI), store=self.store)

    def position(self) -> int:
        """Rows taken by the learners, of all partitions."""
        return sum(progress(self.store, partition).position for partition in range(PARTITIONS))

    def is_done(self) -> bool:
        """Whether everything in the log is joined and taken."""
        if self.joined.progress().position < self.log.end():
            return False
        return self.position() == sum(self.joined.end(partition) for partition in range(PARTITIONS))

    def outcomes(self, killed: int = 0, reads: int = 0) -> Outcomes:
        learned = LearnCounts()
        for partition in range(PARTITIONS):
            learned = learned.plus(progress(self.store, partition).counts)
        return Outcomes(beliefs(self.store), learned, self.joined.progress().counts, killed, reads)

    def close(self) -> None:
        self.log.close()
        self.joined.close()
        self.store.close()


def under_fire(folder: Path, events: int, kills: int, *, split: int | None = None, seed: int = 0) -> Outcomes:
    """A deployment whose workers are killed `kills` times, spread over its rows, at random instants."""
    rng = random.Random(seed)  # noqa: S311
    deployment = Deployment(folder)
    said = FORK_SERVER.Queue()
    writers = [started(write, folder, writer, events) for writer in range(WRITERS)]
    reader = started(read, folder, said)
    workers = [started(work, folder, index, split) for index in range(WORKERS)]
    rows = sum(len(_owners(event)) for event in drawn(events) if isinstance(event, Impression))
    killed = last = 0
    ends_with = Tick(BEGIN_MS + 10 * events * GAP_MS)
    while True:
        if writers and all(writer.exitcode == 0 for writer in writers):
            writers = []
            deployment.log.append([encode_event(ends_with)])
        assert not any(writer.exitcode for writer in writers)
        for index, worker in enumerate(workers):
            if split and worker.exitcode == -signal.SIGKILL:
                killed += 1
                workers[index] = started(work, folder, index, 0)
            assert worker.exitcode in (None, -signal.SIGKILL), f"worker {index}: {worker.exitcode}"
        if killed < kills and not split and (position := deployment.position()) >= last + rows // (kills + 2):
            last = position
            time.sleep(rng.uniform(0.0, 0.03))
            index = rng.randrange(WORKERS)
            pid = workers[index].pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            workers[index].join()
            workers[index] = started(work, folder, index, split)
            killed += 1
        elif not writers and deployment.is_done():
            break
        time.sleep(0.002)
    (folder / "stop").touch()
    for process in [*workers, reader]:
        process.join(60)
        assert process.exitcode == 0
    outcomes = deployment.outcomes(killed, said.get(timeout=60))
    deployment.close()
    return outcomes


def started(target, *arguments):
    process = FORK_SERVER.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def uninterrupted(folder: Path, of: Path) -> Outcomes:
    """One worker that nobody kills, over the same log, with other cuts."""
    (folder).mkdir()
    (folder / "log").symlink_to(of / "log")
    deployment = Deployment(folder)
    deployment.joined.close()  # a process opens it once
    settings = WorkerSettings(SETTINGS.join, SETTINGS.learn, at_once=7_777)
    worker = Worker(folder, deployment.log, deployment.store, settings)
    while worker.turn():
        pass
    worker.close()
    deployment.joined = JoinedLog(folder / "joined")
    outcomes = deployment.outcomes()
    deployment.close()
    return outcomes


def _owners(event: Impression) -> set[int]:
    named = [("per-user", "user"), ("per-item", "item"), ("per-user-time", "user")]
    return {int(partitions_of(effect, [event.entities[kind]], PARTITIONS)[0]) for effect, kind in named}
