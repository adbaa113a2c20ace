"""Deployments of `nearline` for a simulated world: their configurations, and each of them as an arm over HTTP."""

import re
import urllib.request
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, final

import msgspec

from nearline.cli.children import Children
from nearline.config import read_config
from nearline.errors import ModelError
from nearline.evaluate.world import Visit, World
from nearline.evaluate.world_arms import Shown, rank_request, shown_of
from nearline.evaluate.world_start import begin
from nearline.events.embedded import EmbeddedLog
from nearline.model.game import GameModel
from nearline.observe.metrics import FRESHNESS
from nearline.serve import FeedbackItem, FeedbackRequest, Ranking
from nearline.serve.reply import Accepted
from nearline.wiring.deployment import join_settings, stream_folder
from nearline.wiring.stores import open_store

R = TypeVar("R")
_TIMEOUT_S: Final = 20.0
_NEVER: Final = 1_000_000_000
_CONFIG: Final = """\
# Written by `nearline demo`.
title = "{title}"
outcome = "bernoulli"

[data]  # what the shared model and the models of users and items see of a request
path = "none.parquet"
response = "clicked"
entities = {{ user = "user", item = "item" }}
bags = {{ of_item = ["genre", "length"], of_user = ["age"], of_visit = ["device"] }}

[fixed_effect]
bags = ["of_item", "of_user", "of_visit"]

[random_effects.per-user]
entity = "user"
bags = ["of_item"]

[random_effects.per-item]
entity = "item"
bags = ["of_user"]

[stream]
folder = "{name}"
partitions = 1
window = "{window_ms}ms"
lateness = "50ms"
tick_after = "1s"
minibatch = {{ rows = {rows}, max_waiting = {waiting} }}

[serve]
name = "{name}"
k = {positions}
policy = {{ name = "{policy}" }}
"""


@final
@dataclass(frozen=True, slots=True)
class LoopArm:
    """A deployment: its name, its level of freshness, and the name of its policy."""

    name: str
    level: Literal[0, 2, 3]
    policy: str
    title: str


def begin_deployment(arm: LoopArm, world: World, model: GameModel, out: Path, window_ms: int) -> Path:
    """Write the configuration, put the world's history into the log, and publish the model; the configuration."""
    choices = {
        "name": arm.name,
        "title": arm.title,
        "policy": arm.policy,
        "window_ms": window_ms,
        "positions": len(world.settings.examination),
    }
    path = out / f"{arm.name}.toml"
    rows = _NEVER if arm.level == 2 else 1
    path.write_text(_CONFIG.format(rows=rows, waiting=2 * _NEVER, **choices), encoding="utf-8")
    if arm.level == 2:  # what catches up with the last rows of a refit does learn
        refit = _CONFIG.format(rows=1, waiting=2 * _NEVER, **choices)
        _refit_path(path).write_text(refit, encoding="utf-8")
    stream = read_config(path).stream
    folder = stream_folder(stream, path)
    store = open_store(folder / "store", partitions=stream.partitions, history=stream.history)
    try:
        with EmbeddedLog(folder / "log") as log:
            begin(world, model, log, store, folder, join_settings(stream))
    finally:
        store.close()
    return path


def _refit_path(config: Path) -> Path:
    return config.with_name(f"{config.stem}-refit.toml")


@final
class Client:
    """One connection to a service."""

    def __init__(self, address: str) -> None:
        self._host = address.removeprefix("http://")
        self._connection = HTTPConnection(self._host, timeout=_TIMEOUT_S)

    def post(self, path: str, request: Any, kind: type[R]) -> R:
        """Send a request and return the answer; raises a `ModelError` if there is none."""
        try:
            body = msgspec.json.encode(request)
            self._connection.request("POST", path, body, {"Content-Type": "application/json"})
            answer = self._connection.getresponse()
            text = answer.read()
        except (OSError, HTTPException) as error:
            raise ModelError(f"http://{self._host}{path}: {error}") from error
        if answer.status != 200:
            raise ModelError(
                f"http://{self._host}{path}: {answer.status} {text.decode(errors='replace')[:300]}"
            )
        return msgspec.json.decode(text, type=kind)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


@final
class HttpArm:
    """A deployment as an arm of a world that goes by the real clock.

    Parameters
    ----------
    metrics : the address at which its worker answers Prometheus; None of one that has no worker.
    children : start the refits of level 2, one every `refit_ms` of the world's time.
    """

    def __init__(
        self,
        arm: LoopArm,
        world: World,
        client: Client,
        config: Path,
        *,
        metrics: str | None,
        children: Children,
        window_ms: int,
        refit_ms: int,
    ) -> None:
        self.name = arm.title
        self._arm, self._world, self._client, self._config = arm, world, client, config
        self._metrics, self._children, self._window_ms = metrics, children, window_ms
        self._known_ms = self._refit_due_ms = world.start_ms
        self._refit_ms, self._refits = refit_ms, 0
        self._refit_begun_ms: int | None = None

    def show(self, visit: Visit) -> Shown:
        """Ask the service what to show; it stamps the time itself."""
        request = msgspec.structs.replace(rank_request(self._world, visit), time_ms=None)
        return shown_of(self._client.post(f"/v1/models/{self._arm.name}/rank", request, Ranking), visit)

    def hear(self, impression: str, time_ms: int) -> None:  # noqa: ARG002 - the service stamps the time itself
        """Tell the service that somebody has clicked."""
        request = FeedbackRequest([FeedbackItem(impression, 1.0)])
        self._client.post(f"/v1/models/{self._arm.name}/feedback", request, Accepted)

    def learn(self, now_ms: int) -> None:
        """Its worker learns by itself: ask how fresh it is, and refit level 2 if it is time to."""
        if self._arm.level == 3:
            fresh_ms = freshness_ms(self._metrics)
            if fresh_ms is not None:
                self._known_ms = max(self._known_ms, now_ms - fresh_ms - self._window_ms)
        elif self._arm.level == 2:
            self._refit(now_ms)

    def _refit(self, now_ms: int) -> None:
        name = f"{self._arm.name}-refit-{self._refits}"
        if self._refit_begun_ms is not None:
            if (code := self._children.ended(name)) is None:
                return
            if code == 0:
                self._known_ms = self._refit_begun_ms - self._window_ms
            self._refit_begun_ms = None
        if now_ms - self._refit_due_ms >= self._refit_ms:
            self._refit_due_ms, self._refits = now_ms, self._refits + 1
            self._refit_begun_ms = now_ms
            name = f"{self._arm.name}-refit-{self._refits}"
            self._children.start(
                name, "refit", str(_refit_path(self._config)), "--level", "2", "--margin", "1"
            )

    def known_until_ms(self) -> int:
        """What was shown up to then is learned."""
        return self._known_ms


_SAMPLE: Final = re.compile(rf"^{FRESHNESS.name}(?:\{{[^}}]*\}})? (\S+)$", re.MULTILINE)


def freshness_ms(metrics: str | None) -> int | None:
    """How long before now the last row was known that a worker took; None before the first, or if it does not say."""
    if metrics is None:
        return None
    try:
        with urllib.request.urlopen(metrics, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - http, our own
            found = _SAMPLE.search(answer.read().decode())
    except OSError:
        return None
    return None if found is None else round(1000 * float(found[1]))
