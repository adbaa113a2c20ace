"""Where the processor time of one ranking goes: in one process, stage by stage, and in a server that does nothing.

The deployment and the requests are those of `benchmarks.bench_serve`. Each stage is called with what the stages before
it have made of 200 requests, one after the other; the application over ASGI is called without a server, 32 requests at
a time, with the log and without. What is left to the time of a request under load is the server's: a body of the same
size answered by an empty application says what of that is HTTP.
"""

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.empty_reply import started_empty
from benchmarks.load import write_requests
from benchmarks.measurement import Measurement, cpu_seconds
from benchmarks.serving import deploy
from benchmarks.under_load import by_id, load, named
from benchmarks.under_load import cpu_seconds as cpu_seconds_of
from nearline.events.embedded import EmbeddedLog
from nearline.events.partition import partitions_of
from nearline.serve import KeptCandidates, Scorer, ScorerSettings
from nearline.serve.answer import answered
from nearline.serve.asked import asked
from nearline.serve.chosen import chosen
from nearline.serve.http import create_app
from nearline.serve.impressions import Shown
from nearline.serve.named import read_named
from nearline.serve.request import RankRequest, decode
from nearline.serve.service import Service
from nearline.store.embedded import EmbeddedStore

REQUESTS, TOGETHER, SHOWN = 200, 32, 10


def run(quick: bool = False) -> list[Measurement]:
    """All figures of this module."""
    users, items = (9_000, 1_000) if quick else (90_000, 10_000)
    rounds = 3 if quick else 10
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        deploy(folder, users=users, items=items)
        rng = np.random.default_rng(2)
        for kind, make in (("by id", by_id), ("named features", named)):
            requests = [make(rng, users, items) for _ in range(REQUESTS)]
            bodies = [one.split(b"\r\n\r\n", 1)[1] for one in requests]
            found += _stages(kind, folder, bodies, rounds)
            found.append(_empty(kind, folder, requests, 1.0 if quick else 5.0))
    return found


def _stages(kind: str, folder: Path, bodies: list[bytes], rounds: int) -> list[Measurement]:
    store = EmbeddedStore(folder / "stream" / "store", partitions_of, partitions=4)
    shutil.rmtree(folder / "log", ignore_errors=True)
    log, kept = EmbeddedLog(folder / "log"), KeptCandidates(folder / "stream" / "candidates")
    found: list[Measurement] = []

    def stage(
        name: str, work: Callable[..., Any], items: Iterable[Any], requests: int = REQUESTS
    ) -> list[Any]:
        """What the work makes of each, and a figure of what that takes for one of so many requests."""
        given, made = list(items), list[Any]()

        def once() -> None:
            made[:] = [work(*one) for one in given]

        once()
        best = min(cpu_seconds(once) for _ in range(rounds))
        found.append(Measurement(f"{kind}: {name}", best / requests * 1e6, "us"))
        return made

    with Scorer(store, log, ScorerSettings(name="shop"), kept=kept) as scorer:
        scorer.start()
        read = stage("body to request", _read, ([body] for body in bodies))
        for request, matrix in read:
            scorer.answer(request, matrix)  # beliefs are at hand from here on
        serving, how = scorer.serving, scorer.settings
        about = stage(
            "request to candidates, within the limits",
            lambda request, matrix: asked(
                request, matrix, kept, serving.rows, serving.layout, how.item_kind, how.limits, {}
            ),
            read,
        )
        policy = scorer._policy
        picked = stage(
            "beliefs, scores, ranking, what is said of it",
            lambda one: chosen(serving, one, policy, "r", SHOWN, 0, lambda: False),
            ([one] for one in about),
        )
        answers = stage(
            "records of impressions",
            lambda request, one, choice: answered("shop", _shown(choice), one, request[0].features, *choice),
            zip(read, about, picked, strict=True),
        )
        stage("reply in JSON", lambda answer: answer.json(), ([one] for one in answers))
        stage(
            "all of these, one after the other", lambda body: scorer.answer(*_read(body)).json(), zip(bodies)
        )
        groups = [
            [r for one in answers[i : i + TOGETHER] for r in one.records] for i in range(0, 128, TOGETHER)
        ]
        stage(f"append to the log, {TOGETHER} requests at a time", log.append, zip(groups, strict=True), 128)
        app = create_app(Service({"shop": scorer}))
        some = [(bodies[i : i + TOGETHER],) for i in range(0, REQUESTS, TOGETHER)]

        def application(those: list[bytes]) -> None:
            asyncio.run(_ask(app, those))

        stage(f"application with the log, {TOGETHER} requests at a time", application, some)
        scorer.commit.submit = _at_once  # type: ignore[assignment,method-assign]
        stage(f"application without the log, {TOGETHER} requests at a time", application, some)
    for one in (log, store):
        one.close()
    return found


def _read(body: bytes) -> tuple[RankRequest, Any]:
    return read_named(body) or (decode(body, RankRequest), None)


def _at_once(_: object, done: Callable[[None], None]) -> None:
    done(None)


def _shown(choice: Any) -> Shown:
    return Shown("0123456789ab-17", 0, None, "greedy", 1, choice[0].candidates.tolist())


async def _ask(app: Any, bodies: list[bytes]) -> None:
    async def ask(body: bytes) -> None:
        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            assert message.get("status", 200) == 200

        await app({"type": "http", "method": "POST", "path": "/v1/rank", "headers": []}, receive, send)

    await asyncio.gather(*map(ask, bodies))


def _empty(kind: str, folder: Path, requests: list[bytes], seconds: float) -> Measurement:
    file = folder / "requests"
    write_requests(file, requests)
    server, port = started_empty()
    try:
        load(port, file, seconds=0.5)
        before = cpu_seconds_of(server.pid)
        found = load(port, file, seconds=seconds)
        took = (cpu_seconds_of(server.pid) - before) / found["answered"]
    finally:
        server.terminate()
        server.wait(10)
    name = f"{kind}: a server whose application is empty, the same bodies"
    return Measurement(name, took * 1e6, "us", ours=f"{found['per_second']:.0f} requests/s at saturation")


if __name__ == "__main__":
    for one in run(quick="--quick" in sys.argv):
        sys.stdout.write(f"{one}\n")
