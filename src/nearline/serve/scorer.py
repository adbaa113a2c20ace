"""Requests -> rankings that are in the event log, and feedback: the service without a protocol.

A ranking is given out when its impressions are on disk as they were served. What is learned from them comes back
through the store: beliefs are those of its last commit.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from secrets import token_hex
from time import monotonic
from types import TracebackType
from typing import Final, Self, final

import numpy as np

from nearline.clock import Clock, SystemClock
from nearline.errors import DataError, ModelError, NearlineError, RequestError
from nearline.events.impression import Feedback, require_valid
from nearline.events.log import EventLog
from nearline.events.wire import encode_event
from nearline.posterior.forgetting import Forgetting
from nearline.posterior.outcomes import is_valid_response
from nearline.serve.answer import Answer, Believable, answered
from nearline.serve.asked import Asked, asked
from nearline.serve.beliefs import Expired
from nearline.serve.checked import require_features
from nearline.serve.choose import policy_of
from nearline.serve.chosen import chosen
from nearline.serve.explained import explained
from nearline.serve.features import Extra, FeatureCache, FeatureFunction, filled
from nearline.serve.generation import ServingGeneration
from nearline.serve.group_commit import GroupCommit
from nearline.serve.impressions import Shown
from nearline.serve.kept import KeptCandidates
from nearline.serve.limits import Limits
from nearline.serve.logs import LOGGER
from nearline.serve.matrix import CandidateMatrix
from nearline.serve.reply import Ranking, Scores
from nearline.serve.request import FeedbackItem, KeptFeatures, PolicyChoice, RankRequest, ScoreRequest
from nearline.store.seam import ModelStore

LONGEST_REQUEST_ID: Final = 200
AHEAD_MS: Final = 60_000
"""How far the time of a request may be ahead of the clock here: the future would close the windows of all others."""
_FOLLOW_S: Final = 0.05


@final
@dataclass(frozen=True, slots=True)
class ScorerSettings:
    """How a model serves.

    Attributes
    ----------
    name : of the model.
    item_kind : the kind of entity that a candidate's id names; None where candidates are no entities.
    policy : where the request names none.
    k : how many are shown where the request does not say.
    deadline_ms : where the request has none; None is no deadline.
    entities : whose beliefs are kept in memory at most, for each effect.
    forgetting : of the effects that forget.
    """

    name: str = "model"
    item_kind: str | None = "item"
    policy: PolicyChoice = field(default_factory=lambda: PolicyChoice("greedy"))
    k: int = 10
    deadline_ms: float | None = None
    entities: int = 100_000
    limits: Limits = field(default_factory=Limits)
    forgetting: Mapping[str, Forgetting] = field(default_factory=dict)


@final
class Scorer:
    """Ranks, scores and takes feedback for one model; threads may share it.

    Parameters
    ----------
    store : whose live generation serves.
    log : where impressions and feedback go.
    kept : candidates whose features the server keeps.
    functions : of features that are computed while a request is answered, and kept.
    waiting : events that may wait for the disk; beyond, requests are refused with a `BusyError`.
    clock : the time of impressions. seconds : a clock that only goes forward, for deadlines.

    Raises
    ------
    ModelError
        No generation is live yet.
    """

    def __init__(
        self,
        store: ModelStore,
        log: EventLog,
        settings: ScorerSettings | None = None,
        *,
        kept: KeptCandidates | None = None,
        functions: Sequence[FeatureFunction] = (),
        waiting: int = 100_000,
        clock: Clock | None = None,
        seconds: Callable[[], float] = monotonic,
    ) -> None:
        self.configure(settings or ScorerSettings())
        self._store, self._clock, self._seconds = store, clock or SystemClock(), seconds
        self._kept = kept or KeptCandidates()
        self._lock = threading.Lock()
        self.caches = tuple(FeatureCache(function) for function in functions)
        self._serving = self._built(None)
        self._kept.serve_with(self._serving.rows)
        self._prefix, self._requests = token_hex(6), count()
        self._follower: threading.Thread | None = None
        self._stopping = threading.Event()
        self.commit = GroupCommit(log, waiting)

    def configure(self, settings: ScorerSettings) -> None:
        """Serve with these settings from the next request on; what forgets is as it was until the next generation."""
        self._policy = policy_of(settings.policy)
        self.settings = settings

    @property
    def generation(self) -> int:
        """The generation that serves."""
        return self._serving.number

    @property
    def candidates(self) -> int:
        """How many candidates have features that are kept."""
        return len(self._kept)

    @property
    def serving(self) -> ServingGeneration:
        """The generation that serves, with its beliefs."""
        return self._serving

    def rank(self, request: RankRequest, matrix: CandidateMatrix | None = None) -> Ranking:
        """Return what to show, once its impressions are in the log.

        Raises
        ------
        RequestError
            The request cannot be answered as it is; its path says where.
        BusyError
            Too many events wait for the disk; nothing was logged.
        LogError
            The log could not be written; nothing was logged.
        """
        answer = self.answer(request, matrix)
        self.commit.append(answer.records)
        return answer.ranking

    def answer(self, request: RankRequest, matrix: CandidateMatrix | None = None) -> Answer:
        """Return a ranking that must not be given out before its records are in the log: see `rank`."""
        policy = self._policy if request.policy is None else policy_of(_choice(request.policy))
        now_ms, identity = self._time(request.time_ms), self._identity(request.id)
        k = request.k or self.settings.k
        size = len(request.candidates) if matrix is None else len(matrix.ids)
        self.commit.require_room(min(k, size))
        expired = self._expired(request.deadline_ms)
        extra = self._computed(request, matrix, expired)
        with self._lock:
            serving = self._followed()
            about = self._asked(request, matrix, serving, extra)
            if request.resolves_ms is not None and request.resolves_ms < now_ms:
                raise RequestError("$.resolves_ms", f"expected a time not before the request's, {now_ms}")
            ranking, parts, partial = chosen(serving, about, policy, identity, k, now_ms, expired)
            places = ranking.candidates.tolist()
            shown = Shown(identity, now_ms, request.resolves_ms, policy.name, serving.number, places)
            return answered(self.settings.name, shown, about, request.features, ranking, parts, partial)

    def score(self, request: ScoreRequest, matrix: CandidateMatrix | None = None) -> Scores:
        """Return what is believed of every candidate; nothing is logged. Raises a `RequestError`."""
        return self.believe(request, matrix).scores()

    def believe(self, request: ScoreRequest, matrix: CandidateMatrix | None = None) -> Believable:
        """The same in columns."""
        now_ms, expired = self._time(request.time_ms), self._expired(request.deadline_ms)
        extra = self._computed(request, matrix, expired)
        with self._lock:
            serving = self._followed()
            about = self._asked(request, matrix, serving, extra)
            serving.beliefs.refresh()
            believed = serving.believed(about, now_ms, expired)
            parts = explained(serving, about, believed, np.arange(len(about.names)))
            return Believable(
                self.settings.name, serving.number, list(believed.partial), list(about.names), parts
            )

    def feedback(self, items: Sequence[FeedbackItem]) -> int:
        """Return how many are in the log, which are all; raises as `rank` does."""
        self.commit.append(records := self.feedback_records(items))
        return len(records)

    def feedback_records(self, items: Sequence[FeedbackItem]) -> list[bytes]:
        """The records of feedback, for the log."""
        if not 1 <= len(items) <= self.settings.limits.items:
            most = self.settings.limits.items
            raise RequestError("$.feedback", f"expected 1 to {most} items, got {len(items)}")
        outcome = self._serving.model.outcome
        records = []
        for place, item in enumerate(items):
            path = f"$.feedback[{place}]"
            time_ms = self._time(item.time_ms, f"{path}.time_ms")
            event = Feedback(item.impression, time_ms, item.label, item.weight, item.id)
            if not is_valid_response(outcome, np.array([item.label]))[0]:
                raise RequestError(
                    f"{path}.label", f"not a response of a {outcome.name.lower()} outcome: {item.label}"
                )
            try:
                require_valid(event)
                records.append(encode_event(event))
            except DataError as error:
                raise RequestError(
                    f"{path}.{str(error).partition(':')[0]}", str(error).partition(": ")[2]
                ) from error
        return records

    def keep(self, candidates: Mapping[str, KeptFeatures]) -> None:
        """Keep the features of candidates, on disk when this returns; raises a `RequestError`."""
        limits = self.settings.limits
        if len(candidates) > limits.items:
            raise RequestError(
                "$.candidates", f"expected at most {limits.items} candidates, got {len(candidates)}"
            )
        for name, one in candidates.items():
            if not 1 <= len(name.encode()) <= limits.name_bytes:
                raise RequestError(
                    "$.candidates", f"expected ids of 1 to {limits.name_bytes} bytes, got {name[:20]!r}"
                )
            require_features(f"$.candidates.{name}.features", one.features, limits)
        with self._lock:
            self._kept.put(candidates)

    def kept(self, name: str) -> KeptFeatures | None:
        """What is kept of a candidate."""
        return self._kept.get(name)

    def forget(self, name: str) -> bool:
        """Keep a candidate no longer; whether it was kept."""
        with self._lock:
            return self._kept.delete(name)

    def reload(self) -> None:
        """Take over what others have changed: the generation, and the candidates in the folder."""
        with self._lock:
            self._kept.read_again()
        self.follow()

    def follow(self) -> None:
        """Serve with the live generation from now on; the busiest entities are read before."""
        if self._store.live() == self._serving.number:
            return
        serving = self._built(self._serving)
        with self._lock:
            self._switch(serving)

    def start(self) -> None:
        """Follow the live generation in a thread from now on, so that no request waits for it."""
        self._follower = threading.Thread(target=self._follow_on, name="nearline-follow", daemon=True)
        self._follower.start()

    def close(self) -> None:
        """Answer what waits for the log, and end the threads."""
        self._stopping.set()
        if self._follower is not None:
            self._follower.join()
        self.commit.close()
        self._kept.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _built(self, before: ServingGeneration | None) -> ServingGeneration:
        """The live generation, ready to serve."""
        number = self._store.live()
        if number is None:
            raise ModelError("no generation is live yet: nearline publish, or nearline generations switch")
        settings = self.settings
        serving = ServingGeneration(number, self._store, settings.forgetting, settings.entities)
        puts = self._kept.puts
        serving.rows = self._kept.rows_of(serving.layout)
        serving.puts = puts
        if before is not None:
            for cache in self.caches:
                cache.warm(number)
            serving.beliefs.warm(before.beliefs.busiest(), self._clock.now_ms())
        return serving

    def _switch(self, serving: ServingGeneration) -> None:
        if serving.puts != self._kept.puts:
            serving.rows = self._kept.rows_of(serving.layout)
        self._kept.serve_with(serving.rows)
        self._serving = serving

    def _followed(self) -> ServingGeneration:
        if self._follower is None and self._store.live() != self._serving.number:
            self._switch(self._built(self._serving))
        return self._serving

    def _follow_on(self) -> None:
        while not self._stopping.wait(_FOLLOW_S):
            try:
                self.follow()
            except NearlineError as error:
                LOGGER.error(
                    "%s: the generation that is live cannot be served: %s", self.settings.name, error
                )

    def _computed(
        self, request: RankRequest | ScoreRequest, matrix: CandidateMatrix | None, expired: Expired
    ) -> dict[str, Extra]:
        """What the feature functions say of the candidates, by bag; no lock is held meanwhile."""
        if not self.caches:
            return {}
        candidates = request.candidates if matrix is None else matrix.ids
        names = [one if isinstance(one, str) else one.id for one in candidates]
        generation = self._serving.number
        return {
            cache.function.bag: filled(
                cache.find(names, request.entities, request.features, generation, expired)
            )
            for cache in self.caches
        }

    def _asked(
        self,
        request: RankRequest | ScoreRequest,
        matrix: CandidateMatrix | None,
        serving: ServingGeneration,
        extra: Mapping[str, Extra],
    ) -> Asked:
        how = self.settings
        return asked(
            request, matrix, self._kept, serving.rows, serving.layout, how.item_kind, how.limits, extra
        )

    def _time(self, time_ms: int | None, path: str = "$.time_ms") -> int:
        now_ms = self._clock.now_ms()
        if time_ms is None:
            return now_ms
        if time_ms > now_ms + AHEAD_MS:
            raise RequestError(
                path, f"expected at most {now_ms + AHEAD_MS}, a minute from now, got {time_ms}"
            )
        return time_ms

    def _identity(self, given: str | None) -> str:
        if given is None:
            return f"{self._prefix}-{next(self._requests)}"
        if (size := len(given.encode())) > LONGEST_REQUEST_ID:
            raise RequestError("$.id", f"expected at most {LONGEST_REQUEST_ID} bytes, got {size}")
        return given

    def _expired(self, deadline_ms: float | None) -> Callable[[], bool]:
        deadline_ms = self.settings.deadline_ms if deadline_ms is None else deadline_ms
        if deadline_ms is None:
            return _never
        end = self._seconds() + deadline_ms / 1_000
        return lambda: self._seconds() > end


def _never() -> bool:
    return False


def _choice(policy: str | PolicyChoice) -> PolicyChoice:
    return PolicyChoice(policy) if isinstance(policy, str) else policy
