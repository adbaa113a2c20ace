"""Processes of a deployment under fire: writers, workers that are killed, a reader; and what is believed afterwards.

Nobody polls for another: children report over pipes, and the parent waits for whichever has something to say. How far
the writers may write follows from how far the workers have joined, so that the writers stay closer to each other than
the lateness allowed. A worker says in shared memory what it is doing, which tells where a kill has struck.
"""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, MutableSequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from enum import IntEnum
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Event as Signal
from threading import Thread
from typing import Any

from deployed import Beliefs, beliefs, live_store, model_of, progress
from fated_events import JOIN, USERS, after_ms, fated_events

from nearline.events.embedded import EmbeddedLog
from nearline.events.impression import Tick
from nearline.events.log import Batch
from nearline.events.partition import partitions_of
from nearline.events.wire import encode_event
from nearline.posterior.forgetting import Forgetting
from nearline.posterior.outcomes import Outcome
from nearline.store.embedded import EmbeddedStore
from nearline.store.seam import Writing
from nearline.stream.effect_learner import LearnCounts
from nearline.stream.joined import JoinCounts
from nearline.stream.joined_log import JoinedLog
from nearline.stream.learner import LearnSettings
from nearline.stream.minibatch_settings import MiniBatchSettings
from nearline.stream.worker import Standing, Worker, WorkerSettings
from nearline.testing import SplitStore

FORK_SERVER = get_context("forkserver")
"""As clean as spawning, and quick: the server has imported what the children need, and never opened a file."""
FORK_SERVER.set_forkserver_preload(  # only what is installed: the server does not know the path of the tests
    [
        "pytest",
        "hypothesis.strategies",
        "nearline.testing",
        "nearline.stream.worker",
        "nearline.store.embedded",
    ]
)
PARTITIONS, WORKERS, WRITERS = 4, 2, 2
BURST = 300
"""The most events written at a time, 2 s of event time: how far apart the writers are at most."""
PATIENCE_S = 300.0
SETTINGS = WorkerSettings(
    JOIN,
    LearnSettings(
        {"per-user": Forgetting(time_constant_ms=60_000.0)}, MiniBatchSettings(rows=8, age_ms=4_000)
    ),
    at_once=25,
    poll_ms=1,
)


class Doing(IntEnum):
    """What a worker is doing."""

    STARTING = 0
    IDLE = 1
    JOINING = 2
    LEARNING = 3
    COMMITTING = 4
    BETWEEN = 5
    """Between commits, or between the halves of one that is split."""


@dataclass(frozen=True)
class Outcomes:
    """What a deployment has come to, and how it went: kills by what the worker was doing, and reads."""

    known: Beliefs
    learned: LearnCounts
    joined: JoinCounts
    killed: Counter[Doing] = field(default_factory=Counter)
    reads: int = 0
    start_s: tuple[float, ...] = ()
    """How long each worker took from its birth to its first turn."""


def store_of(folder: Path) -> EmbeddedStore:
    return EmbeddedStore(folder / "store", partitions_of)


# What children do


def write(folder: Path, writer: int, events: int, pipe: Connection) -> None:
    """Append this writer's share, a few at a time, as far as the parent has said."""
    rng = random.Random(writer)  # noqa: S311
    mine = [event.record for event in fated_events(events)[writer::WRITERS]]
    written = 0
    with EmbeddedLog(folder / "log") as log:
        while written < len(mine):
            until = len(range(writer, pipe.recv(), WRITERS))
            while written < until:
                some = mine[written : min(until, written + rng.randint(1, 120))]
                log.append(some)
                written += len(some)


class MarkedLog:
    """A log that says when there is something to join."""

    def __init__(self, log: EmbeddedLog, doing: MutableSequence[int]) -> None:
        self._log, self._doing = log, doing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def read(self, after: int, limit: int, partition: int = 0) -> Batch:
        found = self._log.read(after, limit, partition)
        if len(found):
            self._doing[0] = Doing.JOINING
        return found


