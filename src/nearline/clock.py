"""What time it is: an argument wherever it matters, so that tests and replays move it by hand."""

import time
from typing import Protocol, final


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
