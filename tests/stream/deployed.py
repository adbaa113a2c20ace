"""A small deployment: a model with three random effects, events that Hypothesis draws, and what is believed in the end."""

import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from nearline.events.dead_letters import DeadLetter, decode_dead_letter
from nearline.events.impression import Event, Feedback, Impression
from nearline.events.log import EventLog
from nearline.events.partition import partitions_of
from nearline.events.wire import encode_event
from nearline.model.effects import FixedCoefficients, RandomEffect
from nearline.model.features import ColumnRegistry
from nearline.model.game import GameModel
from nearline.posterior.evidence import no_evidence
from nearline.posterior.gaussian import Gaussian
from nearline.posterior.outcomes import Outcome
from nearline.store.memory import MemoryStore
from nearline.store.seam import ModelStore
from nearline.stream.join_settings import JoinSettings
from nearline.stream.learner import DEAD_KEY, PROGRESS_KEY, Progress, progress_of
from nearline.stream.worker import Worker, WorkerSettings

EFFECTS = {"per-user": "user", "per-item": "item", "per-user-time": "user"}
WINDOW_MS, LATENESS_MS = 40, 30
JOIN = JoinSettings(window_ms=WINDOW_MS, allowed_lateness_ms=LATENESS_MS, correct_within_ms=60)
Beliefs = Mapping[tuple[str, str], tuple[object, ...]]
"""Effect and entity to rows, position, time, columns, shift and precision."""


def effect(name: str, kind: str, bags: tuple[str, ...], columns: int, *, full: bool) -> RandomEffect:
    registry = ColumnRegistry(intercept=True)
    for bag in bags:
        names = pa.array([f"x{i}" for i in range(columns)], pa.string())
        registry.columns(bag, names, pa.array([""] * columns, pa.string()), grow=True)
    size = 1 + columns * len(bags)
    precision = np.full(size, 2.0)
    prior = Gaussian(np.linspace(-0.1, 0.2, size), np.diag(precision) if full else precision)
    none = no_evidence(0, full=full)
    return RandomEffect(
        name, kind, bags, registry, prior, none, pa.array([], pa.string()), np.zeros(0, np.int64)
    )


def model_of(outcome: Outcome = Outcome.NORMAL, columns: int = 3) -> GameModel:
    fixed = FixedCoefficients(("f",), ColumnRegistry(intercept=True), np.array([0.1]))
    return GameModel(
        outcome,
        fixed,
        (
            effect("per-user", "user", ("f",), columns, full=True),
            effect("per-item", "item", ("g", "f"), columns, full=False),
            effect("per-user-time", "user", ("g",), columns, full=True),
        ),
    )


SHOWN = st.tuples(
    st.integers(0, 3),  # user
    st.integers(0, 2),  # item
    st.integers(0, 25),  # milliseconds since the one before
    st.integers(0, 2**16),  # seed of its features and of how it was served
    st.sampled_from([None, None, 5, 20, 35, 70, 90]),  # when it is answered; after the window it is corrected
    st.integers(0, 1),  # label
)
shown_drawn = st.lists(SHOWN, min_size=1, max_size=30)


def impression(number: int, user: int, item: int, time_ms: int, seed: int) -> Impression:
    """Features and contributions come in an order of their own, as from services that were written apart."""
    rng = random.Random(seed)  # noqa: S311
    served = [(name, (rng.gauss(0, 1), rng.random())) for name in EFFECTS if rng.random() < 0.8]
    bags = [
        (bag, {f"x{i}": rng.gauss(0, 1) for i in rng.sample(range(4), rng.randrange(4))})
        for bag in ("f", "g", "unknown")
    ]
    rng.shuffle(served)
    rng.shuffle(bags)
    entities = {"user": f"u{user}", "item": f"m{item}"}
    if seed % 7 == 0:
        del entities["item"]
    return Impression(
        f"i{number}",
        time_ms,
        entities,
        dict(bags),
        dict(served),
        offset=rng.gauss(0, 0.1),
        fixed=rng.gauss(0, 0.1),
        generation=seed % 3,
    )


def life(draws: Sequence[tuple[int, int, int, int, int | None, int]]) -> list[Event]:
    """Impressions with their feedback in the order of time, and at the end time that closes all of them."""
    events: list[Event] = []
    time_ms = 1_000
    for number, (user, item, gap_ms, seed, answered_ms, label) in enumerate(draws):
        time_ms += gap_ms
        events.append(impression(number, user, item, time_ms, seed))
        if answered_ms is not None:
            events.append(Feedback(f"i{number}", time_ms + answered_ms, float(label)))
    events.sort(key=lambda event: event.time_ms)
    last = Impression("last", time_ms + 10_000, {}, {}, {})
    return [*events, last]


def encoded(events: Iterable[Event]) -> list[bytes]:
    return [encode_event(event) for event in events]


def live_store(model: GameModel, partitions: int = 4, store: ModelStore | None = None) -> ModelStore:
    """A store with generation 1 live, without an entity."""
    store = store or MemoryStore(partitions_of, partitions=partitions)
    store.switch(store.create(model, created_ms=0).number, force=True)
    return store


def beliefs(store: ModelStore, generation: int = 1) -> Beliefs:
    """Everything that is known, as bytes; the number of the version is left out, as it counts commits."""
    found: dict[tuple[str, str], tuple[object, ...]] = {}
    for name in store.generations().find(generation).effects:
        for partition in range(store.partitions):
            for entity in store.names(generation, name.name, partition):
                one = store.get_many(generation, name.name, [entity])
                evidence = one.evidence
                assert evidence.column is not None
                found[name.name, entity] = (
                    int(one.rows[0]),
                    int(one.position[0]),
                    int(one.as_of_ms[0]),
                    evidence.column.tobytes(),
                    evidence.mean.tobytes(),
                    evidence.precision.tobytes(),
                )
    return found


def numbers(known: tuple[object, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Shift and precision of an entry of `beliefs`."""
    shift, precision = known[4], known[5]
    assert isinstance(shift, bytes) and isinstance(precision, bytes)  # noqa: PT018
    return np.frombuffer(shift), np.frombuffer(precision)


def progress(store: ModelStore, partition: int, generation: int = 1) -> Progress:
    return progress_of(store.state(generation, partition, PROGRESS_KEY))


def dead_letters(store: ModelStore, partition: int, generation: int = 1) -> list[DeadLetter]:
    with store.writing(generation, partition) as txn:
        return [decode_dead_letter(value) for _, value in txn.states(DEAD_KEY)]


def require_sums(worker: Worker) -> None:
    """Every event, and every row, is in exactly one place."""
    standing = worker.standing()
    if (joined := standing.joined) is not None:
        parts = (joined.learned, joined.duplicate, joined.late, joined.dead, joined.unanswered)
        assert joined.received == sum(parts) + joined.waiting
    learned = standing.learned
    parts = (learned.learned, learned.taken_back, learned.set_aside, learned.waiting)
    assert learned.rows == sum(parts), standing


def worked_off(folder: Path, log: EventLog, store: ModelStore, settings: WorkerSettings) -> None:
    """One worker does everything without interruption."""
    worker = Worker(folder, log, store, settings)
    while worker.turn():
        require_sums(worker)
    worker.close()