class MarkedStore:
    """A store that says when something is learned, and when it is committed."""

    def __init__(self, store: EmbeddedStore, doing: MutableSequence[int]) -> None:
        self._store, self._doing = store, doing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @contextmanager
    def writing(self, generation: int, partition: int) -> Iterator[Writing]:
        self._doing[0] = Doing.LEARNING
        with self._store.writing(generation, partition) as txn:
            yield txn
            self._doing[0] = Doing.COMMITTING
        self._doing[0] = Doing.BETWEEN


def work(folder: Path, index: int, split: int | None, doing: MutableSequence[int], pipe: Connection) -> None:
    """Work until told to stop, and report; with `split`, on a store that does not keep its promise."""
    stop = Signal()
    Thread(target=lambda: (pipe.poll(None), stop.set()), daemon=True).start()
    with EmbeddedLog(folder / "log") as log, closing(store_of(folder)) as store:
        kept: Any = MarkedStore(store, doing)
        if split is not None:
            kept = SplitStore(kept, dies_after=split or None, pause_s=0.01)
        worker = Worker(folder, MarkedLog(log, doing), kept, SETTINGS, index=index, workers=WORKERS)
        said: list[tuple[int, int]] = []

        def say(standing: Standing) -> None:
            now = standing.joined_to, standing.learned.rows
            doing[0] = Doing.IDLE if [now] == said else Doing.BETWEEN
            if [now] != said:
                pipe.send(now[0])
                said[:] = [now]

        worker.run(stop, say)
        worker.close()


def read(folder: Path, pipe: Connection) -> None:
    """Read beliefs until told to stop: none ever goes back, none is half of one. Say how often."""
    rng = random.Random(1)  # noqa: S311
    reads = 0
    seen: dict[str, tuple[int, int, int]] = {}
    with closing(store_of(folder)) as store:
        while not pipe.poll(0.02):
            names = [f"u{rng.randrange(USERS)}" for _ in range(20)]
            found = store.get_many(1, "per-user", names)
            for name, *now in zip(names, found.version, found.position, found.rows, strict=True):
                version, position, rows = map(int, now)
                before = seen.get(name, (0, 0, 0))
                assert (version, position) >= before[:2], name
                assert version > before[0] or (version, position, rows) == before, name
                seen[name] = version, position, rows
            reads += 1
    pipe.send(reads)


# What the parent does


class Child:
    """A process, and the pipe to it, which is its last argument."""

    def __init__(self, target: Callable[..., None], *arguments: object) -> None:
        self.pipe, theirs = FORK_SERVER.Pipe()
        self.process = FORK_SERVER.Process(target=target, args=(*arguments, theirs), daemon=True)
        self.process.start()
        theirs.close()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def stop(self) -> None:
        self.pipe.send(None)
        self.process.join(PATIENCE_S)
        assert self.process.exitcode == 0


class Deployment:
    """Seen from outside: what is in its log, and how far it is."""

    def __init__(self, folder: Path, log: Path) -> None:
        self.log, self.joined = EmbeddedLog(log), JoinedLog(folder / "joined")
        self.store = EmbeddedStore(folder / "store", partitions_of, partitions=PARTITIONS)
        live_store(model_of(Outcome.BERNOULLI), store=self.store)

    def is_done(self) -> bool:
        """Whether everything in the log is joined, and every row taken."""
        if self.joined.progress().position < self.log.end():
            return False
        return all(
            progress(self.store, partition).position == self.joined.end(partition)
            for partition in range(PARTITIONS)
        )

    def outcomes(self) -> Outcomes:
        learned = LearnCounts()
        for partition in range(PARTITIONS):
            learned = learned.plus(progress(self.store, partition).counts)
        return Outcomes(beliefs(self.store), learned, self.joined.progress().counts)

    def close(self) -> None:
        self.log.close()
        self.joined.close()
        self.store.close()


