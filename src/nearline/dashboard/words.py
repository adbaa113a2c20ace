"""Numbers and times in words."""

from nearline.clock import utc
from nearline.evaluate.words import number


def age(seconds: float | None) -> str:
    """A length of time in the unit that suits it; negative where a clock is ahead."""
    if seconds is None:
        return "\u2013"
    for name, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if abs(seconds) >= 2 * length:
            return f"{number(seconds / length, 1)}\u00a0{name}"
    return f"{number(seconds, 1)}\u00a0s"


def clock_time(time_ms: int | None) -> str:
    """A time in words, UTC."""
    return "\u2013" if time_ms is None else utc(time_ms)


def rate(per_second: float) -> str:
    """Events per second."""
    return f"{per_second:,.0f}" if per_second >= 100 else number(per_second, 1 if per_second >= 10 else 2)
