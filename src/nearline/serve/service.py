"""The models of a process, and what became of the requests to them."""

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from typing import Final, final

from nearline.errors import BusyError, LogError, NearlineError, RequestError
from nearline.observe.metrics import REQUEST_SECONDS
from nearline.serve.group_commit import GroupCommit
from nearline.serve.limits import Limits
from nearline.serve.scorer import Scorer

RESULTS: Final = ("answered", "refused", "busy", "failed")
"""What becomes of a request: answered, refused as it is, too much waits, our fault."""


@final
class Service:
    """Models by name; a request that names none is the first one's.

    Parameters
    ----------
    limits : of bodies.
    reload : takes over changed configuration; None where there is none.
    """

    def __init__(
        self,
        models: Mapping[str, Scorer],
        *,
        limits: Limits | None = None,
        reload: Callable[[], None] | None = None,
    ) -> None:
        self.models = dict(models)
        self.limits = limits or Limits()
        self.is_ready = True
        self._reload = reload
        self._first = next(iter(self.models))
        self.results = dict.fromkeys(RESULTS, 0)
        self.seconds, self.buckets = 0.0, [0] * (len(REQUEST_SECONDS.buckets) + 1)

    def scorer(self, name: str | None, path: str = "$.model") -> Scorer:
        """The model of that name; raises a `RequestError` if there is none."""
        found = self.models.get(self._first if name is None else name)
        if found is None:
            raise RequestError(path, f"no such model: expected one of {', '.join(self.models)}")
        return found

    def reload(self) -> None:
        """Take over what has changed: configuration, generations, candidates in folders."""
        if self._reload is not None:
            self._reload()
        for scorer in self.models.values():
            scorer.reload()

    def count(self, result: str, seconds: float) -> None:
        """Count a request."""
        self.results[result] += 1
        self.seconds += seconds
        self.buckets[bisect_left(REQUEST_SECONDS.buckets, seconds)] += 1


def committed(scorer: Scorer, records: Sequence[bytes]) -> "asyncio.Future[NearlineError | None]":
    """Hand records to the log; what is returned is done when they are on disk, or have failed to get there."""
    return _turns(asyncio.get_running_loop(), scorer.commit).add(records)


@final
class _Turns:
    """Hands over together what requests of one turn of the event loop have to log, and hears of it together.

    So the thread of the log does not begin with the first alone, and compete with the others for the interpreter.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, commit: GroupCommit) -> None:
        self._loop, self._commit = loop, commit
        self._waiting: list[tuple[Sequence[bytes], asyncio.Future[NearlineError | None]]] = []

    def add(self, records: Sequence[bytes]) -> "asyncio.Future[NearlineError | None]":
        future: asyncio.Future[NearlineError | None] = self._loop.create_future()
        if not self._waiting:
            self._loop.call_soon(self._hand_over)
        self._waiting.append((records, future))
        return future

    def _hand_over(self) -> None:
        some, self._waiting = self._waiting, []
        try:
            self._submit(some)
        except BusyError:  # there may be room for some of them
            for one in some:
                try:
                    self._submit([one])
                except BusyError as error:
                    _resolve([one[1]], error)

    def _submit(self, some: Sequence[tuple[Sequence[bytes], "asyncio.Future[NearlineError | None]"]]) -> None:
        futures = [future for _, future in some]
        self._commit.submit([one for records, _ in some for one in records], partial(self._done, futures))

    def _done(
        self, futures: Sequence["asyncio.Future[NearlineError | None]"], error: LogError | None
    ) -> None:
        with suppress(RuntimeError):  # the loop was closed: nobody waits
            self._loop.call_soon_threadsafe(_resolve, futures, error)


_turns = lru_cache(8)(_Turns)


def _resolve(futures: Sequence["asyncio.Future[NearlineError | None]"], error: NearlineError | None) -> None:
    for future in futures:
        if not future.done():
            future.set_result(error)
