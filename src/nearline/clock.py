"""What time it is, an argument wherever it matters, so that tests move it by hand; and how long things are."""

import re
import time
from datetime import UTC, datetime
from typing import Final, Protocol, final

from nearline.errors import ConfigError

UNITS_MS: Final = {
    "ms": 1,
    "s": 1_000,
    "m": 60_000,
    "min": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 604_800_000,
}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)")


class Clock(Protocol):
    """Tells the time in milliseconds since 1970 (UTC)."""

    def now_ms(self) -> int:
        """Milliseconds since 1970 (UTC)."""


@final
class SystemClock:
    """The machine's own clock."""

    def now_ms(self) -> int:
        """Milliseconds since 1970 (UTC)."""
        return time.time_ns() // 1_000_000


def duration_ms(text: str) -> int:
    """A duration such as "90s", "36h", "1.5d" or "0s" in whole ms; units ms, s, m or min, h, d, w.

    Raises `ConfigError` if it is none.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None or found[2] not in UNITS_MS:
        raise ConfigError(f"expected a duration such as '10m' or '30d', got {text!r}")
    return round(float(found[1]) * UNITS_MS[found[2]])


def utc(time_ms: int) -> str:
    """A time in milliseconds since 1970, in words."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
