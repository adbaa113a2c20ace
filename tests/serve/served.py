"""What the tests of serving share: a small model in a store, requests, a client without a socket."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from nearline.events.partition import partitions_of
from nearline.model.effects import FixedCoefficients, RandomEffect
from nearline.model.features import ColumnRegistry
from nearline.model.game import GameModel
from nearline.posterior.blocks import Blocks, packed_starts
from nearline.posterior.evidence import no_evidence
from nearline.posterior.gaussian import Gaussian
from nearline.posterior.outcomes import Outcome
from nearline.store.memory import MemoryStore
from nearline.store.records import Records
from nearline.testing import ManualClock

NOW_MS = 1_770_000_000_000
BAGS = {"context": ["hour", "device=phone", "device=desk"], "of_item": ["price", "genre=news", "genre=sport"]}


def registry(bags, wide=0):
    made = ColumnRegistry(intercept=True)
    for bag in bags:
        keys = [key.partition("=") for key in BAGS[bag]] + [(f"w{i}", "", "") for i in range(wide)]
        made.columns(bag, pa.array([k[0] for k in keys]), pa.array([k[2] for k in keys]), grow=True)
    return made


def effect(name, kind, bags, *, full=True, wide=0):
    columns = registry(bags, wide)
    size = len(columns)
    precision = np.linspace(1.0, 3.0, size)
    prior = Gaussian(np.linspace(-0.2, 0.3, size), np.diag(precision) if full and not wide else precision)
    none = pa.array([], pa.string())
    return RandomEffect(
        name, kind, tuple(bags), columns, prior, no_evidence(0, full=full), none, np.zeros(0, np.int64)
    )


def model(outcome=Outcome.BERNOULLI, wide=0):
    """Users by the features of items, items by the context, full and diagonal; `wide` adds so many columns."""
    fixed = registry(BAGS)
    coefficients = np.linspace(-0.5, 0.4, len(fixed))
    return GameModel(
        outcome,
        FixedCoefficients(tuple(BAGS), fixed, coefficients),
        (
            effect("per-user", "user", ["of_item"], wide=wide),
            effect("per-item", "item", ["context"], full=False),
            effect("per-user-time", "user", ["context"], full=False, wide=wide),
        ),
        noise_variance=0.5 if outcome is Outcome.NORMAL else 1.0,
    )


def live_store(game=None, partitions=3):
    store = MemoryStore(partitions_of, partitions=partitions)
    store.switch(store.create(game or model(), created_ms=0).number, force=True)
    return store


def learn(store, effect_name, entity, seed=0, generation=None):
    """Write the next record of an entity, with evidence of 2 columns drawn by `seed`."""
    number = generation or store.live()
    form = next(form for form in store.generations().find(number).effects if form.name == effect_name)
    rng = np.random.default_rng(seed)
    start = np.array([0, 2], np.int64)
    precision = np.array([2.0, 0.3, 1.5]) if form.full else np.array([2.0, 1.5])
    evidence = Blocks(
        start,
        rng.normal(size=2) * 3,
        precision,
        np.array([0, 1 + seed % 3], np.int32),
        packed_starts(start) if form.full else None,
        form.full,
    )
    partition = int(store.partitions_of(effect_name, [entity])[0])
    with store.writing(number, partition) as txn:
        version = int(txn.get_many(effect_name, [entity]).version[0]) + 1
        one = np.array([1], np.int64)
        txn.put_many(effect_name, [entity], Records(one * version, one, one * NOW_MS, one, evidence))
    return version


def clock():
    return ManualClock(NOW_MS)


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Calls an ASGI application without a socket."""

    def __init__(self, app):
        self._app = app

    def __call__(self, method, path, body=b"", headers=()):
        return asyncio.run(self.ask(method, path, body, headers))

    async def ask(self, method, path, body=b"", headers=()):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        raw = path.encode()
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": raw,
            "query_string": query.encode(),
            "root_path": "",
            "scheme": "http",
            "server": ("test", 80),
            "client": ("test", 1),
            "headers": [(k.lower().encode(), v.encode()) for k, v in headers],
        }
        parts = [content[i : i + 1_000] for i in range(0, len(content), 1_000)] or [b""]
        sent = []

        async def receive():
            return (
                {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}
                if parts
                else {"type": "http.disconnect"}
            )

        async def send(message):
            sent.append(message)

        await self._app(scope, receive, send)
        head = {k.decode().lower(): v.decode() for k, v in sent[0]["headers"]}
        return Reply(sent[0]["status"], head, b"".join(m.get("body", b"") for m in sent[1:]))
