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
    return f"{number(seconds if abs(seconds) >= 0.05 else 0.0, 1)}\u00a0s"


def clock_time(time_ms: int | None) -> str:
    """A time in words, UTC."""
    return "\u2013" if time_ms is None else utc(time_ms)


def rate(per_second: float) -> str:
    """Events per second."""
    if per_second == 0.0 or per_second >= 100:
        return f"{per_second:,.0f}"
    return number(per_second, 1 if per_second >= 10 else 2)


def span(seconds: int) -> str:
    """A whole number of seconds in the largest unit that it is a whole number of."""
    for name, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds % length == 0:
            return f"{seconds // length}\u00a0{name}"
    return f"{seconds}\u00a0s"
