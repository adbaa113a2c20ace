"""The models of a process, and what became of the requests to them."""

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Final, final

from nearline.errors import LogError, RequestError
from nearline.observe.metrics import REQUEST_SECONDS
from nearline.serve.group_commit import Run
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


def committed(scorer: Scorer, records: Sequence[bytes]) -> "asyncio.Future[LogError | None]":
    """Hand records to the log; what is returned is done when they are on disk, or have failed to get there."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[LogError | None] = loop.create_future()

    def done(error: LogError | None) -> None:
        if not future.done():
            future.set_result(error)

    scorer.submit(records, done, _in_loop(loop))
    return future


@lru_cache(8)
def _in_loop(loop: asyncio.AbstractEventLoop) -> Run:
    """What runs functions in a loop, always the same for the same loop."""

    def run(work: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop was closed: nobody waits
            loop.call_soon_threadsafe(work)

    return run
