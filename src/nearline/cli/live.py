"""How a worker stands, for people, programs and Prometheus: a live line, lines of JSON, samples."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias, final

import msgspec
from rich.console import Console
from rich.live import Live
from rich.text import Text

from nearline.cli.console import Output
from nearline.clock import Clock
from nearline.observe.metrics import Sample
from nearline.stream.measured import freshness_seconds, measured
from nearline.stream.worker import Standing

_REFRESH_SECONDS = 0.25
_JSON_SECONDS = 1.0
_PLAIN_SECONDS = 10.0


@final
class Latest:
    """How the worker stood after its last turn, for another thread to read, and how fast it goes."""

    def __init__(self, standing: Standing, clock: Clock) -> None:
        self._standing, self._clock = standing, clock
        self._since, self._handled, self._rate = time.monotonic(), _handled(standing), 0.0

    def take(self, standing: Standing) -> dict[str, Any]:
        """The same as a document."""
        self._standing = standing
        now = time.monotonic()
        if (seconds := now - self._since) >= 1.0 or not self._rate:
            handled = _handled(standing)
            self._rate = (handled - self._handled) / max(seconds, 1e-9)
            self._since, self._handled = now, handled
        return _document(standing, self._rate, self._clock.now_ms())

    def measure(self) -> list[Sample]:
        """The same as samples of the metrics."""
        return measured(self._standing, self._clock.now_ms())


def _handled(standing: Standing) -> int:
    """Events joined, or rows learned where this worker does not join."""
    return standing.learned.rows if standing.joined is None else standing.joined.received


def _document(standing: Standing, rate: float, now_ms: int) -> dict[str, Any]:
    joined = standing.joined
    return {
        "generation": standing.generation,
        "joined_to": standing.joined_to,
        "lag_events": standing.events_left,
        "lag_rows": standing.rows_left,
        "per_second": round(rate, 1),
        "freshness_seconds": freshness_seconds(standing, now_ms),
        "turns": standing.turns,
        "turn_seconds": round(standing.turn_seconds, 3),
        "events": None if joined is None else msgspec.to_builtins(joined),
        "rows": msgspec.to_builtins(standing.learned),
    }


Show: TypeAlias = Callable[[dict[str, Any]], None]


@contextmanager
def shown(output: Output, *, once: bool) -> Iterator[Show]:
    """Show documents as they come: a live line in a terminal, a line now and then elsewhere, or JSON.

    What ends soon, `once`, needs no lines on the way.
    """
    console = Console(stderr=True, soft_wrap=True)
    if console.is_terminal and not output.as_json:
        with Live(console=console, transient=True, auto_refresh=False) as live:
            yield _every(
                _REFRESH_SECONDS, lambda it: live.update(Text(_line(it), no_wrap=True), refresh=True)
            )
    elif once:
        yield lambda _: None
    elif output.as_json:
        yield _every(_JSON_SECONDS, _write_json)
    else:
        yield _every(_PLAIN_SECONDS, lambda it: output.remark(_line(it)))


def _every(seconds: float, show: Show) -> Show:
    """Show the first at once, and then one in so many seconds."""
    last = float("-inf")

    def when_due(document: dict[str, Any]) -> None:
        nonlocal last
        if (now := time.monotonic()) - last >= seconds:
            last = now
            show(document)

    return when_due


def show_end(output: Output, document: dict[str, Any], why: str) -> None:
    """Show how it stood when it stopped."""
    output.line(_line(document))
    if output.as_json:
        _write_json(document | {"stopped": why})


def _write_json(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document, allow_nan=False) + "\n")
    sys.stdout.flush()


def _line(document: dict[str, Any]) -> str:
    """A document in one line."""
    events, rows, fresh = document["events"], document["rows"], document["freshness_seconds"]
    parts = [f"generation {document['generation']}"]
    if events is not None:
        parts += [f"lag {document['lag_events']:,} events", f"{document['per_second']:,.0f} events/s"]
    else:
        parts += [f"{document['per_second']:,.0f} rows/s"]
    parts += [f"{document['lag_rows']:,} rows to learn"]
    parts += [] if fresh is None else [f"fresh to {_seconds(fresh)}"]
    if events is not None:
        parts += [f"{name} {events[name]:,}" for name in ("learned", "duplicate", "late", "dead", "waiting")]
    parts += [f"rows learned {rows['learned']:,}"]
    return " · ".join(parts)


def _seconds(seconds: float) -> str:
    for name, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {name}"
    return f"{seconds:.1f} s"
