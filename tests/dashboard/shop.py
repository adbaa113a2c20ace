"""A small deployment that serves, logs and learns in this process: users, items, and what the model makes of them."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from nearline.dashboard.deployment import Deployment
from nearline.events.embedded import EmbeddedLog
from nearline.events.examples import to_examples
from nearline.events.impression import Event, Feedback, Impression
from nearline.events.wire import encode_event
from nearline.model.effects import FixedCoefficients, RandomEffect
from nearline.model.features import ColumnRegistry
from nearline.model.game import GameModel, expected_response
from nearline.posterior.evidence import no_evidence
from nearline.posterior.gaussian import Gaussian
from nearline.posterior.outcomes import Outcome
from nearline.store.seam import ModelStore
from nearline.store.seeding import with_records
from nearline.stream.join_settings import JoinSettings
from nearline.stream.joined_log import JoinedLog
from nearline.stream.published import publish
from nearline.stream.worker import Worker, WorkerSettings
from nearline.testing import ManualClock
from nearline.wiring.stores import open_store

BEGIN_MS = 1_760_000_000_000
HOSTILE = "<script>alert(1)</script>"
EMOJI = "Zoë 🦊 雪"
WINDOW_MS = 5_000
CANDIDATES = 4
GENRES = ("Drama", "Comedy", "<b>Noir</b>")


def model() -> GameModel:
    """Bernoulli: an intercept, tastes of each user for genres, an intercept of each item."""
    fixed = FixedCoefficients(("genre",), ColumnRegistry(intercept=True), np.array([-0.6]))
    return GameModel(
        Outcome.BERNOULLI, fixed, (_effect("per-user", "user", ("genre",)), _effect("per-item", "item", ()))
    )


def _effect(name: str, kind: str, bags: tuple[str, ...]) -> RandomEffect:
    registry = ColumnRegistry(intercept=True)
    for bag in bags:
        count = len(GENRES)
        registry.columns(bag, pa.array(["genre"] * count), pa.array(list(GENRES)), grow=True)
    size = registry.version
    prior = Gaussian(np.zeros(size), np.diag(np.full(size, 1.5)))
    none = no_evidence(0, full=True)
    return RandomEffect(
        name, kind, bags, registry, prior, none, pa.array([], pa.string()), np.zeros(0, np.int64)
    )


def served(store: ModelStore, shown: Sequence[Impression]) -> list[Impression]:
    """The same impressions with what the live generation contributes to each now."""
    number = store.generations().serving().number
    game = store.model(number)
    labels = np.zeros(len(shown))
    kinds = [effect.kind for effect in game.random]
    examples, _ = to_examples(shown, labels, bags=["genre"], kinds=kinds)
    parts = {}
    for effect in game.random:
        names = list(dict.fromkeys(one.entities[effect.kind] for one in shown))
        known = with_records(effect, names, store.get_many(number, effect.name, names))
        parts[effect.name] = known.contribution(examples)
    fixed = game.fixed.contribution(examples)
    return [
        Impression(
            one.id,
            one.time_ms,
            one.entities,
            one.features,
            {name: (float(mean[i]), float(variance[i])) for name, (mean, variance) in parts.items()},
            fixed=float(fixed[i]),
            propensity=one.propensity,
            policy=one.policy,
            generation=number,
        )
        for i, one in enumerate(shown)
    ]


class Shop:
    """Users with tastes come, are shown items, and click; a worker joins and learns.

    Every second request is that of the hostile name or of the emoji, so that they are known well.
    """

    def __init__(self, folder: Path, *, users: int = 12, seed: int = 1) -> None:
        self.folder, self.rng = folder, random.Random(seed)  # noqa: S311
        self.users = [HOSTILE, EMOJI, *(f"user-{i}" for i in range(users - 2))]
        self.tastes = {user: {genre: self.rng.gauss(0, 1.5) for genre in GENRES} for user in self.users}
        self.appeal = {f"item-{i}": self.rng.gauss(0, 0.8) for i in range(20)}
        self.genre = {item: self.rng.choice(GENRES) for item in self.appeal}
        self.clock = ManualClock(BEGIN_MS)
        self.log = EmbeddedLog(folder / "log", clock=self.clock)
        self.store = open_store(folder / "store", partitions=2, history=8)
        number = publish(self.store, model(), created_ms=BEGIN_MS, as_of_ms=BEGIN_MS, positions=(0, 0)).number
        self.store.switch(number)
        self.requests = 0

    def request(self, user: str) -> list[Event]:
        """One request: four candidates ranked by a sampled score, and feedback to those that are liked."""
        self.requests += 1
        at = self.clock.now_ms()
        items = self.rng.sample(sorted(self.appeal), CANDIDATES)
        shown = served(
            self.store,
            [
                Impression(
                    f"r{self.requests}/{place}",
                    at,
                    {"user": user, "item": item},
                    {"genre": {f"genre={self.genre[item]}": 1.0}},
                    propensity=1 / CANDIDATES,
                    policy="thompson",
                )
                for place, item in enumerate(items)
            ],
        )
        events: list[Event] = sorted(shown, key=lambda one: -self._sampled(one))
        for one in shown:
            linear = -0.6 + self.tastes[user][self.genre[one.entities["item"]]]
            linear += self.appeal[one.entities["item"]]
            if self.rng.random() < 1 / (1 + np.exp(-linear)):
                events.append(Feedback(one.id, at + self.rng.randrange(200, 4_000), 1.0))
        return events

    def _sampled(self, one: Impression) -> float:
        mean = one.fixed + sum(mean for mean, _ in one.contributions.values())
        return mean + self.rng.gauss(0, sum(variance for _, variance in one.contributions.values()) ** 0.5)

    def open_for(self, requests: int, *, at_once: int = 10) -> None:
        """Serve so many requests, a second apart; the worker takes its turns after every few."""
        settings = WorkerSettings(JoinSettings(window_ms=WINDOW_MS))
        worker = Worker(self.folder, self.log, self.store, settings, clock=self.clock)
        for begin in range(0, requests, at_once):
            events = []
            for _ in range(min(at_once, requests - begin)):
                self.clock.advance(self.rng.randrange(500, 1_500))
                user = self.rng.choice(self.users[:2] if self.rng.random() < 0.4 else self.users)
                events += self.request(user)
            events.sort(key=lambda one: one.time_ms)
            self.log.append([encode_event(one) for one in events])
            while worker.turn():
                pass
        worker.close()

    def deployment(self) -> Deployment:
        """Open the row log, which no worker of this process has then; `close` closes it."""
        self.rows = JoinedLog(self.folder / "joined")
        self.deployment_open = Deployment(self.log, self.rows, self.store, "shop", self.folder / "roles")
        return self.deployment_open

    def close(self) -> None:
        if hasattr(self, "rows"):
            self.rows.close()
        self.store.close()
        self.log.close()


def predictions(one: Impression, *without: str) -> float:
    """The expected response as served, by all parts but some."""
    parts = [part for name, part in one.contributions.items() if name not in without]
    linear = one.offset + one.fixed + sum(mean for mean, _ in parts)
    variance = sum(variance for _, variance in parts)
    return float(expected_response(Outcome.BERNOULLI, np.array([linear]), np.array([variance]))[0])
