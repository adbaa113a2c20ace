"""A deployment to serve from: 100,000 entities in an embedded store, 10,000 candidates whose features are kept."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from nearline.events.partition import partitions_of
from nearline.model.effects import FixedCoefficients, RandomEffect
from nearline.model.features import ColumnRegistry
from nearline.model.game import GameModel
from nearline.posterior.blocks import Blocks, packed_starts
from nearline.posterior.gaussian import Gaussian
from nearline.posterior.outcomes import Outcome
from nearline.serve import KeptCandidates, KeptFeatures
from nearline.store.embedded import EmbeddedStore
from nearline.store.generations import Status
from nearline.store.seeding import write_entities

FEATURES, CONTEXT = 50, 5
CONFIG = """
[data]
path = "none.csv"
response = "clicked"
entities = { user = "user", item = "item" }
bags = { of_item = ["f0"], context = ["c0"] }

[fixed_effect]
bags = ["of_item", "context"]

[random_effects.per-user]
entity = "user"
bags = ["of_item"]

[random_effects.per-item]
entity = "item"
bags = ["context"]

[stream]
folder = "stream"
partitions = 4

[serve]
k = 10
"""


def deploy(folder: Path, *, users: int, items: int, seed: int = 1) -> None:
    """Write the configuration, the store and the candidates of a deployment into `folder`.

    A user's record has 20 of the 51 columns of the effect, in full precision; an item's all 6.
    """
    rng = np.random.default_rng(seed)
    stream = folder / "stream"
    stream.mkdir(parents=True)
    (folder / "shop.toml").write_text(CONFIG)
    bags = {"of_item": [f"f{i}" for i in range(FEATURES)], "context": [f"c{i}" for i in range(CONTEXT)]}
    fixed = _registry(bags)
    model = GameModel(
        Outcome.BERNOULLI,
        FixedCoefficients(tuple(bags), fixed, rng.normal(0.0, 0.1, len(fixed))),
        (
            _effect("per-user", "user", {"of_item": bags["of_item"]}, "u", users, 20, rng),
            _effect("per-item", "item", {"context": bags["context"]}, "i", items, 1 + CONTEXT, rng),
        ),
    )
    store = EmbeddedStore(stream / "store", partitions_of, partitions=4)
    number = store.create(model, created_ms=0).number
    write_entities(store, number, model, as_of_ms=0)
    store.mark(number, Status.CANDIDATE)
    store.switch(number)
    store.close()
    kept = KeptCandidates(stream / "candidates")
    values = rng.normal(size=(items, FEATURES)).round(4)
    names = bags["of_item"]
    for begin in range(0, items, 1_000):
        some = range(begin, min(begin + 1_000, items))
        rows = {
            f"i{i}": KeptFeatures({"of_item": dict(zip(names, values[i].tolist(), strict=True))})
            for i in some
        }
        kept.put(rows)
    kept.close()


def _registry(bags: dict[str, list[str]]) -> ColumnRegistry:
    registry = ColumnRegistry(intercept=True)
    for bag, names in bags.items():
        registry.columns(bag, pa.array(names), pa.array([""] * len(names)), grow=True)
    return registry


def _effect(
    name: str,
    kind: str,
    bags: dict[str, list[str]],
    prefix: str,
    entities: int,
    touched: int,
    rng: np.random.Generator,
) -> RandomEffect:
    registry = _registry(bags)
    columns = len(registry)
    start = np.arange(entities + 1, dtype=np.int64) * touched
    other = np.argsort(rng.random((entities, columns - 1)), axis=1)[:, : touched - 1] + 1
    column = np.concatenate([np.zeros((entities, 1), np.int64), np.sort(other, axis=1)], axis=1)
    triangle = np.zeros((touched, touched))
    triangle[np.diag_indices(touched)] = 5.0
    packed = triangle[np.triu_indices(touched)]
    evidence = Blocks(
        start,
        rng.normal(size=entities * touched),
        np.tile(packed, entities) + rng.normal(0.0, 0.05, entities * len(packed)),
        column.astype(np.int32).ravel(),
        packed_starts(start),
    )
    prior = Gaussian(np.zeros(columns), np.eye(columns) * 4.0)
    names = pa.array([f"{prefix}{i}" for i in range(entities)], pa.string())
    return RandomEffect(name, kind, tuple(bags), registry, prior, evidence, names, np.full(entities, 30))
