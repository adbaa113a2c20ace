"""A deployment small enough to learn in milliseconds: events of a known world, a log, a store and a worker."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from nearline.batch.refit import RefitSettings
from nearline.batch.settings import FixedSettings, RandomSettings, TrainingSettings
from nearline.events.impression import Event, Feedback, Impression
from nearline.events.log import EventLog, MemoryLog
from nearline.events.partition import partitions_of
from nearline.events.wire import encode_event
from nearline.model.effects import FixedCoefficients, RandomEffect
from nearline.model.features import ColumnRegistry
from nearline.model.game import GameModel
from nearline.posterior.evidence import no_evidence
from nearline.posterior.forgetting import Forgetting
from nearline.posterior.gaussian import Gaussian
from nearline.posterior.outcomes import Outcome
from nearline.store.generations import Status
from nearline.store.memory import MemoryStore
from nearline.store.seam import ModelStore
from nearline.stream.join_settings import JoinSettings
from nearline.stream.learner import LearnSettings
from nearline.stream.minibatch_settings import MiniBatchSettings
from nearline.stream.worker import Worker, WorkerSettings
from nearline.testing import ManualClock

EFFECTS = {"per-user": "user", "per-item": "item"}
START_MS = 1_700_000_000_000
WINDOW_MS = 40
LEARN = LearnSettings(
    {"per-user": Forgetting(time_constant_ms=50_000.0)}, MiniBatchSettings(rows=3, age_ms=200)
)
WORK = WorkerSettings(
    JoinSettings(WINDOW_MS, correct_within_ms=400, policy="last"), LEARN, at_once=400, poll_ms=1
)


def model(outcome: Outcome = Outcome.BERNOULLI) -> GameModel:
    """Nothing learned: a fixed effect of 0, and wide priors."""
    registry = ColumnRegistry(intercept=True)
    fixed = FixedCoefficients(("f",), registry, np.zeros(1))
    return GameModel(outcome, fixed, tuple(_effect(name, kind) for name, kind in EFFECTS.items()))


def _effect(name: str, kind: str) -> RandomEffect:
    registry = ColumnRegistry(intercept=True)
    registry.columns("f", pa.array(["x0", "x1"]), pa.array(["", ""]), grow=True)
    prior = Gaussian(np.zeros(3), np.eye(3) * 4.0)
    return RandomEffect(
        name,
        kind,
        ("f",),
        registry,
        prior,
        no_evidence(0, full=True),
        pa.array([], pa.string()),
        np.zeros(0, np.int64),
    )


def events(
    rows: int, *, users: int = 9, items: int = 5, seed: int = 0, told: float = 0.0, outcome=Outcome.BERNOULLI
) -> list[Event]:
    """Impressions every 10 ms with feedback for some, a few corrected late.

    `told` is the share of the truth that was served: 1 serves the truth itself, 0 nothing.
    """
    rng = np.random.default_rng(seed)
    truth = {kind: np.random.default_rng(7).normal(size=(20, 3)) for kind in EFFECTS.values()}
    made: list[tuple[int, Event]] = []
    for i in range(rows):
        user, item, x = int(rng.integers(users)), int(rng.integers(items)), rng.normal(size=2)
        part = {
            "per-user": float(truth["user"][user] @ [1.0, *x]),
            "per-item": float(truth["item"][item + 9] @ [1.0, *x]),
        }
        linear = -0.5 + 0.7 * x[0] + sum(part.values())
        time_ms = START_MS + 10 * i
        made.append(
            (
                time_ms,
                Impression(
                    f"i{i}",
                    time_ms,
                    {"user": f"u{user}", "item": f"m{item}"},
                    {"f": {"x0": float(x[0]), "x1": float(x[1])}},
                    {name: (told * value, 0.5 * (1.0 - told)) for name, value in part.items()},
                    fixed=told * (-0.5 + 0.7 * float(x[0])),
                    generation=1,
                ),
            )
        )
        if outcome is Outcome.NORMAL:
            label = linear + 0.3 * rng.normal()
        else:
            label = float(rng.random() < 1.0 / (1.0 + np.exp(-linear)))
        if label or outcome is Outcome.NORMAL:
            late = WINDOW_MS + 100 if i % 29 == 0 else int(rng.integers(WINDOW_MS))
            made.append((time_ms + late, Feedback(f"i{i}", time_ms + late, label)))
    return [event for _, event in sorted(made, key=lambda one: one[0])]


def new_store(partitions: int = 3, of: GameModel | None = None) -> MemoryStore:
    """With one generation, live."""
    store = MemoryStore(partitions_of, partitions=partitions)
    begin(store, of or model())
    return store


def begin(store: ModelStore, of: GameModel) -> None:
    """Make a model the first generation, live."""
    store.create(of, created_ms=0)
    store.mark(1, Status.CANDIDATE)
    store.switch(1)


class Deployment:
    """A folder, a log, a store and the one worker."""

    def __init__(
        self, folder: Path, store: ModelStore, log: EventLog | None = None, settings: WorkerSettings = WORK
    ) -> None:
        self.log = MemoryLog() if log is None else log
        self.store = store
        self.worker = Worker(folder, self.log, store, settings, clock=ManualClock())

    def offer(self, some: list[Event]) -> None:
        if some:
            self.log.append([encode_event(event) for event in some])

    def work(self) -> None:
        while self.worker.turn():
            pass

    def close(self) -> None:
        self.worker.close()


def settings_like(model: GameModel) -> TrainingSettings:
    """Settings that train a model of the same form, everything else as by default."""
    random = tuple(
        RandomSettings(
            effect.name, effect.kind, effect.bags, precision="full" if effect.is_full else "diagonal"
        )
        for effect in model.random
    )
    return TrainingSettings(outcome=model.outcome, fixed=FixedSettings(model.fixed.bags), random=random)


def settings(**choices) -> RefitSettings:
    """Of a refit of that model, quick."""
    training = choices.pop("training", None) or settings_like(model())
    chosen = {"learn": LEARN, "at_once": 25, "within": 0} | choices
    return RefitSettings(training, **chosen)


def everything(store: ModelStore, number: int) -> dict[str, tuple]:
    """All that is kept of a generation's entities, and its partitions' progress, to be compared to the bit."""
    kept = {}
    for partition in range(store.partitions):
        kept[f"progress {partition}"] = store.state(number, partition, b"progress")
        for effect in EFFECTS:
            names = sorted(store.names(number, effect, partition))
            records = store.get_many(number, effect, names)
            for name in ("position", "as_of_ms", "rows"):
                kept[f"{effect} {partition} {name}"] = tuple(getattr(records, name).tolist())
            kept[f"{effect} {partition}"] = (
                tuple(names),
                records.evidence.mean.tobytes(),
                records.evidence.precision.tobytes(),
                records.evidence.column.tobytes(),
            )
    return kept
