"""A deployment with two random effects of 20 features, and the events of its life.

The people and films of MovieLens 1M (NEARLINE_DATA; drawn at random without it), each pair shown once with features
drawn for it, and answered by a rule of them.
"""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
from scipy.special import expit

from nearline.datasets import ml1m_partial
from nearline.events.impression import Event, Feedback, Impression
from nearline.events.partition import partitions_of
from nearline.model.effects import FixedCoefficients, RandomEffect
from nearline.model.features import ColumnRegistry
from nearline.model.game import GameModel
from nearline.posterior.evidence import no_evidence
from nearline.posterior.gaussian import Gaussian
from nearline.posterior.outcomes import Outcome
from nearline.store.embedded import EmbeddedStore

FEATURES, EFFECTS = 20, {"per-user": "user", "per-film": "film"}
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


def source() -> str:
    """Where the pairs are from, in words: those at random are of ever new entities, and figures differ much."""
    return (
        "pairs of MovieLens 1M"
        if os.environ.get("NEARLINE_DATA")
        else "pairs at random: NEARLINE_DATA is not set"
    )


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