class Crew:
    """The workers: each killed and started again, and what is known of them from what they say."""

    def __init__(self, folder: Path, split: int | None) -> None:
        self._folder = folder
        self._splits = [split] * WORKERS
        self._doing = [FORK_SERVER.RawArray("i", 1) for _ in range(WORKERS)]
        self._born = [0.0] * WORKERS
        self.is_ready = [False] * WORKERS
        self.joined_to = 0
        self.killed: Counter[Doing] = Counter()
        self.start_s: list[float] = []
        self.children = [self._started(index) for index in range(WORKERS)]

    def _started(self, index: int) -> Child:
        self._doing[index][0] = Doing.STARTING
        self.is_ready[index], self._born[index] = False, time.monotonic()
        return Child(work, self._folder, index, self._splits[index], self._doing[index])

    def kill(self, index: int) -> None:
        """Kill a worker, or bury one that killed itself; and start another in its place."""
        child = self.children[index]
        child.kill()
        assert child.process.exitcode == -signal.SIGKILL, f"worker {index}: {child.process.exitcode}"
        child.pipe.close()
        self.killed[Doing(self._doing[index][0])] += 1
        if self._splits[index]:
            self._splits[index] = 0  # it dies by itself but once
        self.children[index] = self._started(index)

    def listen(self, seconds: float) -> bool:
        """Wait so long for any of them to say something; whether one has."""
        talking = {child.pipe: index for index, child in enumerate(self.children)}
        heard = connection.wait(talking, seconds)
        for pipe in heard:
            self._hear(talking[pipe])
        return bool(heard)

    def _hear(self, index: int) -> None:
        """Take what a worker says, or learn of its death."""
        try:
            joined_to = self.children[index].pipe.recv()
        except (EOFError, ConnectionResetError):
            assert self._splits[index], f"worker {index} has died"
            self.kill(index)
            return
        self.joined_to = max(self.joined_to, joined_to)
        if not self.is_ready[index]:
            self.is_ready[index] = True
            self.start_s.append(time.monotonic() - self._born[index])


def under_fire(folder: Path, events: int, kills: int, *, split: int | None = None, seed: int = 0) -> Outcomes:
    """A deployment whose workers are killed so often, spread over its events, each at a random instant.

    The events come in bursts, each once the one before is joined and all workers are up. In every other burst, for as
    long as there are kills to come, one worker is killed within the time that the burst before has taken. With `split`
    the store breaks its promise: after so many commits each worker kills itself between the halves of one, or, with 0,
    none does.
    """
    rng = random.Random(seed)  # noqa: S311
    deployment = Deployment(folder, folder / "log")
    writers = [Child(write, folder, writer, events) for writer in range(WRITERS)]
    reader = Child(read, folder)
    crew = Crew(folder, split)
    bursts = max(2 * kills + 1, -(-events // BURST))
    begun = time.monotonic()
    for burst in range(bursts):
        took, begun = time.monotonic() - begun, time.monotonic()
        end = (burst + 1) * events // bursts
        for writer in writers:
            writer.pipe.send(end)
        if burst % 2 and burst < 2 * kills:
            strike, index = begun + rng.uniform(0.0, took), rng.randrange(WORKERS)
            while (left_s := strike - time.monotonic()) > 0.0:
                crew.listen(left_s)
            crew.kill(index)
        while crew.joined_to < end or not all(crew.is_ready):
            assert crew.listen(PATIENCE_S), "nobody has said anything for long"
    for writer in writers:
        writer.process.join(PATIENCE_S)
        assert writer.process.exitcode == 0
    deployment.log.append([encode_event(Tick(after_ms(events)))])
    while not deployment.is_done():
        assert crew.listen(PATIENCE_S), "nobody has said anything for long"
    for child in [*crew.children, reader]:
        child.stop()
    outcomes = replace(
        deployment.outcomes(), killed=crew.killed, reads=reader.pipe.recv(), start_s=tuple(crew.start_s)
    )
    deployment.close()
    return outcomes


def uninterrupted(folder: Path, log: Path) -> Outcomes:
    """One worker that nobody kills, over the same log, with other cuts."""
    deployment = Deployment(folder, log)
    deployment.joined.close()  # a process opens it once
    settings = replace(SETTINGS, at_once=7_777)
    worker = Worker(folder, deployment.log, deployment.store, settings)
    while worker.turn():
        pass
    worker.close()
    deployment.joined = JoinedLog(folder / "joined")
    outcomes = deployment.outcomes()
    deployment.close()
    return outcomes
